"""Models in the forms that other programs read: mace's own pickle, and TorchScript.

TorchScript needs neither mace nor Python to run. It is written as ``mace_run_train`` writes its ``_compiled.model``
files: e3nn compiles its tensor products, ``torch.jit`` the rest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mace_ft_bench.atomic import replacing
from mace_ft_bench.errors import CheckpointError, suggestion
from mace_ft_bench.torch_env import default_dtype, mace_environment
from mace_ft_bench.zoo.checkpoint import copy_model, describe_model, load_checkpoint, load_mace_model
from mace_ft_bench.zoo.registry import find_model
from mace_ft_bench.zoo.weights import weights_path

with mace_environment():
    from e3nn.util import jit

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG = "config"
"""Name of the extra file in a TorchScript archive that describes the model as JSON."""
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def export_model(name_or_path: str, target: Path, *, kind: str, dtype: str | None = None, trust: bool = False) -> Path:
    """Write a model for another program.

    Parameters
    ----------
    name_or_path
        Name of a MACE model, or path of a ``.safetensors`` or ``.model`` file.
    target
        File to write; written under another name first.
    kind
        ``mace``: what ``mace.calculators.MACECalculator`` and mace's tools read; a pickle. ``torchscript``: what
        ``torch.jit.load`` reads.
    dtype
        ``float32`` or ``float64``; by default that of the weights.
    trust
        Allow unpickling a ``.model`` file.

    Raises
    ------
    CheckpointError
        If the target exists or has no folder, the model is no MACE model, or the kind or dtype does not exist.
    UnknownNameError
        If there is no such model.
    """
    if kind not in FORMATS:
        raise CheckpointError(f'There is no format "{kind}".', fix=suggestion(kind, FORMATS))
    if dtype is not None and dtype not in _DTYPES:
        raise CheckpointError(f'There is no dtype "{dtype}".', fix=suggestion(dtype, _DTYPES))
    if target.exists():
        raise CheckpointError(f"{target} exists.", fix="name another file, or remove it.")
    if not target.parent.is_dir():
        raise CheckpointError(f"The folder {target.parent} does not exist.", fix="make it, or correct the path.")
    model = _load(name_or_path, trust=trust)
    return _write(model.to(_DTYPES[dtype]) if dtype else model, target, FORMATS[kind])


def save_mace(model: Any, path: Path) -> None:  # noqa: ANN401 - a ScaleShiftMACE
    """Write a model as mace's own pickle."""
    with mace_environment():
        torch.save(model, path)


def save_torchscript(model: Any, path: Path) -> None:  # noqa: ANN401 - a ScaleShiftMACE
    """Write a model as TorchScript; its configuration lies beside the code, as JSON.

    Its ``forward`` takes mace's dictionary of tensors (``positions``, ``edge_index``, ``shifts``, ...) and returns one.
    """
    described = json.dumps(describe_model(model), sort_keys=True)
    with mace_environment(), default_dtype(next(model.parameters()).dtype):
        compiled = jit.compile(copy_model(model).requires_grad_(requires_grad=False))
        torch.jit.save(compiled, str(path), _extra_files={CONFIG: described})


FORMATS: dict[str, Callable[[Any, Path], None]] = {"mace": save_mace, "torchscript": save_torchscript}


def _load(name_or_path: str, *, trust: bool) -> torch.nn.Module:
    path = Path(name_or_path)
    if not path.is_file():
        card = find_model(name_or_path)
        if not card.is_mace:
            raise CheckpointError(f"{name_or_path} is no MACE model.", fix="name one that `mfb models` lists as mace.")
        path = weights_path(card, trust=trust, accept_licence=False)
    return load_checkpoint(path) if path.suffix == ".safetensors" else load_mace_model(path, trust=trust)


def _write(model: torch.nn.Module, target: Path, save: Callable[[Any, Path], None]) -> Path:
    with replacing(target) as temporary:
        save(model, temporary)
    return target
