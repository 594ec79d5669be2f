"""Choose frames: at random, by strata, or farthest-point sampling in the space of atomic environments.

Farthest-point sampling takes one frame after another, each the one farthest from all chosen so far. The distance of a
frame from the chosen ones is that of its most foreign atom: the largest over its atoms of the distance to the nearest
chosen atom of the same element (a directed Hausdorff distance). A mean over the atoms of a frame would hide one defect
among a hundred bulk atoms. Frames can still be compared by one vector each, see :func:`pooled`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from mace_ft_bench.datasets.frames import CONFIG_TYPE, ENERGY
from mace_ft_bench.errors import CardError, DataError, UnknownNameError, suggestion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ase import Atoms

Method = Literal["farthest-point", "random", "stratified"]
METHODS: tuple[Method, ...] = ("farthest-point", "random", "stratified")
STRATA = ("config_type", "energy", "volume")

_SAME = 1e-6
"""Distance, relative to the largest descriptor, below which environments count as repeated."""
_BLOCK = 4_000_000
"""Distances computed at once."""


@dataclass(frozen=True)
class Environments:
    """Atomic environments of n frames, A altogether."""

    descriptors: np.ndarray
    """(A, features)."""
    species: np.ndarray
    """What may be compared: atomic numbers (A,)."""
    frame: np.ndarray
    """Frame of every environment, ascending from 0, none left out (A,)."""

    @property
    def frames(self) -> int:
        """Number of frames."""
        return int(self.frame[-1]) + 1

    @property
    def scale(self) -> float:
        """Largest norm of a descriptor."""
        return float(np.linalg.norm(self.descriptors, axis=1).max())


@dataclass(frozen=True)
class Coverage:
    """How far frames lie from the chosen ones, in units of the descriptors."""

    largest: float
    """Of an unselected frame; 0 if there is none."""
    mean: float
    """Over the unselected frames."""
    farthest: int | None
    """The unselected frame that lies farthest."""


def environments(frames: Sequence[Atoms], descriptors: Sequence[np.ndarray]) -> Environments:
    """Join descriptors of atoms, for comparing frames by their most foreign atom.

    Parameters
    ----------
    frames
        Frames.
    descriptors
        Per frame (atoms, features).

    Raises
    ------
    DataError
        If they do not fit together, or are not finite; naming the frame.
    """
    if len(frames) != len(descriptors) or not len(frames):
        raise DataError(f"{len(descriptors)} descriptors do not fit {len(frames)} frames.", fix="give one per frame.")
    for index, (frame, rows) in enumerate(zip(frames, descriptors, strict=True)):
        if rows.ndim != 2 or len(rows) != len(frame) or rows.shape[1:] != descriptors[0].shape[1:] or not len(frame):  # noqa: PLR2004 - a matrix
            raise DataError(
                f"Frame {index} has {len(frame)} atoms and descriptors of shape {rows.shape}.",
                fix="give one row per atom, of one length.",
            )
        if not np.isfinite(rows).all():
            raise DataError(f"A descriptor of frame {index} is not finite.", fix="remove the frame.")
    return Environments(
        descriptors=np.concatenate(descriptors),
        species=np.concatenate([frame.numbers for frame in frames]),
        frame=np.repeat(np.arange(len(frames)), [len(frame) for frame in frames]),
    )


def pooled(found: Environments, how: Literal["mean", "max"] = "mean") -> Environments:
    """Return one environment per frame: means or maxima per element, of all elements one after another.

    Cheaper than comparing all atoms, and blind to few atoms among many. An element that a frame lacks counts as zero.
    """
    columns = []
    for number in np.unique(found.species):
        own = found.species == number
        rows = np.full((found.frames, found.descriptors.shape[1]), -np.inf if how == "max" else 0.0)
        (np.maximum if how == "max" else np.add).at(rows, found.frame[own], found.descriptors[own])
        counts = np.bincount(found.frame[own], minlength=found.frames)[:, None]
        columns.append(np.where(counts > 0, rows if how == "max" else rows / np.maximum(counts, 1), 0.0))
    return Environments(np.hstack(columns), np.zeros(found.frames, dtype=int), np.arange(found.frames))


def farthest_points(found: Environments, count: int, *, start: int | None = None) -> list[int]:
    """Return frames by farthest-point sampling, in the order of their choice (doi 10.1016/0304-3975(85)90224-5).

    The largest distance of a frame that is left is at most twice the smallest possible for this count. Outliers are
    chosen early: broken frames have to be removed before. Ties go to the earlier frame.

    Parameters
    ----------
    found
        Environments of n frames.
    count
        Number of frames.
    start
        The first frame; by default the one whose mean descriptor lies nearest to the mean of all frames.

    Raises
    ------
    CardError
        If there are not so many frames, or no such start.
    DataError
        If fewer frames differ.
    """
    check_count(count, found.frames)
    if start is not None and not 0 <= start < found.frames:
        raise CardError(f"There is no frame {start} to start from.", fix=f"choose from 0 to {found.frames - 1}.")
    chosen = [_central(found) if start is None else start]
    nearest = _distances_to(found, chosen[0])
    while len(chosen) < count:
        distances = _per_frame(found, nearest)
        distances[chosen] = -1.0
        farthest = int(distances.argmax())
        if distances[farthest] <= _SAME * found.scale:
            raise DataError(
                f"Only {len(chosen)} of {found.frames} frames differ; the others repeat their environments.",
                fix=f"ask for {len(chosen)} frames at most.",
            )
        chosen.append(farthest)
        nearest = np.minimum(nearest, _distances_to(found, farthest))
    return chosen


def coverage(found: Environments, chosen: Sequence[int]) -> Coverage:
    """Return how far the unselected frames lie from the chosen ones."""
    nearest = np.full(len(found.frame), np.inf)
    for frame in chosen:
        nearest = np.minimum(nearest, _distances_to(found, frame))
    distances = _per_frame(found, nearest)
    rest = np.setdiff1d(np.arange(found.frames), chosen)
    if not rest.size:
        return Coverage(0.0, 0.0, None)
    farthest = int(rest[distances[rest].argmax()])
    return Coverage(float(distances[farthest]), float(distances[rest].mean()), farthest)


def _distances_to(found: Environments, frame: int) -> np.ndarray:
    """Return the distance of every environment to the nearest of its element in a frame (A,); inf without one."""
    start, stop = np.searchsorted(found.frame, [frame, frame + 1])
    nearest = np.full(len(found.frame), np.inf)
    for number in np.unique(found.species[start:stop]):
        targets = found.descriptors[start:stop][found.species[start:stop] == number]
        squares = (targets**2).sum(axis=1)
        for rows in _blocks(np.flatnonzero(found.species == number), len(targets)):
            points = found.descriptors[rows]
            between = (points**2).sum(axis=1)[:, None] + squares - 2 * points @ targets.T
            nearest[rows] = np.sqrt(np.maximum(between.min(axis=1), 0.0))
    nearest[start:stop] = 0.0
    return nearest


def _blocks(rows: np.ndarray, targets: int) -> Iterator[np.ndarray]:
    size = max(1, _BLOCK // targets)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _per_frame(found: Environments, nearest: np.ndarray) -> np.ndarray:
    distances: np.ndarray = np.maximum.reduceat(nearest, np.searchsorted(found.frame, np.arange(found.frames)))
    return distances


def _central(found: Environments) -> int:
    means = pooled(found).descriptors
    return int(np.linalg.norm(means - means.mean(axis=0), axis=1).argmin())


def random_frames(frames: int, count: int, *, seed: int) -> list[int]:
    """Return frames drawn without replacement, ascending.

    Raises
    ------
    CardError
        If there are not so many frames.
    """
    check_count(count, frames)
    return sorted(np.random.default_rng(seed).choice(frames, count, replace=False).tolist())


def stratified_frames(strata: Sequence[str], count: int, *, seed: int) -> list[int]:
    """Return frames drawn evenly from all strata, ascending.

    Every stratum gives the same number; one that has fewer gives all it has, and the others share the rest. What
    cannot be shared goes to strata in the order of their names.

    Parameters
    ----------
    strata
        Stratum of every frame, see :func:`strata_of`.
    count
        Number of frames.
    seed
        Seed of the draw.

    Raises
    ------
    CardError
        If there are not so many frames.
    """
    check_count(count, len(strata))
    generator = np.random.default_rng(seed)
    chosen: list[int] = []
    names = np.array(strata)
    for name, share in shares(Counter(strata), count).items():
        chosen += generator.choice(np.flatnonzero(names == name), share, replace=False).tolist()
    return sorted(chosen)


def shares(sizes: dict[str, int], count: int) -> dict[str, int]:
    """Return how many of ``count`` frames every stratum gives, as evenly as their sizes allow."""
    given = dict.fromkeys(sorted(sizes), 0)
    left = count
    while left:
        open_ = [name for name in given if given[name] < sizes[name]]
        for name in open_[:left]:
            more = min(max(left // len(open_), 1), sizes[name] - given[name])
            given[name] += more
        left = count - sum(given.values())
    return given


def strata_of(frames: Sequence[Atoms], by: str, *, bins: int = 10) -> list[str]:
    """Return the stratum of every frame.

    Parameters
    ----------
    frames
        Frames.
    by
        ``config_type``; or ``energy`` (REF_energy per atom) or ``volume`` (per atom), in bins of equal width. Energies
        per atom compare frames of one composition only.
    bins
        Number of bins between the smallest and the largest value.

    Raises
    ------
    UnknownNameError
        If there is no such stratification.
    CardError
        If there is no bin.
    DataError
        If a frame has no config_type, no finite energy, or no volume; naming the frame.
    """
    if by not in STRATA:
        raise UnknownNameError(f'No stratification is called "{by}".', fix=suggestion(by, STRATA))
    if bins < 1:
        raise CardError(f"{bins} bins make no sense.", fix="give 1 or more.")
    if by == "config_type":
        return [_config_type(index, frame) for index, frame in enumerate(frames)]
    value = _energy if by == "energy" else _volume
    values = np.array([value(index, frame) for index, frame in enumerate(frames)])
    edges = np.linspace(values.min(), values.max(), bins + 1)[1:-1]
    width = len(str(bins))
    return [f"{by} {number:0{width}d}" for number in np.searchsorted(edges, values, side="right")]


def _config_type(index: int, frame: Atoms) -> str:
    if CONFIG_TYPE not in frame.info:
        raise DataError(f"Frame {index} has no {CONFIG_TYPE}.", fix="stratify by energy or volume.")
    return str(frame.info[CONFIG_TYPE])


def _energy(index: int, frame: Atoms) -> float:
    if ENERGY not in frame.info:
        raise DataError(f"Frame {index} has no {ENERGY}.", fix="label it, or stratify by config_type or volume.")
    energy = float(frame.info[ENERGY])
    if not np.isfinite(energy):
        raise DataError(f"The energy of frame {index} is {energy}.", fix="remove the frame.")
    return energy / len(frame)


def _volume(index: int, frame: Atoms) -> float:
    if frame.cell.rank < 3:  # noqa: PLR2004 - three dimensions
        raise DataError(f"Frame {index} has no volume.", fix="stratify by config_type or energy.")
    return float(frame.get_volume()) / len(frame)


def check_count(count: int, frames: int) -> None:
    """Refuse to choose none, or more frames than there are.

    Raises
    ------
    CardError
        Saying how many there are.
    """
    if not 1 <= count <= frames:
        raise CardError(f"{count} of {frames} frames cannot be chosen.", fix=f"ask for 1 to {frames}.")
