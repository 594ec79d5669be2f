"""Checks of the structures: distances, atoms alone, cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.neighborlist import neighbor_list

from mace_ft_bench.datasets.frames import ENERGY, FORCES
from mace_ft_bench.datasets.lint.finding import Finding, Frames

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms

_NEAR_A = 3.5
"""Radius within which nearly every atom has a neighbour [Angstrom]."""
_ALONE_A = 6.0
"""Radius without a neighbour that makes an atom alone: the cutoff of most models [Angstrom]."""
_SHORT = 0.6
"""Shortest distance in sums of covalent radii that is not named; H2 is at 1.19, bcc Mo at 0.89."""
_OVERLAP = 0.4
"""The same, for an error."""
_ISOLATED_A = 8.0
"""Smallest period of a cell that holds an isolated atom [Angstrom]."""
_FLAT = 1e-3
"""Volume over product of lengths below which a cell is degenerate."""
_POWERS = (2, 4, 8)
"""Of the smooth functions of the distances in a fingerprint."""
_CLOSEST = 1e-2
"""Distance, as a share of the radius, below which those functions stay finite."""


@dataclass(frozen=True)
class Surroundings:
    """What the neighbour list of a frame says."""

    ratio: float
    """Shortest distance in sums of covalent radii; infinite without neighbours."""
    closest: str
    """The pair, and its distance."""
    alone: int
    """Atoms without a neighbour within 6 Angstrom."""
    fingerprint: tuple[float, ...]
    """Sums over pairs and atoms that no translation, rotation, permutation or supercell changes."""


def surroundings(frame: Atoms) -> Surroundings:
    """Return what the neighbours of a frame's atoms say."""
    first, second, distance = neighbor_list("ijd", frame, _NEAR_A)
    ratio, closest = np.inf, ""
    if len(distance):
        ratios = distance / (covalent_radii[frame.numbers[first]] + covalent_radii[frame.numbers[second]])
        shortest = int(ratios.argmin())
        ratio = float(ratios[shortest])
        symbols = [chemical_symbols[frame.numbers[atom]] for atom in (first[shortest], second[shortest])]
        closest = f"{symbols[0]}-{symbols[1]} {distance[shortest]:.3f} Å"
    alone = 0
    if len(frame) > 1 and len(np.unique(first)) < len(frame):
        alone = len(frame) - len(np.unique(neighbor_list("i", frame, _ALONE_A)))
    return Surroundings(ratio, closest, alone, _fingerprint(frame, first, second, distance))


def far_fingerprint(frame: Atoms) -> tuple[float, ...]:
    """Return the fingerprint with neighbours up to 6 Angstrom, for frames that agree in the first shells."""
    return _fingerprint(frame, *neighbor_list("ijd", frame, _ALONE_A), reach=_ALONE_A)


def _fingerprint(
    frame: Atoms, first: np.ndarray, second: np.ndarray, distance: np.ndarray, *, reach: float = _NEAR_A
) -> tuple[float, ...]:
    """Return per-atom means and squares of smooth sums over neighbours, weighted by atomic numbers."""
    values = [frame.cell.volume / len(frame)]
    weights = np.sqrt(frame.numbers[second])
    share = distance / reach
    for power in _POWERS:
        smooth = weights * (1 - share**2) ** 2 * (2 * np.maximum(share, _CLOSEST)) ** -power
        sums = np.bincount(first, smooth, minlength=len(frame))
        values += [float((sums * frame.numbers**0.5).mean()), float(np.sqrt((sums**2).mean()))]
    return tuple(values)


def short_distances(frames: Frames, around: Mapping[int, Surroundings]) -> list[Finding]:
    """Find atoms closer than 0.6 sums of their covalent radii; below 0.4 they overlap."""
    found = []
    levels: list[tuple[float, float, str]] = [(0.0, _OVERLAP, "error"), (_OVERLAP, _SHORT, "warning")]
    for lowest, highest, severity in levels:
        close = sorted((around[index].ratio, index) for index in frames if lowest <= around[index].ratio < highest)
        if close:
            ratio, index = close[0]
            found.append(
                Finding(
                    "short-distance",
                    severity,  # type: ignore[arg-type]  # one of two literals
                    f"Atoms are as close as {around[index].closest}, {ratio:.2f} times the sum of covalent radii.",
                    "drop the frames, unless strongly compressed ones are meant.",
                    tuple(index for _, index in close),
                )
            )
    return found


