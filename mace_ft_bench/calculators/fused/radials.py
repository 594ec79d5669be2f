"""Radial functions of every layer as tables, one per pair of elements where a transform of the distance asks for it.

The functions are evaluated in double precision by mace's own modules on a fine grid; a table keeps as few of its points
as reach the accuracy of the model's dtype, because small tables stay in the cache of the processor. Points are uniform
in the root of the distance: the functions change fastest at short distances, and half as many points suffice as with
uniform distances. Tables of a pair of elements are made when it first comes within the cutoff: 89 elements have 4005
pairs.
"""

from __future__ import annotations

import copy
import threading
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.interpolate import make_interp_spline

LOWEST = 0.05
"""Start of the tables [Angstrom]; closer atoms are refused before."""
FEWEST, MOST = 128, 2048
"""Intervals of a table."""
ACCURACY = {np.dtype(np.float64): (1e-11, 2e-9), np.dtype(np.float32): (1e-7, 1e-6)}
"""Of values, and of slopes, between knots; relative to the largest of a function. Slopes are exact derivatives of the
interpolated values, so that forces are those of the energy whatever this is."""
_SMALL = 0.1
"""A function this much smaller than the largest one is as exact as one of this size."""


class RadialTable(NamedTuple):
    """The tables of one layer, as the kernels take them."""

    lowest: float
    """Root of the shortest distance [Angstrom^(1/2)]."""
    table_of: np.ndarray
    """Table of each pair of elements, or -1 (Z, Z)."""
    first_row: np.ndarray
    """First row of each table (T,)."""
    spacing: np.ndarray
    """Distance of its knots, in the root of the distance [Angstrom^(1/2)] (T,)."""
    rows: np.ndarray
    """f, h f', h^2 f'' with respect to the root at each knot; K C functions, and the density where there is one."""


class FixedRadials(NamedTuple):
    """Radial functions whose tables serve every pair of elements."""

    layers: list[RadialTable]
    """Tables of every layer."""


