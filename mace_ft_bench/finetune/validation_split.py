"""Frames to validate on, and the errors of two models on them side by side."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.datasets.card import find_dataset
from mace_ft_bench.datasets.frames import STRESS, without_duplicates
from mace_ft_bench.errors import DataError
from mace_ft_bench.finetune.e0s import fit_e0s, is_isolated_atom
from mace_ft_bench.finetune.label_errors import (
    QUANTITIES,
    Array,
    change_interval,
    compare_labels,
    error_table,
    joined,
    metric,
)
from mace_ft_bench.finetune.prepare import load_sources
from mace_ft_bench.finetune.unseen_elements import elements_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms

    from mace_ft_bench.finetune.compared_models import ComparedModel
    from mace_ft_bench.finetune.label_errors import Comparison
    from mace_ft_bench.properties.base import Evaluation


@dataclass(frozen=True)
class Split:
    """Frames that both models can be asked about, and what was left out for which reason."""

    name: str
    role: str
    """``train``, ``valid``, ``test`` or ``forgetting``."""
    frames: list[Atoms]
    left_out: dict[str, int]
    """Number of frames by reason."""
    sha256: dict[str, str]
    """Of the files the frames come from."""


def new_split(name: str, role: str, seen: Sequence[Atoms], mirror: Path | None) -> Split:
    """Return the frames of a source that are none of ``seen``.

    Raises
    ------
    CardError, DataError, MissingDataError
        If there is no such source.
    """
    found = load_sources([name], mirror=mirror)
    new = without_duplicates(found, of=seen)
    repeated = len(found) - len(new)
    reason = "repeats of frames of the run or of one another"
    return Split(name, role, new, {reason: repeated} if repeated else {}, _checksums(name))


def _checksums(name: str) -> dict[str, str]:
    if Path(name).is_file():
        return {Path(name).name: sha256_of(Path(name))}
    dataset, _, split = name.partition(":")
    files = [file for file in find_dataset(dataset).files if file.split == split]
    return {file.url or file.shipped: file.sha256 for file in files}


def known_part(split: Split, tuned: ComparedModel, parent: ComparedModel | None) -> Split:
    """Return the split without isolated atoms, and without frames of which a model does not know the elements."""
    kept, left_out = [], dict(split.left_out)
    for frame in split.frames:
        reason = _reason(frame, tuned, parent)
        if reason:
            left_out[reason] = left_out.get(reason, 0) + 1
        else:
            kept.append(frame)
    if not kept and split.role != "forgetting":
        why = "; ".join(f"{count} ({reason})" for reason, count in left_out.items())
        raise DataError(f"{split.name} has no frame to validate on: {why}.", fix="name other frames.")
    return replace(split, frames=kept, left_out=left_out)


def _reason(frame: Atoms, tuned: ComparedModel, parent: ComparedModel | None) -> str:
    if is_isolated_atom(frame):
        return "isolated atoms, which are energies of reference"
    symbols = elements_of([frame])
    for model, what in ((tuned, "the fine-tuned model"), (parent, "the parent")):
        if model is not None and not symbols <= model.elements:
            return f"elements that {what} does not know"
    return ""


def predict(model: ComparedModel, split: Split) -> list[Evaluation]:
    """Return what a model says about the frames; stresses only where one has a label."""
    return model.evaluate(split.frames, stress=any(STRESS in frame.info for frame in split.frames))


def fitted_shift(frames: Sequence[Atoms], found: Sequence[Evaluation]) -> dict[str, float]:
    """Return the shift per element [eV] that brings energies closest to the labels; of several the smallest."""
    elements = sorted(elements_of(frames))
    nothing = dict.fromkeys(elements, 0.0)
    return fit_e0s(frames, elements, prior=nothing, interaction=[item.energy for item in found])


def split_entry(
    split: Split,
    mine: Sequence[Evaluation],
    theirs: Sequence[Evaluation] | None,
    *,
    shift: Mapping[str, float] | None = None,
    parents_shift: Mapping[str, float] | None = None,
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the errors on a split as plain data, and its labels and predictions.

    Parameters
    ----------
    split
        Frames.
    mine, theirs
        What the fine-tuned model and, if there is one, the parent say about them.
    shift, parents_shift
        Energy per element [eV] that is added to the predictions of either.
    """
    tuned = compare_labels(split.frames, mine, shift=shift)
    parent = None if theirs is None else compare_labels(split.frames, theirs, shift=parents_shift)
    entry = {
        "name": split.name,
        "role": split.role,
        "frames": len(split.frames),
        "left_out": split.left_out,
        "sha256": split.sha256,
        "errors": error_table(tuned, parent),
        "change_interval_percent": parent and _intervals(tuned, parent),
        "parent_energy_unshifted": theirs and _unshifted(split.frames, theirs),
    }
    return entry, _sample(tuned, parent)


def _intervals(mine: Comparison, theirs: Comparison) -> dict[str, list[float] | None]:
    return {name: change_interval(mine.pairs[name], theirs.pairs[name]) for name in QUANTITIES}


def _unshifted(frames: Sequence[Atoms], found: Sequence[Evaluation]) -> dict[str, Any] | None:
    """Return the energy errors of a model with its zero as it is."""
    errors = metric(compare_labels(frames, found).pairs["energy"])
    return None if errors is None else asdict(errors)


def _sample(mine: Comparison, theirs: Comparison | None) -> dict[str, Array]:
    found = {}
    for name in QUANTITIES:
        own = joined(mine.pairs[name])
        other = None if theirs is None else joined(theirs.pairs[name])
        if own is not None:  # a parent may have no stress where the cell has no volume
            found[name] = np.vstack([own, other[1]]) if other is not None and other.shape == own.shape else own
    return found
