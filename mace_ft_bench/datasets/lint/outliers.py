"""Checks of energies and force sizes against the other frames."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from mace_ft_bench.composition import composition_shares, fit_element_zeros
from mace_ft_bench.datasets.frames import ENERGY, FORCES
from mace_ft_bench.datasets.lint.finding import Finding, Frames
from mace_ft_bench.datasets.lint.sources import group_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_GAP = 1.5
"""Empty range of energies per atom, at the same composition, that makes one suspect two zeros [eV/atom]."""
_GAP_SPREADS = 20.0
"""The same, in spreads on its sides."""
_OTHER_CODE = 15.0
"""Gap that no structure makes [eV/atom]."""
_FEWEST = 8
"""Frames from which a group has a spread."""
_SPREADS = 12.0
_ENERGY_OFF = 0.25
"""Distance from the others below which an energy is not named [eV/atom]."""
_FORCE_OFF = 8.0
"""Factor on the usual largest force of a group from which a frame is named."""
_FORCE_SMALL = 10.0
"""Force that needs no explanation [eV/Angstrom]."""
_FORCE_HUGE = 50.0
"""Force that needs one in any group [eV/Angstrom]."""


def compositions(frames: Frames) -> list[Finding]:
    """Say where compositions leave energies of isolated atoms undetermined."""
    shares, elements = composition_shares([list(frame.symbols) for frame in frames.values()])
    rank = int(np.linalg.matrix_rank(shares, tol=1e-6)) if len(shares) else 0
    if rank >= len(elements):
        return []
    kinds = "All frames have one composition" if rank == 1 else f"Frames have {rank} independent compositions"
    return [
        Finding(
            "composition",
            "info",
            f"{kinds}: energies of isolated atoms of {', '.join(elements)} cannot be fitted from them.",
            'add isolated atoms, give E0s, or use policy "least-squares" on top of a parent.',
        )
    ]


def energy_zero(frames: Frames) -> list[Finding]:
    """Find frames whose energies count from another zero: a wide empty range in the energies per atom.

    What the composition explains is taken out first, by least squares.
    """
    rest = energy_residuals(frames)
    if len(rest) < _FEWEST:
        return []
    order = sorted(rest, key=lambda index: rest[index])
    values = np.array([rest[index] for index in order])
    cut = int(np.diff(values).argmax()) + 1
    gap = values[cut] - values[cut - 1]
    spread = max(_spread(values[:cut]), _spread(values[cut:]))
    fewer = order[:cut] if cut <= len(order) - cut else order[cut:]
    if len(fewer) == 1 and gap < _OTHER_CODE:  # an outlier, and named as one
        return []
    if gap < _GAP or gap < _GAP_SPREADS * spread:
        return []
    groups = Counter(group_of(frames[index]) or "frames without a group" for index in fewer)
    listed = ", ".join(f"{group} ({count})" for group, count in groups.most_common(4))
    return [
        Finding(
            "energy-zero",
            "error" if gap > _OTHER_CODE else "warning",
            f"Energies fall into two sets {gap:.3g} eV/atom apart; the smaller one is {listed}.",
            "compare codes, pseudopotentials and units; take the energy of the isolated atoms out of each set.",
            tuple(sorted(fewer)),
        )
    ]


def energy_outliers(frames: Frames) -> list[Finding]:
    """Find energies per atom far from those of the group; the composition is taken out first, by least squares."""
    rest = energy_residuals(frames)
    found = []
    for group in _by_group(frames, rest):
        values = np.array([rest[index] for index in group])
        off = np.abs(values - np.median(values))
        limit = max(_ENERGY_OFF, _SPREADS * _spread(values))
        found += [(float(off[place]), index) for place, index in enumerate(group) if off[place] > limit]
    return _named(found, "energy-outlier", "Energies lie up to {:.3g} eV/atom from the others of their group.")


def force_outliers(frames: Frames) -> list[Finding]:
    """Find frames with forces far larger than others of their group, or than any that trains well."""
    largest = {
        index: float(np.linalg.norm(frame.arrays[FORCES], axis=1).max())
        for index, frame in frames.items()
        if FORCES in frame.arrays
    }
    found = {index: force for index, force in largest.items() if force > _FORCE_HUGE}
    for group in _by_group(frames, largest):
        usual = float(np.median([largest[index] for index in group]))
        limit = max(_FORCE_SMALL, _FORCE_OFF * usual)
        found |= {index: largest[index] for index in group if largest[index] > limit}
    rows = [(force, index) for index, force in found.items()]
    return _named(rows, "force-outlier", "Forces are as large as {:.3g} eV/Å, far above the others.")


def energy_residuals(frames: Frames) -> dict[int, float]:
    """Return the energies per atom without what the composition explains [eV/atom], of frames of several atoms."""
    used = [index for index, frame in frames.items() if ENERGY in frame.info and len(frame) > 1]
    if not used:
        return {}
    shares, _ = composition_shares([list(frames[index].symbols) for index in used])
    energies = np.array([frames[index].info[ENERGY] / len(frames[index]) for index in used])
    zeros, _ = fit_element_zeros(shares, energies)
    return dict(zip(used, (energies - shares @ zeros).tolist(), strict=True))


def _named(rows: Sequence[tuple[float, int]], check: str, text: str) -> list[Finding]:
    if not rows:
        return []
    fix = "look at the frames: unconverged or broken ones are dropped, extreme ones may be meant."
    ranked = sorted(rows, reverse=True)
    return [Finding(check, "warning", text.format(ranked[0][0]), fix, tuple(index for _, index in ranked))]


def _by_group(frames: Frames, values: Mapping[int, float]) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for index in values:
        groups.setdefault(group_of(frames[index]), []).append(index)
    return [group for group in groups.values() if len(group) >= _FEWEST]


def _spread(values: np.ndarray) -> float:
    """Return a standard deviation that outliers do not move: from quartiles and, where those agree, from deciles."""
    low, high = np.percentile(values, [25, 75])
    bottom, top = np.percentile(values, [10, 90])
    return float(max((high - low) / 1.349, (top - bottom) / 2.563))
