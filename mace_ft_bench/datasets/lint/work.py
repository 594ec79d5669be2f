"""Checks of forces and stresses against energies: between near frames, work is the difference of energies.

Between two frames of the same atoms, dE = -F.dx + V s:e with the mean forces F and stresses s of the two, up to third
order in the displacements dx and strains e. Any mistake of sign, unit or order of a label breaks it.

Third order has a sign, too: potentials stiffen, so that the mean of the two ends is too much work from a crystal at
rest to one that is strained and shaken. A wrong order of shears makes the stress do less work and so looks better than
the right one, if what is left of the energies is compared with zero. It is compared with what is usual.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from mace_ft_bench.datasets.frames import ENERGY, FORCES, STRESS
from mace_ft_bench.datasets.lint.displacement import displacements, rms_displacements, same_atoms
from mace_ft_bench.datasets.lint.finding import Finding, Frames
from mace_ft_bench.datasets.lint.sources import group_of
from mace_ft_bench.datasets.readers.stress import voigt_from
from mace_ft_bench.datasets.stress_convention import pressure_response
from mace_ft_bench.errors import DataError
from mace_ft_bench.units import EV_PER_A3_IN_GPA, PRESSURE_UNITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ase import Atoms

_FAR_A = 0.25
"""Root mean square displacement beyond which third order counts [Angstrom]."""
_FARTHEST_A = 0.5
"""The same of any one atom."""
_STRAIN = 0.06
"""Strain beyond which third order counts."""
_BOND_A = 3.0
"""Length that turns a strain into a displacement [Angstrom]."""
_NEAREST = 3
"""Frames that a frame is compared with."""
_LARGEST_MATRIX = 400
"""Frames of which all pairs are measured; of more, those near in the file are taken."""
_FEWEST_PAIRS = 10
"""Pairs from which a group is judged."""
_BEYOND = 6.0
"""Usual mismatches from which a frame is named."""
_MISMATCH_EV = 0.05
"""Mismatch of a pair that is never named [eV]."""
_SHARE = 0.2
"""Least work of forces, and least rest without it, as shares of the differences of energies, for saying that forces
explain them not."""
_FEWEST_VOLUMES = 5
"""Volumes, apart by a thousandth at least, from which a bulk modulus is taken."""
_SIGNIFICANCE = 5.0
"""Standard errors by which a bulk modulus has to differ from zero."""
_BETTER = 1.3
"""Factor on the mismatch by which another convention has to win, be it over the labels as they are or a simpler one."""
_EVIDENCE = 12.0
"""Least logarithm of the likelihood ratio for that."""
_EVIDENCE_OF_FEW = 20.0
"""The same from fewer than :data:`_MANY` pairs: the best of 36 conventions fits a few by chance."""
_MANY = 20
_BENT = 0.25
"""Mismatch as a share of second order that is never named; from a minimum third order can make a third."""
_AGREEING = 3
"""Pairs of a frame that have to miss before it is named."""
_STIFFEST_GPA = 2000.0
"""Bulk modulus that no substance has; diamond has 440 GPa."""
_ASE = "xx yy zz yz xz xy"
_ORDERS = tuple(f"xx yy zz {' '.join(shears)}" for shears in itertools.permutations(["yz", "xz", "xy"]))
"""Orders of six components; the first is ASE's."""
_UNITS = {"eV/A^3": 1.0, "GPa": 1 / PRESSURE_UNITS["GPa"], "kbar": 1 / PRESSURE_UNITS["kbar"]}


@dataclass(frozen=True)
class Pairs:
    """Pairs of near frames of one group; m of them."""

    members: np.ndarray
    """Numbers of the frames (m, 2)."""
    energy: np.ndarray
    """Differences of the energies [eV] (m,)."""
    work: np.ndarray
    """Work of the forces, -F.dx [eV] (m,)."""
    stress: np.ndarray
    """Mean stress labels (m, 6), NaN where there are none."""
    strain: np.ndarray
    """Volume times strain in engineering components (m, 6) [Angstrom^3]."""
    reach: np.ndarray
    """Mean square displacement, strains counted over a bond of 3 Angstrom [Angstrom^2] (m,)."""
    bend: np.ndarray
    """Second order: half the difference between the work of one frame's labels and of the other's [eV] (m,)."""

    @property
    def third_order(self) -> np.ndarray:
        """What the order scales with that the work leaves out [Angstrom^3] (m,)."""
        third: np.ndarray = np.maximum(self.reach, 1e-12) ** 1.5
        return third

    def work_of_stress(self, factor: float = 1.0, order: str = _ASE) -> np.ndarray:
        """Return V s:e [eV] (m,) for labels of another sign, unit (the factor) or order."""
        stress = np.array([voigt_from(row, order.split()) for row in self.stress]).reshape(-1, 6)
        work = factor * (stress * self.strain).sum(axis=1)
        return np.where(np.abs(self.strain).max(axis=1, initial=0.0) < 1e-9, 0.0, work)  # noqa: PLR2004 - no strain

    def some(self, chosen: np.ndarray) -> Pairs:
        """Return some of the pairs."""
        return Pairs(
            self.members[chosen],
            self.energy[chosen],
            self.work[chosen],
            self.stress[chosen],
            self.strain[chosen],
            self.reach[chosen],
            self.bend[chosen],
        )


