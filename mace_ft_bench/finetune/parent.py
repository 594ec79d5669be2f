"""The model that fine-tuning starts from."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_ft_bench.calculators.factory import is_path
from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.errors import TrainingError, UnknownNameError
from mace_ft_bench.finetune.initial import e0s_of, single_head
from mace_ft_bench.zoo.checkpoint import load_checkpoint, load_mace_model, save_checkpoint
from mace_ft_bench.zoo.registry import find_model
from mace_ft_bench.zoo.weights import weights_path

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Parent:
    """A model of one head."""

    name: str
    """As the recipe names it."""
    sha256: str
    """Of its weights."""
    model: Any
    """A ``ScaleShiftMACE``."""
    e0s: dict[str, float]
    """Energy per element [eV]."""


def load_parent(name_or_path: str, head: str, *, dtype: torch.dtype | None = None, trust: bool = False) -> Parent:
    """Return the parent in the dtype of the training.

    Parameters
    ----------
    name_or_path
        Name of a MACE model, or path of a ``.safetensors`` or ``.model`` file.
    head
        Its head; may be empty where it has one.
    dtype
        Type of its weights from now on; by default as they are.
    trust
        Allow unpickling a ``.model`` file.

    Raises
    ------
    TrainingError
        If it is no MACE model.
    UnknownNameError
        If the file, the model or the head does not exist.
    UntrustedFileError
        If a ``.model`` file is given without trust.
    CheckpointError
        If a ``.model`` file holds an architecture that could not be exported after training.
    """
    path = _weights_file(name_or_path, trust=trust)
    loaded = load_checkpoint(path) if path.suffix == ".safetensors" else _rebuilt(load_mace_model(path, trust=trust))
    model = single_head(loaded.to(dtype) if dtype else loaded, head, name=name_or_path)
    return Parent(name_or_path, sha256_of(path), model, e0s_of(model))


def weights_sha256(name_or_path: str, *, trust: bool) -> str:
    """Return the checksum of the weights of a MACE model.

    Raises
    ------
    TrainingError
        If it is no MACE model.
    UnknownNameError
        If there is no such file or name.
    """
    return sha256_of(_weights_file(name_or_path, trust=trust))


def _rebuilt(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model as today's mace-torch builds it: pickles of earlier releases lack what later ones store."""
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(model, Path(folder) / "parent.safetensors")
        return load_checkpoint(Path(folder) / "parent.safetensors")


def _weights_file(name_or_path: str, *, trust: bool) -> Path:
    if is_path(name_or_path):
        path = Path(name_or_path)
        if not path.is_file():
            raise UnknownNameError(
                f"{path} does not exist.",
                fix="paths of parents count from the folder in which the command runs; `mfb validate` takes --parent.",
            )
        return path
    card = find_model(name_or_path)
    if not card.is_mace:
        raise TrainingError(
            f"{name_or_path} is no MACE model.", fix="start from one that `mfb models` lists as mace or foundation."
        )
    return weights_path(card, trust=trust, accept_licence=False)
