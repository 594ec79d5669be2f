"""What a trajectory says: pure functions of frames and positions, without a calculator.

Structures are radial distribution functions and density profiles; motion is the mean-square displacement and the
diffusion coefficient; means have statistical errors that know of correlation in time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase.geometry import find_mic
from ase.geometry.rdf import get_rdf

from mace_ft_bench.errors import StructureError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

_FEWEST_BLOCKS = 8
"""Below that many blocks the scatter of their means says little."""
_PROMINENCE = 0.2
"""Share of the highest value by which a peak has to rise above its surroundings."""
_TOP = 0.7
"""Share of its height above which the bins of a peak give its position."""
_MOST_LAGS = 100
_FIT_FROM = 0.2
"""Share of the longest lag at which the fit of a diffusion coefficient begins: shorter ones see vibrations."""
_A2_PER_PS_IN_CM2_PER_S = 1e-4


def block_error(values: np.ndarray) -> float:
    """Return the standard error of the mean of a correlated series, in its unit.

    Neighbours are averaged in pairs again and again until eight or more blocks are left; the largest of the standard
    errors on the way counts, because those of blocks shorter than the correlation are too small (Flyvbjerg and
    Petersen, doi 10.1063/1.457480). A series shorter than eight has the plain standard error, and one of some twenty
    correlation times an error that is too small by a third.

    Parameters
    ----------
    values
        Series, shape (n,), two or more.
    """
    errors: list[float] = []
    while not errors or len(values) >= _FEWEST_BLOCKS:
        errors.append(float(np.std(values, ddof=1) / np.sqrt(len(values))))
        even = len(values) // 2 * 2
        values = values[:even].reshape(-1, 2).mean(axis=1)
    return max(errors)


def radial_distribution(  # noqa: PLR0913 - of what, how far and fine, and relative to what
    frames: Sequence[Atoms],
    pair: tuple[str, str],
    *,
    reach: float,
    width: float = 0.05,
    above: str | None = None,
    axis: int = 2,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the radial distribution function g(r) of two species; it is 1 for an ideal gas.

    Distances are to the nearest image. Between n atoms of one species the limit at large distances is (n - 1) / n.
    Of a film, name the plane it lies on: the ideal gas then has the density profile of the film, and what is vacuum in
    the cell does not count.

    Parameters
    ----------
    frames
        Periodic structures of one composition.
    pair
        Two chemical symbols; they may be the same.
    reach
        Largest distance [Angstrom]; cut to half of the smallest height of the cell.
    width
        Width of the bins [Angstrom].
    above, axis
        As in :func:`density_profile`; by default the ideal gas fills the cell.

    Returns
    -------
    r
        Centres of the bins [Angstrom], shape (bins,).
    g
        Shape (bins,).

    Raises
    ------
    StructureError
        If a species is not there.
    """
    for symbol in pair:
        require_species(frames[0], symbol)
    reach = min(reach, *(_smallest_height(frame) / 2 * (1 - 1e-9) for frame in frames))
    bins = max(int(reach / width), 1)
    total, centres = np.zeros(bins), np.zeros(bins)
    for frame in frames:
        few = frame[np.isin(frame.symbols, pair)]  # the others would only cost time
        found, centres = get_rdf(few, reach, bins, distance_matrix=few.get_all_distances(mic=True), elements=pair)
        total += found
    g = total / len(frames)
    if above is not None:
        crowding = _crowding(frames, pair, centres, above, axis)
        g = np.divide(g, crowding, out=np.zeros(bins), where=crowding > 0)
    return centres, g


