"""Checks for frames that repeat one another, within a set and across two sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mace_ft_bench.datasets.frames import ENERGY, FORCES, STRESS
from mace_ft_bench.datasets.lint.displacement import rms_displacements, same_atoms
from mace_ft_bench.datasets.lint.finding import Finding, Frames, Severity
from mace_ft_bench.datasets.lint.geometry import far_fingerprint
from mace_ft_bench.datasets.lint.sources import group_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ase import Atoms

    from mace_ft_bench.datasets.lint.geometry import Surroundings

_SAME_SHAPE = 2e-6
"""Relative difference of fingerprints up to which two structures are one."""
_ENERGY_EV = 1e-4
"""Difference of energies [eV], and of volumes per atom [Angstrom^3], that rounding makes."""
_CONFLICT_EV = 0.005
"""Difference of energies per atom of one structure that no convergence explains [eV/atom]."""
_CONFLICT_FORCE = 0.1
"""The same of sorted force norms [eV/Angstrom]."""
_TRAJECTORY = 0.5
"""Distance to the nearest frame, as a share of that to others, from which frames neighbour in time."""
_STEP_A = 0.5
"""Distance beyond which atoms have moved on or are in another order [Angstrom]."""
_FEWEST = 8
"""Frames of a group from which something is usual."""
_MOST = 150
"""Frames of the own set from which the usual distance is taken."""


def duplicates(frames: Frames, around: Mapping[int, Surroundings]) -> list[Finding]:
    """Find frames that repeat an earlier one: exactly, after a permutation or rounding, or with other labels."""
    exact = exact_repeats(frames)
    kinds: dict[str, set[int]] = {"near": set(), "turned": set(), "conflict": set()}
    for first, second in _alike({index: frame for index, frame in frames.items() if index not in exact}, around):
        if _conflict(frames[first], frames[second]):
            kinds["conflict"] |= {first, second}
        elif np.allclose(frames[first].cell.array, frames[second].cell.array, atol=1e-3):
            kinds["near"].add(second)
        else:
            kinds["turned"].add(second)
    found = []
    if exact:
        found.append(
            Finding(
                "duplicates",
                "warning",
                "Frames repeat an earlier one exactly.",
                "drop them (--fix does): they count more than once, and land in training and validation both.",
                tuple(sorted(exact)),
            )
        )
    texts: dict[str, tuple[str, Severity, str, str]] = {
        "near": (
            "near-duplicates",
            "warning",
            "Frames repeat an earlier one but for the order of atoms, a translation, or rounding.",
            "drop them; training by a recipe leaves out those whose labels agree.",
        ),
        "turned": (
            "equivalent-frames",
            "info",
            "Frames are an earlier one in another orientation or cell; to an equivariant model they are the same.",
            "keep them on one side of a split; training by a recipe leaves out those whose labels agree.",
        ),
        "conflict": (
            "conflicting-labels",
            "error",
            "The same structure has different energies or forces.",
            "keep the frames of one level of theory, or the converged one.",
        ),
    }
    found += [Finding(*texts[kind], tuple(sorted(members))) for kind, members in kinds.items() if members]
    return found


def exact_repeats(frames: Frames) -> set[int]:
    """Return the frames that repeat an earlier one to the last digit, labels included."""
    seen: set[tuple[object, ...]] = set()
    found: set[int] = set()
    for index, frame in frames.items():
        key = _bytes_of(frame)
        if key in seen:
            found.add(index)
        seen.add(key)
    return found


def leaks(
    frames: Frames, others: Frames, around: Mapping[int, Surroundings], around_others: Mapping[int, Surroundings]
) -> list[Finding]:
    """Find frames that another set repeats, and those that neighbour one of its frames in time.

    Neighbours in time are told by their distance: the nearest frame of the other set lies within half of the distance
    that a fifth of the frames of the config_type have.

    Parameters
    ----------
    frames
        Frames that are named.
    others
        The other set.
    around
        What the neighbours of the frames' atoms say.
    around_others
        The same of the other set.
    """
    offset = max(frames, default=0) + 1
    joined = {**frames, **{index + offset: frame for index, frame in others.items()}}
    shapes = {**around, **{index + offset: found for index, found in around_others.items()}}
    # of other labels, too: what was learnt of the one is known of the other
    repeated = {first for first, second in _alike(joined, shapes) if first in frames and second >= offset}
    found = []
    if repeated:
        found.append(
            Finding(
                "leak",
                "error",
                "The other set holds these frames, too.",
                "drop them from one of the sets.",
                tuple(sorted(repeated)),
            )
        )
    near = [index for index in _neighbours_in_time(frames, joined, offset) if index not in repeated]
    if near:
        found.append(
            Finding(
                "trajectory-leak",
                "warning",
                "The other set holds frames much nearer than others of the group are: neighbours in time, or small "
                "displacements of one structure. Errors on them are too good.",
                "split by trajectory or in blocks (mfb data split --by config_type, --by block:50).",
                tuple(near),
            )
        )
    return found


def _neighbours_in_time(frames: Frames, joined: Frames, offset: int) -> list[int]:
    near = []
    for group in same_atoms(joined, by_group=False):
        own = [index for index in group if index < offset]
        other = [index for index in group if index >= offset]
        if not own or not other or len(group) < _FEWEST:
            continue
        across = rms_displacements([frames[index] for index in own], [joined[index] for index in other])
        for row, index in zip(across, own, strict=True):
            usual = _usual(frames, joined, index, (own, other), row) if row.min() < _STEP_A else None
            if usual is not None and row.min() < _TRAJECTORY * usual:
                near.append(index)
    return sorted(near)


def _usual(
    frames: Frames, joined: Frames, index: int, group: tuple[list[int], list[int]], across: np.ndarray
) -> float | None:
    """Return the distance within which a fifth of the frames of the same config_type lie, None where they are few.

    Cold frames among hot ones have many near frames; a neighbour in time is nearer than nearly all.
    """
    own, other = ([place for place in part if group_of(joined[place]) == group_of(frames[index])] for part in group)
    own = [place for place in own if place != index][:_MOST]
    chosen = np.isin(group[1], other)
    if len(own) + int(chosen.sum()) < _FEWEST:
        return None
    inside = rms_displacements([frames[index]], [frames[place] for place in own])[0] if own else np.zeros(0)
    return float(np.percentile(np.concatenate([inside, across[chosen]]), 20))


def _alike(frames: Frames, around: Mapping[int, Surroundings]) -> Iterator[tuple[int, int]]:
    """Yield (earlier, later) pairs that are one structure, or one calculation by their labels."""
    buckets: dict[bytes, list[int]] = {}
    for index, frame in frames.items():
        buckets.setdefault(np.sort(frame.numbers).tobytes(), []).append(index)
    for bucket in buckets.values():
        by_shape = {index: around[index].fingerprint[1] for index in bucket if index in around}
        by_energy = {index: float(frames[index].info[ENERGY]) for index in bucket if ENERGY in frames[index].info}
        width = _SAME_SHAPE * max(map(abs, by_shape.values()), default=0.0)
        far: dict[int, tuple[float, ...]] = {}
        shaped = {
            (first, second)
            for first, second in _within(by_shape, width)
            if _close(around[first].fingerprint, around[second].fingerprint)
            and _close(*(_remembered(far, index, frames[index]) for index in (first, second)))
        }
        equal = {pair for pair in _within(by_energy, _ENERGY_EV) if _same_labels(*(frames[index] for index in pair))}
        yield from sorted(shaped | equal)


def _within(values: Mapping[int, float], width: float) -> Iterator[tuple[int, int]]:
    """Yield the pairs whose values differ by no more than a width."""
    order = sorted(values, key=lambda index: values[index])
    start = 0
    for place, index in enumerate(order):
        while values[index] - values[order[start]] > width:
            start += 1
        yield from ((min(index, other), max(index, other)) for other in order[start:place])


def _remembered(found: dict[int, tuple[float, ...]], index: int, frame: Atoms) -> tuple[float, ...]:
    """Return the fingerprint of the farther neighbours, which only frames alike in the nearer ones need."""
    if index not in found:
        found[index] = far_fingerprint(frame)
    return found[index]


def _close(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return bool(np.allclose(one, other, rtol=_SAME_SHAPE, atol=1e-9))


def _same_labels(first: Atoms, second: Atoms) -> bool:
    """Whether energy, volume and norms of the forces are those of one calculation; perfect crystals have no norms."""
    one, other = _norms(first), _norms(second)
    return (
        one is not None
        and other is not None
        and bool(one.any())
        and abs(first.cell.volume - second.cell.volume) < _ENERGY_EV * len(first)
        and bool(np.allclose(one, other, atol=1e-3))
    )


def _conflict(first: Atoms, second: Atoms) -> bool:
    energies = [frame.info[ENERGY] / len(frame) for frame in (first, second) if ENERGY in frame.info]
    norms = [found for frame in (first, second) if (found := _norms(frame)) is not None]
    return (len(energies) > 1 and abs(energies[0] - energies[1]) > _CONFLICT_EV) or (
        len(norms) > 1 and float(np.abs(norms[0] - norms[1]).max()) > _CONFLICT_FORCE
    )


def _norms(frame: Atoms) -> np.ndarray | None:
    return np.sort(np.linalg.norm(frame.arrays[FORCES], axis=1)) if FORCES in frame.arrays else None


def _bytes_of(frame: Atoms) -> tuple[object, ...]:
    labels = [frame.info.get(ENERGY, np.nan), frame.info.get(STRESS, ()), frame.arrays.get(FORCES, ())]
    arrays = [frame.numbers, frame.positions, frame.cell.array, frame.pbc, *labels]
    return tuple(np.ascontiguousarray(array).tobytes() for array in arrays)