def lone_atoms(frames: Frames, around: Mapping[int, Surroundings]) -> list[Finding]:
    """Find frames of several atoms, some of which have no neighbour within 6 Angstrom."""
    alone = [index for index in frames if around[index].alone]
    if not alone:
        return []
    return [
        Finding(
            "lone-atoms",
            "warning",
            f"Atoms have no neighbour within {_ALONE_A:g} Å: a model sees nothing of them.",
            "drop the frames, or check units and cell: bohr in place of Å does that, too.",
            tuple(alone),
        )
    ]


def isolated_atoms(frames: Frames) -> list[Finding]:
    """Say which elements have an isolated atom, and find those that contradict one another or carry forces."""
    energies: dict[str, dict[int, float]] = {}
    pulled = []
    for index, frame in frames.items():
        if is_isolated(frame):
            if ENERGY in frame.info:
                energies.setdefault(str(frame.symbols[0]), {})[index] = float(frame.info[ENERGY])
            if FORCES in frame.arrays and np.abs(frame.arrays[FORCES]).max() > 1e-3:  # noqa: PLR2004 - [eV/Å]
                pulled.append(index)
    found = []
    if energies:
        text = ", ".join(
            f"{symbol} {next(iter(values.values())):.6g} eV" for symbol, values in sorted(energies.items())
        )
        found.append(
            Finding(
                "isolated-atoms",
                "info",
                f"Isolated atoms: {text}.",
                'use e0s policy "isolated-atoms".',
                tuple(index for values in energies.values() for index in values),
            )
        )
    for symbol, values in energies.items():
        if np.ptp(list(values.values())) > 1e-6:  # noqa: PLR2004 - [eV], rounding of text files
            found.append(
                Finding(
                    "isolated-atoms",
                    "error",
                    f"Isolated atoms of {symbol} differ by {np.ptp(list(values.values())):.3g} eV.",
                    "keep the one of the ground state at the level of theory of the other frames.",
                    tuple(values),
                )
            )
    if pulled:
        fix = "set them to zero, or find out what pulls."
        found.append(Finding("isolated-atoms", "error", "Isolated atoms carry forces.", fix, tuple(pulled)))
    return found


def is_isolated(frame: Atoms) -> bool:
    """Whether a frame is one atom whose periodic images are at least 8 Angstrom away."""
    return len(frame) == 1 and bool((frame.cell.lengths()[frame.pbc] >= _ISOLATED_A).all())


def cells(frames: Frames) -> list[Finding]:
    """Find periodicity without a cell, a cell without periodicity, flat and left-handed cells."""
    kinds: dict[str, list[int]] = {"none": [], "flat": [], "open": [], "left": []}
    for index, frame in frames.items():
        kind = _kind(frame)
        if kind:
            kinds[kind].append(index)
    texts = {
        "none": ("error", "Periodic directions have no cell vector.", "write Lattice, or pbc F."),
        "flat": ("error", "Cell vectors are nearly in one plane.", "check Lattice."),
        "open": ("warning", "A cell is given, but no direction is periodic.", "write pbc T if the crystal goes on."),
        "left": (
            "info",
            "Cells are left-handed.",
            "nothing; programs that expect right-handed cells refuse them (swap two vectors).",
        ),
    }
    return [
        Finding("cell", severity, text, fix, tuple(kinds[kind]))  # type: ignore[arg-type]  # literals
        for kind, (severity, text, fix) in texts.items()
        if kinds[kind]
    ]


def _kind(frame: Atoms) -> str:
    lengths = frame.cell.lengths()
    if (lengths[frame.pbc] < 1e-3).any():  # noqa: PLR2004 - [Å]
        return "none"
    if not (lengths > 0).all():
        return ""
    share = np.linalg.det(frame.cell.array) / lengths.prod()
    if abs(share) < _FLAT:
        return "flat"
    if not frame.pbc.any():
        return "open"
    return "left" if share < 0 else ""


def has_sound_cell(frame: Atoms) -> bool:
    """Whether neighbours can be searched."""
    return _kind(frame) not in {"none", "flat"}