def _crowding(frames: Sequence[Atoms], pair: tuple[str, str], r: np.ndarray, above: str, axis: int) -> np.ndarray:
    """Return how many more atoms an ideal gas of this profile has at distances r from another than one in all the cell.

    A sphere's area between two heights is 2 pi r times their difference, so the gas has the neighbours 2 pi r dr times
    the atoms per area less than r above or below.
    """
    require_species(frames[0], above)
    height = _heights(frames[0])[axis]
    first, second = (np.concatenate([_height_above(f, symbol, above, axis) for f in frames]) for symbol in pair)
    images = np.sort(np.concatenate([second - 1, second, second + 1]))  # r is half of the height at most
    near = [np.searchsorted(images, first + x) - np.searchsorted(images, first - x) for x in r / height]
    evenly = 2 * r / height * len(second)
    crowding: np.ndarray = np.mean(near, axis=1) / evenly
    return crowding


def first_peak(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return place and height of the first peak of a histogram.

    A peak is higher than the mean between the first and the last value that is not zero, and rises above its
    surroundings by a fifth of the highest value, so that noise and stray atoms are none. Its place is the top of the
    parabola through the bins above 70 % of its height, where there are three or more.

    Parameters
    ----------
    x
        Centres of the bins, equally spaced, shape (bins,).
    y
        Values, not negative and not all zero, shape (bins,).
    """
    from scipy.signal import find_peaks  # noqa: PLC0415 - slow to import

    padded = np.concatenate([[0.0], y, [0.0]])  # a peak at an end is a peak
    mean = np.trim_zeros(y).mean()
    top = int(find_peaks(padded, height=mean, prominence=_PROMINENCE * y.max())[0][0]) - 1
    low, high = top, top
    while low > 0 and y[low - 1] > _TOP * y[top]:
        low -= 1
    while high < len(y) - 1 and y[high + 1] > _TOP * y[top]:
        high += 1
    if high - low < 2:  # noqa: PLR2004 - a parabola has three coefficients
        return float(x[top]), float(y[top])
    curvature, slope, _ = np.polyfit(x[low : high + 1] - x[top], y[low : high + 1], 2)
    place = x[top] - slope / (2 * curvature) if curvature < 0 else x[top]
    return float(np.clip(place, x[low], x[high])), float(y[top])


def mean_square_displacement(positions: np.ndarray, interval: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean-square displacement of every atom, averaged over all origins in time.

    Parameters
    ----------
    positions
        Unwrapped positions, equally spaced in time, without the motion of the centre of mass [Angstrom], shape
        (frames, atoms, 3).
    interval
        Time between frames [ps].

    Returns
    -------
    lags
        Times [ps], up to half of the trajectory, a hundred at most, shape (lags,).
    displacements
        [Angstrom^2], shape (lags, atoms).
    """
    longest = max(len(positions) // 2, 1)
    lags = np.unique(np.linspace(1, longest, min(longest, _MOST_LAGS)).round().astype(int))
    squares = [((positions[lag:] - positions[:-lag]) ** 2).sum(axis=2).mean(axis=0) for lag in lags]
    return lags * interval, np.array(squares)


def diffusion_coefficient(lags: np.ndarray, displacements: np.ndarray) -> tuple[float, float]:
    """Return the diffusion coefficient in three dimensions and its standard error [cm^2/s].

    A straight line is fitted to the mean-square displacement of every atom, from a fifth of the longest lag on; its
    slope is 6 D. The error is that of the mean over the atoms, taken to be independent of each other: where they move
    in concert it is too small.

    Parameters
    ----------
    lags, displacements
        As :func:`mean_square_displacement` returns them, of two atoms or more.

    Raises
    ------
    StructureError
        If there is one atom, or fewer than two lags to fit.
    """
    late = lags >= _FIT_FROM * lags[-1]
    if displacements.shape[1] == 1 or late.sum() < 2:  # noqa: PLR2004 - a line has two coefficients
        raise StructureError(
            "A diffusion coefficient needs two atoms and a longer trajectory.", fix="raise production_ps or repeat."
        )
    slopes = np.polyfit(lags[late], displacements[late], 1)[0] / 6 * _A2_PER_PS_IN_CM2_PER_S
    return float(slopes.mean()), float(slopes.std(ddof=1) / np.sqrt(len(slopes)))


def without_drift(positions: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Return positions relative to the centre of mass of all atoms, shape (frames, atoms, 3) [Angstrom]."""
    centre = np.einsum("fax,a->fx", positions, masses / masses.sum())
    relative: np.ndarray = positions - centre[:, None]
    return relative


def density_profile(
    frames: Sequence[Atoms], species: str, *, above: str, axis: int, width: float = 0.1
) -> tuple[np.ndarray, np.ndarray]:
    """Return the number density of one species against its height above the mean plane of another.

    Heights run along the normal of the plane of the two other cell vectors, from the plane to its next image: atoms
    below the plane are found at the upper end.

    Parameters
    ----------
    frames
        Periodic structures of one cell.
    species
        Chemical symbol.
    above
        Chemical symbol of the plane, for example ``C`` of graphene.
    axis
        Cell vector (0, 1, 2) that leads out of the plane.
    width
        Width of the bins [Angstrom], rounded so that they fill the height.

    Returns
    -------
    height
        Centres of the bins [Angstrom], shape (bins,).
    density
        [1/Angstrom^3], shape (bins,).

    Raises
    ------
    StructureError
        If a species is not there.
    """
    for symbol in (species, above):
        require_species(frames[0], symbol)
    height = _heights(frames[0])[axis]
    bins = round(height / width)
    counts = sum(
        np.histogram(_height_above(frame, species, above, axis) * height, bins=bins, range=(0, height))[0]
        for frame in frames
    )
    slab = frames[0].cell.volume / bins
    return (np.arange(bins) + 0.5) * height / bins, np.asarray(counts) / (len(frames) * slab)


def bonds_kept(frames: Sequence[Atoms], pair: tuple[str, str], *, length: float, start: Atoms) -> float:
    """Return the share of the bonds of the start that are still there, on average over the frames [%].

    Parameters
    ----------
    frames
        Of one trajectory.
    pair
        Two chemical symbols.
    length
        Distance up to which two atoms are bonded [Angstrom].
    start
        The structure whose bonds are counted.

    Raises
    ------
    StructureError
        If there is no bond at the start.
    """
    for symbol in pair:
        require_species(start, symbol)
    first, second = (np.flatnonzero(start.symbols == symbol) for symbol in pair)
    bonded = np.argwhere(start.get_all_distances(mic=True)[np.ix_(first, second)] <= length)
    bonds = [(first[i], second[j]) for i, j in bonded if first[i] != second[j]]
    if not bonds:
        raise StructureError(
            f"No {pair[0]} and {pair[1]} are within {length} Angstrom at the start.", fix="raise the length."
        )
    i, j = np.array(bonds).T
    kept = [
        (find_mic(frame.positions[j] - frame.positions[i], frame.cell, frame.pbc)[1] <= length).mean()
        for frame in frames
    ]
    return 100 * float(np.mean(kept))


def require_species(atoms: Atoms, symbol: str) -> None:
    """Raise a ``StructureError`` if an element is not in a structure."""
    if symbol not in atoms.symbols:
        raise StructureError(
            f"There is no {symbol} in {atoms.get_chemical_formula()}.", fix="name an element of the structure."
        )


def _height_above(frame: Atoms, species: str, above: str, axis: int) -> np.ndarray:
    """Return heights in units of the cell, from 0 to 1; the plane may lie across the boundary of the cell."""
    scaled = frame.cell.scaled_positions(frame.positions)[:, axis]
    plane = scaled[frame.symbols == above]
    offset = plane - plane[0]
    mean = plane[0] + (offset - offset.round()).mean()
    heights: np.ndarray = (scaled[frame.symbols == species] - mean) % 1.0
    return heights


def _heights(atoms: Atoms) -> np.ndarray:
    """Return the distances between opposite faces of the cell [Angstrom]."""
    heights: np.ndarray = 1 / np.linalg.norm(atoms.cell.reciprocal(), axis=1)
    return heights


def _smallest_height(atoms: Atoms) -> float:
    return float(_heights(atoms).min())