class Radials:
    """The radial functions of a ``ScaleShiftMACE``.

    Parameters
    ----------
    model
        The model; what is needed of it is copied.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - a ScaleShiftMACE
        self._embedding = _double(model.radial_embedding)
        self._networks = [_double(block.conv_tp_weights) for block in model.interactions]
        self._densities = [_double(block.density_fn) if has_density(block) else None for block in model.interactions]
        self._numbers = model.atomic_numbers.clone()
        self._cutoff = float(model.r_max)
        self._dtype = np.dtype(str(next(model.parameters()).dtype).removeprefix("torch."))
        self._lock = threading.Lock()
        self.by_pair = hasattr(model.radial_embedding, "distance_transform")
        """Whether the functions depend on the elements."""
        self.layers = [_empty(len(self._numbers)) for _ in self._networks]
        """Tables of every layer; replaced as a whole when one is added, never changed."""
        if not self.by_pair:
            # One table serves every pair.
            tables = [table._replace(table_of=np.zeros_like(table.table_of)) for table in self.layers]
            self.layers = [_extended(*item) for item in zip(tables, self._tabulate(0, 0), strict=True)]

    @property
    def known(self) -> np.ndarray:
        """Whether a pair of elements has its tables (Z, Z)."""
        known: np.ndarray = self.layers[0].table_of >= 0
        return known

    def add(self, pairs: np.ndarray) -> None:
        """Make the tables of pairs of elements (n, 2), except those that exist."""
        with self._lock:
            known = self.known
            wanted = {(min(pair), max(pair)) for pair in pairs.tolist()}
            for first, second in sorted(wanted):
                if not known[first, second]:
                    self._add(first, second)

    def _add(self, first: int, second: int) -> None:
        layers = []
        for table, new in zip(self.layers, self._tabulate(first, second), strict=True):
            table_of = table.table_of.copy()
            table_of[first, second] = table_of[second, first] = len(table.first_row)
            layers.append(_extended(table._replace(table_of=table_of), new))
        self.layers = layers

    def _tabulate(self, first: int, second: int) -> list[tuple[float, np.ndarray]]:
        """Return spacing and rows for every layer."""
        roots = np.linspace(LOWEST**0.5, self._cutoff**0.5, MOST + 1)
        return [_table(roots, values, self._dtype) for values in self._functions(roots**2, first, second)]

    @torch.no_grad()
    def _functions(self, distances: np.ndarray, first: int, second: int) -> list[np.ndarray]:
        """Return the functions of every layer (points, functions)."""
        elements = torch.eye(len(self._numbers), dtype=torch.float64)[[first, second]]
        edges = torch.tensor([[0], [1]]).expand(2, len(distances))
        features, envelope = self._embedding(torch.from_numpy(distances)[:, None], elements, edges, self._numbers)
        results = []
        for network, density in zip(self._networks, self._densities, strict=True):
            columns = [network(features)] + ([] if density is None else [torch.tanh(density(features) ** 2)])
            values = torch.cat(columns, dim=1)
            results.append((values if envelope is None else values * envelope).numpy())
        return results


def has_density(block: Any) -> bool:  # noqa: ANN401 - a block of mace
    """Whether an interaction block divides messages by the density of neighbours, instead of by a constant."""
    return "Density" in type(block).__name__


def _double(module: Any) -> Any:  # noqa: ANN401 - a module of mace
    return copy.deepcopy(module).double().requires_grad_(requires_grad=False)


def _empty(elements: int) -> RadialTable:
    nothing = np.zeros(0, np.int64)
    return RadialTable(LOWEST**0.5, np.full((elements, elements), -1), nothing, np.zeros(0), np.zeros((0, 0)))


def _extended(table: RadialTable, new: tuple[float, np.ndarray]) -> RadialTable:
    spacing, rows = new
    return RadialTable(
        table.lowest,
        table.table_of,
        np.append(table.first_row, len(table.rows)),
        np.append(table.spacing, spacing),
        np.concatenate([table.rows, rows]) if len(table.rows) else rows,
    )


def _table(roots: np.ndarray, values: np.ndarray, dtype: np.dtype) -> tuple[float, np.ndarray]:
    """Return spacing and rows of the coarsest table that is accurate enough."""
    derivatives = _derivatives(roots, values)
    intervals = FEWEST
    while intervals < MOST and not _accurate(roots, derivatives, MOST // intervals, ACCURACY[dtype]):
        intervals *= 2
    step = MOST // intervals
    spacing = float(roots[step] - roots[0])
    rows = np.stack([item[::step] * spacing**order for order, item in enumerate(derivatives)], axis=1)
    # One knot more, so that a distance rounded up to the cutoff still has a right end.
    rows = np.concatenate([rows.reshape(-1, values.shape[1]), np.zeros((3, values.shape[1]))])
    return spacing, np.ascontiguousarray(rows, dtype=dtype)


def _derivatives(roots: np.ndarray, values: np.ndarray) -> list[np.ndarray]:
    spline = make_interp_spline(roots, values, k=5)
    slopes, curvatures = spline(roots, 1), spline(roots, 2)
    # The envelope and its first two derivatives vanish at the cutoff; a spline is least exact at its end.
    slopes[-1] = curvatures[-1] = 0
    return [values, slopes, curvatures]


def _accurate(roots: np.ndarray, derivatives: list[np.ndarray], step: int, accuracy: tuple[float, float]) -> bool:
    """Whether a table of every ``step``-th point is accurate enough.

    The error of quintic Hermite interpolation at 0 <= x <= 1 within an interval is proportional to x^3 (1 - x)^3:
    values are worst in the middle, and the slope of this polynomial is at most 3.44 times its value there.
    """
    spacing = roots[step] - roots[0]
    f, slope, curvature = (item[::step] for item in derivatives)
    middle = (f[:-1] + f[1:]) / 2 + spacing * 5 / 32 * (slope[:-1] - slope[1:])
    middle += spacing**2 / 64 * (curvature[:-1] + curvature[1:])
    worst = np.abs(middle - derivatives[0][step // 2 :: step]).max(axis=0)
    scales = [np.abs(item).max(axis=0) for item in derivatives[:2]]
    of_value, of_slope = (np.maximum(scale, _SMALL * scale.max()) for scale in scales)
    return bool((worst <= accuracy[0] * of_value).all() and (3.44 * worst <= accuracy[1] * spacing * of_slope).all())
