"""What a set of frames contains: numbers per family, and one figure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np
from ase.data import atomic_numbers
from matplotlib.figure import Figure

from mace_ft_bench.atomic import replacing
from mace_ft_bench.datasets.frames import CONFIG_TYPE, ENERGY, FORCES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ase import Atoms
    from matplotlib.axes import Axes

_DPI = 130
_BINS = 80
_SMALLEST_FORCE = 1e-3
"""Forces below are drawn there [eV/Angstrom]: by symmetry many are zero."""


@dataclass(frozen=True)
class FamilySummary:
    """Frames of one config_type."""

    family: str
    frames: dict[str, int]
    """By split."""
    atoms: tuple[int, float, int]
    """Fewest, mean and most per frame."""
    energy_ev_per_atom: tuple[float, float]
    """Lowest and highest."""
    largest_force_ev_per_a: tuple[float, float]
    """Median over frames, and overall, of the largest force of a frame."""


def summarise(splits: Mapping[str, Sequence[Atoms]]) -> list[FamilySummary]:
    """Return a summary of every config_type, in alphabetical order.

    Parameters
    ----------
    splits
        Labelled frames by the name of their split.
    """
    families = sorted({frame.info[CONFIG_TYPE] for frames in splits.values() for frame in frames})
    return [_summary(family, splits) for family in families]


def _summary(family: str, splits: Mapping[str, Sequence[Atoms]]) -> FamilySummary:
    of_split = {name: [f for f in frames if f.info[CONFIG_TYPE] == family] for name, frames in splits.items()}
    frames = [frame for found in of_split.values() for frame in found]
    sizes = [len(frame) for frame in frames]
    energies = [frame.info[ENERGY] / len(frame) for frame in frames]
    forces = [np.linalg.norm(frame.arrays[FORCES], axis=1).max() for frame in frames]
    return FamilySummary(
        family=family,
        frames={name: len(found) for name, found in of_split.items()},
        atoms=(min(sizes), float(np.mean(sizes)), max(sizes)),
        energy_ev_per_atom=(float(min(energies)), float(max(energies))),
        largest_force_ev_per_a=(float(np.median(forces)), float(max(forces))),
    )


def pairs_covered(frames: Sequence[Atoms], elements: Sequence[str]) -> np.ndarray:
    """Return in how many frames two elements occur together, shape (elements, elements); alone on the diagonal.

    Parameters
    ----------
    frames
        Frames.
    elements
        Symbols, in the order of rows and columns.
    """
    counts = np.zeros((len(elements), len(elements)), dtype=int)
    places = {atomic_numbers[symbol]: place for place, symbol in enumerate(elements)}
    for frame in frames:
        present = sorted({places[number] for number in frame.numbers.tolist() if number in places})
        for first, second in combinations_with_replacement(present, 2):
            if first != second or len(present) == 1:
                counts[first, second] += 1
                counts[second, first] = counts[first, second]
    return counts


def draw(frames: Sequence[Atoms], elements: Sequence[str], path: Path) -> None:
    """Draw forces, volumes, energies and pairs of elements of frames, as a PNG or an SVG.

    Parameters
    ----------
    frames
        Labelled frames.
    elements
        Symbols, in the order of rows and columns of the map of pairs.
    path
        File to write; its suffix says the format.
    """
    figure = Figure(figsize=(13, 9.5), layout="constrained")
    axes = figure.subplots(2, 2)
    _draw_forces(axes[0, 0], frames)
    _draw_volumes(axes[0, 1], frames)
    _draw_sizes(axes[1, 0], frames)
    _draw_pairs(axes[1, 1], frames, elements)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format=path.suffix.removeprefix("."))


def _draw_forces(axes: Axes, frames: Sequence[Atoms]) -> None:
    forces = np.concatenate([np.linalg.norm(frame.arrays[FORCES], axis=1) for frame in frames])
    shown = np.maximum(forces, _SMALLEST_FORCE)
    bins = np.geomspace(_SMALLEST_FORCE, max(shown.max(), 1.0), _BINS)
    axes.hist(shown, bins=bins.tolist())
    axes.set(xscale="log", xlabel="|F| [eV/Å] (first bar: that or less)", ylabel="atoms", title="Forces")


def _draw_volumes(axes: Axes, frames: Sequence[Atoms]) -> None:
    volumes = [frame.get_volume() / len(frame) for frame in frames]
    energies = [frame.info[ENERGY] / len(frame) for frame in frames]
    axes.scatter(volumes, energies, s=3, alpha=0.25, linewidths=0)
    axes.set(
        xlabel="volume per atom [Å³], vacuum included",
        ylabel="energy per atom [eV]",
        title="Volumes and energies of frames",
    )


def _draw_sizes(axes: Axes, frames: Sequence[Atoms]) -> None:
    families = sorted({frame.info[CONFIG_TYPE] for frame in frames}, reverse=True)
    atoms = [sum(len(frame) for frame in frames if frame.info[CONFIG_TYPE] == family) for family in families]
    counts = [sum(frame.info[CONFIG_TYPE] == family for frame in frames) for family in families]
    places = np.arange(len(families))
    axes.barh(places + 0.2, counts, height=0.4, label="frames")
    axes.barh(places - 0.2, atoms, height=0.4, label="atoms")
    axes.set_yticks(places, families)
    axes.set(xscale="log", xlabel="number", title="Families")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))  # beside the bars, which reach every corner


def _draw_pairs(axes: Axes, frames: Sequence[Atoms], elements: Sequence[str]) -> None:
    counts = pairs_covered(frames, elements)
    axes.imshow(np.log10(counts + 1.0), cmap="viridis")
    half = np.log10(counts.max() + 1.0) / 2
    for row, column in np.ndindex(*counts.shape):
        dark = np.log10(counts[row, column] + 1.0) < half
        text = str(counts[row, column])
        axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color="white" if dark else "black")
    axes.set_xticks(range(len(elements)), elements)
    axes.set_yticks(range(len(elements)), elements)
    axes.set_title("Frames with both elements (diagonal: that one alone)")
