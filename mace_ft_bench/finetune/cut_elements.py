"""A model for fewer elements: the same energies, less memory, and a refusal of everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_ft_bench.errors import CheckpointError, UnsupportedElementError
from mace_ft_bench.finetune.initial import HEAD, derived_model
from mace_ft_bench.finetune.parent import load_parent
from mace_ft_bench.zoo.checkpoint import save_checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def cut_elements(
    name_or_path: str, symbols: Sequence[str], target: Path, *, head: str = "", trust: bool = False
) -> Path:
    """Write a model that knows some of the elements of another, and gives the same results for them.

    Parameters
    ----------
    name_or_path
        Name of a MACE model, or path of a ``.safetensors`` or ``.model`` file.
    symbols
        Chemical symbols to keep.
    target
        The ``.safetensors`` file to write.
    head
        Head to keep; may be empty where there is one.
    trust
        Allow unpickling a ``.model`` file.

    Raises
    ------
    CheckpointError
        If the target exists, has no folder or is no ``.safetensors`` file.
    UnsupportedElementError
        If the model does not know an element, or none is named.
    """
    if target.suffix != ".safetensors":
        raise CheckpointError(f"{target} would hold weights.", fix="name it *.safetensors.")
    if target.exists():
        raise CheckpointError(f"{target} exists.", fix="name another file, or remove it.")
    if not target.parent.is_dir():
        raise CheckpointError(f"The folder {target.parent} does not exist.", fix="make it, or correct the path.")
    parent = load_parent(name_or_path, head, trust=trust)
    unknown = sorted(set(symbols) - set(parent.e0s))
    if unknown or not symbols:
        raise UnsupportedElementError(
            f"{name_or_path} does not know {', '.join(unknown) or 'an element without a name'}.",
            fix=f"choose among {', '.join(parent.e0s)}.",
        )
    save_checkpoint(derived_model(parent.model, {HEAD: {symbol: parent.e0s[symbol] for symbol in symbols}}), target)
    return target
