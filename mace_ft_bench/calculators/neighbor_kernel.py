"""The compiled part of :mod:`mace_ft_bench.calculators.neighbors`; imported on first use, because numba is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numba import njit

if TYPE_CHECKING:
    import numpy as np


@njit(cache=True, nogil=True, error_model="numpy")
def keep_within(  # pragma: no cover - compiled
    candidates: tuple[np.ndarray, np.ndarray, np.ndarray],
    positions: np.ndarray,
    cell: np.ndarray,
    cutoff: float,
    kept: Any,  # noqa: ANN401 - a tuple of arrays
) -> int:
    """Write the candidates that lie within the cutoff to ``kept`` and return their number.

    Without fastmath, so that a pair at the rim is judged the same at every call. Every pair is written to the next free
    place and the place is given up if the pair is too long: that has no branch to mispredict.
    """
    first, second, shifts = candidates
    kept_first, kept_second, kept_shifts, vectors, distances = kept
    square = cutoff * cutoff
    count = 0
    for pair in range(len(first)):
        i, j = first[pair], second[pair]
        a, b, c = shifts[pair, 0], shifts[pair, 1], shifts[pair, 2]
        x = positions[j, 0] - positions[i, 0] + (a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0])
        y = positions[j, 1] - positions[i, 1] + (a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1])
        z = positions[j, 2] - positions[i, 2] + (a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2])
        distance = x * x + y * y + z * z
        kept_first[count], kept_second[count] = i, j
        kept_shifts[count, 0], kept_shifts[count, 1], kept_shifts[count, 2] = a, b, c
        vectors[count, 0], vectors[count, 1], vectors[count, 2] = x, y, z
        distances[count] = distance
        count += distance <= square
    for pair in range(count):
        distances[pair] = distances[pair] ** 0.5
    return count