def find_pairs(frames: Frames) -> list[Pairs]:
    """Return the pairs of near frames with energies and forces, by group."""
    used = {index: frame for index, frame in frames.items() if ENERGY in frame.info and FORCES in frame.arrays}
    found = [_pairs_of(used, group) for group in same_atoms(used, by_group=True) if len(group) > 1]
    return [pairs for pairs in found if len(pairs.energy)]


def energy_forces(frames: Frames, pairs: Sequence[Pairs]) -> list[Finding]:
    """Find groups whose forces have a wrong sign or unit or belong to other frames, and single such frames."""
    found = []
    for group in pairs:
        usable = group.some(np.isfinite(group.work_of_stress()))
        rest = usable.energy - (_best_stress(usable) if len(usable.energy) else np.zeros(0))
        # A convention that fits others by chance must not make labels foreign that agree as they are.
        misses = np.abs([usable.energy - usable.work_of_stress() - usable.work, rest - usable.work]).min(axis=0)
        names = group_of(frames[int(group.members[0, 0])])
        where = f" of {names}" if names else ""
        finding = _wrong_forces(usable, rest, where)
        found += [finding] if finding else _foreign_labels(usable, misses, where)
    return found


def stresses(frames: Frames, pairs: Sequence[Pairs]) -> list[Finding]:
    """Find stresses of a wrong sign, unit or order, by the pressure against the volume and by the work of pairs."""
    by_volume = _by_volume(frames)
    return by_volume or [finding for group in pairs if (finding := _wrong_stress(frames, group))]


def _by_volume(frames: Frames) -> list[Finding]:
    used = {
        index: frame
        for index, frame in frames.items()
        if STRESS in frame.info and frame.cell.rank == 3 and frame.pbc.all()  # noqa: PLR2004 - dimensions
    }
    found = []
    # Two crystals of one composition may well have a higher pressure at the larger volume.
    for members in same_atoms(used, by_group=True):
        if len({round(float(np.log(used[index].cell.volume)), 3) for index in members}) < _FEWEST_VOLUMES:
            continue
        group = group_of(frames[members[0]])
        formula = frames[members[0]].symbols.formula.reduce()[0].format("metal")
        try:
            response = pressure_response([frames[index] for index in members])
        except DataError:
            continue
        bulk, error = response.bulk_modulus_gpa, response.standard_error_gpa
        if abs(bulk) < _SIGNIFICANCE * error:
            continue
        where = f"{group or 'frames'} ({formula})"
        if bulk < 0:
            text = f"The pressure of {where} rises with the volume (bulk modulus {bulk:.3g} GPa): the sign is wrong."
            fix = "convert the source again with the other --stress-sign."
        elif bulk > _STIFFEST_GPA:
            text = f"The bulk modulus of {where} would be {bulk:.3g} GPa: the unit is wrong."
            in_gpa = bulk / EV_PER_A3_IN_GPA
            fix = f"convert the source again; labels in GPa would give {in_gpa:.3g}, in kbar {in_gpa / 10:.3g} GPa."
        else:
            continue
        found.append(Finding("stress", "error", text, fix, tuple(members)))
    return found


def _wrong_stress(frames: Frames, pairs: Pairs) -> Finding | None:
    strained = pairs.some(np.isfinite(pairs.stress).all(axis=1) & (np.abs(pairs.strain).max(axis=1, initial=0) > 0))
    if len(strained.energy) < _FEWEST_PAIRS:
        return None
    strained = strained.some(_independent(strained))
    better = _better_convention(strained)
    if better is None:
        return None
    sign, unit, order = better
    wrong = [
        *(["the sign"] if sign < 0 else []),
        *([f"the unit, which would be {unit}"] if unit != "eV/A^3" else []),
        *([f"the order, which would be {order}"] if order != _ASE else []),
    ]
    group = group_of(frames[int(pairs.members[0, 0])])
    return Finding(
        "stress",
        "error",
        f"The stress{f' of {group}' if group else ''} does not do the work that energies say: wrong is "
        f"{' and '.join(wrong)}.",
        "convert the source again with --stress-sign, --stress-unit and --stress-order.",
        tuple(sorted({int(index) for index in strained.members.ravel()})),
    )


