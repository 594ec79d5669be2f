"""Checks of forces and stresses against energies: between near frames, work is the difference of energies.

Between two frames of the same atoms, dE = -F.dx + V s:e with the mean forces F and stresses s of the two, up to third
order in the displacements dx and strains e. Any mistake of sign, unit or order of a label breaks it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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
"""Least work of forces, as a share of the differences of energies, for saying that it explains them not."""
_SIGNIFICANCE = 5.0
"""Standard errors by which a bulk modulus has to differ from zero."""
_BETTER = 1.3
"""Factor on the mismatch by which another convention has to win."""
_EVIDENCE = 12.0
"""Least logarithm of the likelihood ratio for that."""
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
        rest = _best_stress(usable) if len(usable.energy) else np.zeros(0)
        names = group_of(frames[int(group.members[0, 0])])
        where = f" of {names}" if names else ""
        finding = _wrong_forces(usable, usable.energy - rest, where)
        found += [finding] if finding else _foreign_labels(usable, usable.energy - rest - usable.work, where)
    return found


def stresses(frames: Frames, pairs: Sequence[Pairs]) -> list[Finding]:
    """Find stresses of a wrong sign, unit or order, by the pressure against the volume and by the work of pairs."""
    by_volume = _by_volume(frames)
    return by_volume or [finding for group in pairs if (finding := _wrong_stress(frames, group))]


def _by_volume(frames: Frames) -> list[Finding]:
    groups: dict[tuple[str, str], list[int]] = {}
    for index, frame in frames.items():
        if STRESS in frame.info and frame.cell.rank == 3 and frame.pbc.all():  # noqa: PLR2004 - dimensions
            key = (group_of(frame), frame.symbols.formula.reduce()[0].format("metal"))
            groups.setdefault(key, []).append(index)
    found = []
    for (group, formula), members in sorted(groups.items()):
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
    target = strained.energy - strained.work
    misses = {
        (sign, unit, order): _trimmed_rms((target - strained.work_of_stress(sign / factor, order)) / strained.reach)
        for sign, (unit, factor), order in itertools.product((1, -1), _UNITS.items(), _ORDERS)
    }
    as_is = misses[1, "eV/A^3", _ASE]
    best = min(misses, key=lambda key: misses[key])
    # The logarithm of the likelihood ratio of two conventions, for errors of one width.
    evidence = len(target) * np.log(max(as_is, 1e-12) / max(misses[best], 1e-12))
    if evidence < _EVIDENCE or as_is < _BETTER * misses[best] or _mismatch(target) < 1e-3:  # noqa: PLR2004 - [eV]
        return None
    sign, unit, order = best
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


def _pairs_of(frames: Frames, group: list[int]) -> Pairs:
    members, rows = [], []
    for first, second in _near(frames, group):
        row = _compare(frames[first], frames[second])
        if row is not None:
            members.append((first, second))
            rows.append(row)
    table = np.array(rows).reshape(-1, 15)
    energy, work, stress, strain, reach = (*table[:, :2].T, table[:, 2:8], table[:, 8:14], table[:, 14])
    return Pairs(np.array(members, dtype=int).reshape(-1, 2), energy, work, stress, strain, reach)


def _compare(one: Atoms, other: Atoms) -> np.ndarray | None:
    """Return energy, work, stress and volume times strain and reach of a pair (15,), None if it is too far apart."""
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
    return np.concatenate([[energy, -float((force * moved).sum())], stress, engineering, [reach]])


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
    good = np.abs(energy) <= np.percentile(np.abs(energy), 90)
    work, energy = pairs.work[good], energy[good]
    slope = float(work @ energy / max(work @ work, 1e-12))
    correlation = slope * float(np.sqrt(work @ work / max(energy @ energy, 1e-12)))
    if abs(correlation) > 0.95 and not 0.6 < slope < 1.6:  # noqa: PLR2004 - third order stays within
        sign = "the sign" if slope < 0 else "the unit"
        text = f"Energies{where} change by {slope:.3g} times the work of the forces: {sign} of one of them is wrong."
        fix = "convert the source again with the right --forces-unit and --energy-unit."
    elif abs(correlation) < 0.5 and _mismatch(work) > _SHARE * _mismatch(pairs.energy):  # noqa: PLR2004 - unexplained
        text = f"Forces{where} do not belong to the energies: their work explains {correlation:.0%} of the differences."
        fix = "look whether forces were assigned to other frames or atoms."
    else:
        return None
    return Finding("energy-forces", "error", text, fix, tuple(sorted({int(index) for index in pairs.members.ravel()})))


def _foreign_labels(pairs: Pairs, rest: np.ndarray, where: str) -> list[Finding]:
    """Name frames most of whose pairs miss by far more than usual."""
    if len(rest) < _FEWEST_PAIRS:
        return []
    third = np.maximum(pairs.reach, 1e-12) ** 1.5  # the order that the work leaves out
    usual = float(np.median(np.abs(rest) / third)) * third
    limit = np.maximum(_MISMATCH_EV, _BEYOND * usual)
    named = _worst_frames(pairs.members, np.abs(rest) / limit)
    if not named:
        return []
    own = np.isin(pairs.members, named).any(axis=1)
    return [
        Finding(
            "energy-forces",
            "warning",
            f"Energies{where} differ from those of near frames by other than the work of the forces, by up to "
            f"{np.abs(rest[own]).max():.3g} eV, more than six times what is usual at their distance.",
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
        medians = {frame: float(np.median(own)) for frame, own in scores.items() if len(own) > 1}
        frame = max(medians, key=lambda frame: medians[frame], default=None)
        if frame is None or medians[frame] < 1:
            return named
        named.append(frame)


def _trimmed_rms(values: np.ndarray) -> float:
    """Return the root mean square of all but the largest tenth."""
    kept = np.sort(np.abs(values))[: max(1, len(values) * 9 // 10)]
    return float(np.sqrt((kept**2).mean()))


def _mismatch(values: np.ndarray) -> float:
    return float(np.median(np.abs(values))) if len(values) else 0.0
