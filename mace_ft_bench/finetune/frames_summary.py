"""What has to be known of frames to choose a recipe for them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mace_ft_bench.datasets.frames import CONFIG_TYPE, ENERGY, FORCES, STRESS
from mace_ft_bench.datasets.lint.displacement import rms_displacements, same_atoms
from mace_ft_bench.finetune.e0s import is_isolated_atom

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

LABELS = (ENERGY, FORCES, STRESS)
_WEIGHTS = ("config_weight", "config_energy_weight", "config_forces_weight", "config_stress_weight")
_FEWEST = 16
"""Frames of a group from which their order in time can be told."""
_MOST = 200
_LATER = 4
"""Frames after which neighbours in time have moved on."""
_STEP_A = 1.0
"""Distance beyond which a later frame is of another trajectory [Angstrom]."""
_CORRELATED = 0.85
"""Distance of consecutive frames, as a share of that to a later one, from which they neighbour in time."""


@dataclass(frozen=True)
class FramesSummary:
    """Frames in numbers."""

    frames: int
    """Frames of several atoms, and bulk crystals of one."""
    median_atoms: int
    groups: dict[str, int]
    """Frames per config_type."""
    labels: dict[str, int]
    """Frames with each label."""
    elements: tuple[str, ...]
    independent_compositions: int
    """Rank of the compositions."""
    isolated: tuple[str, ...]
    """Elements of which there is an isolated atom with an energy."""
    largest_energy_ev_per_atom: float
    """Largest absolute energy per atom [eV/atom], zero without energies."""
    in_time: dict[str, int]
    """Groups whose frames follow one another in time, and how many frames they have."""
    weighted: dict[str, int]
    """Keys of comment lines that mace reads as weights in the loss, and how many frames have one other than 1."""


def summarise_frames(frames: Sequence[Atoms]) -> FramesSummary:
    """Return the numbers that a recipe depends on."""
    isolated = [frame for frame in frames if is_isolated_atom(frame)]
    usual = [frame for frame in frames if not is_isolated_atom(frame)]
    elements = sorted({str(symbol) for frame in frames for symbol in set(frame.symbols)})
    energies = [abs(frame.info[ENERGY]) / len(frame) for frame in usual if ENERGY in frame.info]
    return FramesSummary(
        frames=len(usual),
        median_atoms=int(np.median([len(frame) for frame in usual])) if usual else 0,
        groups=dict(sorted(Counter(str(frame.info.get(CONFIG_TYPE, "")) for frame in usual).items())),
        labels={label: sum(label in frame.info or label in frame.arrays for frame in usual) for label in LABELS},
        elements=tuple(elements),
        independent_compositions=_rank(usual, elements),
        isolated=tuple(sorted({str(frame.symbols[0]) for frame in isolated})),
        largest_energy_ev_per_atom=float(max(energies, default=0.0)),
        in_time=_in_time(usual),
        weighted=_weighted(usual),
    )


def _weighted(frames: Sequence[Atoms]) -> dict[str, int]:
    found = Counter(key for frame in frames for key in _WEIGHTS if frame.info.get(key, 1.0) != 1.0)
    return dict(sorted(found.items()))


def _rank(frames: Sequence[Atoms], elements: Sequence[str]) -> int:
    shares = [[frame.symbols.count(symbol) / len(frame) for symbol in elements] for frame in frames]
    return int(np.linalg.matrix_rank(np.array(shares), tol=1e-6)) if shares else 0


def _in_time(frames: Sequence[Atoms]) -> dict[str, int]:
    """Find groups in which the next frame is nearer than a later one.

    Comparing with any two frames would also name snapshots that are independent, but ordered by temperature.
    """
    found: Counter[str] = Counter()
    for members in same_atoms(dict(enumerate(frames)), by_group=True):
        if len(members) < _FEWEST or len(frames[members[0]]) == 1:
            continue
        some = [frames[index] for index in members[:_MOST]]
        apart = rms_displacements(some, some)
        following, later = np.diag(apart, 1)[: len(some) - _LATER], np.diag(apart, _LATER)
        moving = (later > 1e-6) & (later < _STEP_A)  # noqa: PLR2004 - [Å], frames that differ by their cell only
        if moving.sum() >= _FEWEST // 2 and float(np.median(following[moving] / later[moving])) < _CORRELATED:
            found[str(some[0].info.get(CONFIG_TYPE, ""))] += len(members)
    return dict(sorted(found.items()))