def _better_convention(pairs: Pairs) -> tuple[int, str, str] | None:
    """Return sign, unit and order of the stress if they explain the energies beyond doubt better than ASE's do."""
    target = pairs.energy - pairs.work
    if _mismatch(target) < 1e-3:  # noqa: PLR2004 - [eV]
        return None
    # Towards the higher energy, third order has one sign, whichever frame comes first.
    scale = np.where(pairs.energy < 0, -pairs.third_order, pairs.third_order)
    misses = {
        (sign, unit, order): max(1e-12, _scatter((target - pairs.work_of_stress(sign / factor, order)) / scale))
        for sign, (unit, factor), order in itertools.product((1, -1), _UNITS.items(), _ORDERS)
    }
    as_is = (1, "eV/A^3", _ASE)
    good = [key for key, miss in misses.items() if miss <= _BETTER * min(misses.values())]
    simplest = min(good, key=lambda key: (sum(one != own for one, own in zip(key, as_is, strict=True)), misses[key]))
    # The logarithm of the likelihood ratio of two conventions, for errors of one width.
    evidence = len(target) * np.log(misses[as_is] / misses[simplest])
    needed = _EVIDENCE if len(target) >= _MANY else _EVIDENCE_OF_FEW
    return simplest if evidence >= needed and misses[as_is] >= _BETTER * misses[simplest] else None


def _independent(pairs: Pairs) -> np.ndarray:
    """Choose the nearest pairs of which none follows from others, a tree: the frames less one for each parent."""
    frames, numbers = np.unique(pairs.members, return_inverse=True)
    first, second = numbers.reshape(-1, 2).T
    away = coo_array((np.maximum(pairs.reach, 1e-12), (first, second)), shape=(len(frames), len(frames)))
    tree = minimum_spanning_tree(away.tocsr()).tocoo()
    kept = set(zip(tree.row.tolist(), tree.col.tolist(), strict=True))
    return np.array([pair in kept for pair in zip(first.tolist(), second.tolist(), strict=True)], dtype=bool)


def _pairs_of(frames: Frames, group: list[int]) -> Pairs:
    members, rows = [], []
    for first, second in _near(frames, group):
        row = _compare(frames[first], frames[second])
        if row is not None:
            members.append((first, second))
            rows.append(row)
    table = np.array(rows).reshape(-1, 16)
    energy, work, reach, bend = table[:, [0, 1, 14, 15]].T
    return Pairs(np.array(members, dtype=int).reshape(-1, 2), energy, work, table[:, 2:8], table[:, 8:14], reach, bend)


def _compare(one: Atoms, other: Atoms) -> np.ndarray | None:
    """Return energy, work, stress, volume times strain, reach and bend of a pair (16,), None if it is too far apart."""
    moved, strain = displacements(one, other)
    squares = (moved**2).sum(axis=1)
    if squares.mean() > _FAR_A**2 or squares.max() > _FARTHEST_A**2 or np.abs(strain).max() > _STRAIN:
        return None
    force = (one.arrays[FORCES] + other.arrays[FORCES]) / 2
    volume = abs(np.linalg.det((one.cell.array + other.cell.array) / 2))
    engineering = strain[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] * [1, 1, 1, 2, 2, 2] * volume
    stress = sum(frame.info.get(STRESS, np.full(6, np.nan)) for frame in (one, other)) / 2
    energy = other.info[ENERGY] - one.info[ENERGY]
    reach = squares.mean() + (_BOND_A * np.abs(strain).max()) ** 2
    steeper = sum(sign * frame.info.get(STRESS, np.zeros(6)) for sign, frame in ((1, other), (-1, one))) @ engineering
    bend = abs(float(steeper - ((other.arrays[FORCES] - one.arrays[FORCES]) * moved).sum())) / 2
    return np.concatenate([[energy, -float((force * moved).sum())], stress, engineering, [reach, bend]])


