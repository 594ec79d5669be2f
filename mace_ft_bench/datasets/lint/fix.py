"""The safe repairs: no label changes its value, and every change is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mace_ft_bench.datasets.frames import ENERGY, FORCES, STRESS
from mace_ft_bench.datasets.lint.keys import as_in_file
from mace_ft_bench.datasets.lint.labels import fits, not_finite, placeholders
from mace_ft_bench.datasets.lint.repeats import exact_repeats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from mace_ft_bench.datasets.lint.run import Linted


def repair(linted: Linted) -> tuple[list[Atoms], dict[str, list[int]]]:
    """Return the repaired frames, and what was done, in words, to which frames.

    Frames with NaN and exact repetitions are dropped; energies and forces under one other recognised name are renamed;
    placeholder forces are removed. A stress under another name stays as it is, since its convention is not known.
    """
    dropped: dict[int, str] = {}
    for finding in not_finite(linted.adopted):
        dropped |= dict.fromkeys(finding.frames, "dropped: it holds NaN or infinity")
    finite = {index: frame for index, frame in linted.usable.items() if index not in dropped}
    dropped |= dict.fromkeys(sorted(exact_repeats(finite)), "dropped: it repeats an earlier frame exactly")
    zeros = set(placeholders(linted.usable))
    kept: list[Atoms] = []
    told: dict[str, list[int]] = {}
    for index, frame in enumerate(linted.frames):
        if index in dropped:
            told.setdefault(dropped[index], []).append(index)
            continue
        repaired, words = _renamed(frame, linted, index)
        if index in zeros and FORCES in repaired.arrays:
            del repaired.arrays[FORCES]
            words.append(f"{FORCES} removed: all zero")
        kept.append(repaired)
        for word in words:
            told.setdefault(word, []).append(index)
    return kept, told


def _renamed(frame: Atoms, linted: Linted, index: int) -> tuple[Atoms, list[str]]:
    """Return a copy without calculator, whose energy and forces have our names where only one name is possible."""
    copy = as_in_file(frame)
    words = []
    for label in (ENERGY, FORCES):
        found = linted.keys[index].labels[label]
        if len(found) != 1 or found[0] == label or found[0] not in linted.unique[label]:
            continue
        if not fits(linted.adopted[index], label):  # a finding of its own
            continue
        store = copy.info if found[0] in copy.info else copy.arrays
        value = store.pop(found[0])
        if label == FORCES:
            copy.arrays[FORCES] = value
        else:
            copy.info[ENERGY] = float(np.asarray(value).item())
        words.append(f"{found[0]} renamed to {label}")
    return copy, words


def unrepaired_stress(linted: Linted) -> Sequence[str]:
    """Return the names of stresses that a repair leaves as they are."""
    return sorted(
        {keys.labels[STRESS][0] for keys in linted.keys.values() if keys.labels[STRESS][:1] not in ((), (STRESS,))}
    )