def _near(frames: Frames, group: list[int]) -> Iterator[tuple[int, int]]:
    """Yield every pair of a frame and one of its nearest, once."""
    if len(group) > _LARGEST_MATRIX:
        for step in range(1, _NEAREST + 1):
            yield from zip(group, group[step:], strict=False)
        return
    members: list[Atoms] = [frames[index] for index in group]
    cells = np.array([frame.cell.array.ravel() for frame in members])
    apart = rms_displacements(members, members) + np.linalg.norm(cells[:, None] - cells[None], axis=2) / 10
    apart += np.diag(np.full(len(group), np.inf))
    nearest = np.argsort(apart, axis=1)[:, : min(_NEAREST, len(group) - 1)]
    pairs = {(min(row, column), max(row, column)) for row, line in enumerate(nearest.tolist()) for column in line}
    yield from ((group[row], group[column]) for row, column in sorted(pairs))


def _best_stress(pairs: Pairs) -> np.ndarray:
    """Return the work of the stress in the convention that fits, so that forces are judged by themselves."""
    options = [
        pairs.work_of_stress(sign / factor, order)
        for sign, factor, order in itertools.product((1, -1), _UNITS.values(), _ORDERS)
    ]
    return min(options, key=lambda work: _mismatch(pairs.energy - pairs.work - work))


def _wrong_forces(pairs: Pairs, energy: np.ndarray, where: str) -> Finding | None:
    """Judge all forces of a group by the slope of energies in the work, and by what is left of them."""
    if len(energy) < _FEWEST_PAIRS or _mismatch(energy) < 1e-3:  # noqa: PLR2004 - [eV]
        return None
    left = _mismatch(energy - pairs.work)
    good = np.abs(energy) <= np.percentile(np.abs(energy), 90)
    work, energy = pairs.work[good], energy[good]
    slope = float(work @ energy / max(work @ work, 1e-12))
    correlation = slope * float(np.sqrt(work @ work / max(energy @ energy, 1e-12)))
    if abs(correlation) > 0.95 and not 0.6 < slope < 1.6:  # noqa: PLR2004 - third order stays within
        sign = "the sign" if slope < 0 else "the unit"
        text = f"Energies{where} change by {slope:.3g} times the work of the forces: {sign} of one of them is wrong."
        fix = "convert the source again with the right --forces-unit and --energy-unit."
    elif abs(correlation) < 0.5 and min(_mismatch(work), left) > _SHARE * _mismatch(pairs.energy):  # noqa: PLR2004
        text = f"Forces{where} do not belong to the energies: their work explains {correlation:.0%} of the differences."
        fix = "look whether forces were assigned to other frames or atoms."
    else:
        return None
    return Finding("energy-forces", "error", text, fix, tuple(sorted({int(index) for index in pairs.members.ravel()})))


def _foreign_labels(pairs: Pairs, misses: np.ndarray, where: str) -> list[Finding]:
    """Name frames most of whose pairs miss by far more than usual, and than second order makes plausible."""
    if len(misses) < _FEWEST_PAIRS:
        return []
    usual = float(np.median(misses / pairs.third_order)) * pairs.third_order
    limit = np.maximum(np.maximum(_MISMATCH_EV, _BEYOND * usual), _BENT * pairs.bend)
    named = _worst_frames(pairs.members, misses / limit)
    if not named:
        return []
    own = np.isin(pairs.members, named).any(axis=1)
    return [
        Finding(
            "energy-forces",
            "warning",
            f"Energies{where} differ from those of near frames by other than the work of the forces, by up to "
            f"{misses[own].max():.3g} eV, more than six times what is usual at their distance.",
            "look whether energy and forces belong to these frames.",
            tuple(sorted(named)),
        )
    ]


def _worst_frames(members: np.ndarray, excess: np.ndarray) -> list[int]:
    """Return, worst first, frames most of whose pairs miss by more than allowed, without the pairs of worse ones."""
    named: list[int] = []
    while True:
        left = ~np.isin(members, named).any(axis=1)
        scores = {
            int(frame): excess[left & (members == frame).any(axis=1)]
            for frame in np.unique(members[left & (excess > 1)])
        }
        medians = {frame: float(np.median(own)) for frame, own in scores.items() if len(own) >= _AGREEING}
        frame = max(medians, key=lambda frame: medians[frame], default=None)
        if frame is None or medians[frame] < 1:
            return named
        named.append(frame)


def _scatter(values: np.ndarray) -> float:
    """Return the root mean square deviation from the median, of all but the largest tenth."""
    kept = np.sort(np.abs(values - np.median(values)))[: max(1, len(values) * 9 // 10)]
    return float(np.sqrt((kept**2).mean()))


def _mismatch(values: np.ndarray) -> float:
    return float(np.median(np.abs(values))) if len(values) else 0.0
