"""The compiled search behind :func:`mace_ft_bench.calculators.d3.blocks.list_within`."""

# ruff: noqa: C901, PLR0912 - compiled functions take arrays, not objects

from __future__ import annotations

import numpy as np

from mace_ft_bench.calculators.d3.jit import Pack, exact


@exact
def _gap(low: float, high: float, other_low: float, other_high: float) -> float:
    return max(other_low - high, low - other_high, 0.0)


@exact
def _visit(block: int, common: Pack, entries: Pack, places: np.ndarray) -> None:
    """Walk through the list of a block; advance the places of its species, and write entries if there is room."""
    bounds, boxes, species, positions, vectors, positive, reach, half = common
    atoms, shifts = entries
    square = reach * reach
    low, high = boxes[0, block], boxes[1, block]
    write = len(atoms) > 0
    if half:
        for j in range(bounds[block], bounds[block + 1]):
            if write:
                atoms[places[species[j]]] = j
                shifts[places[species[j]]] = 0
            places[species[j]] += 1
    for other in range(len(bounds) - 1):
        # Of two blocks the one that owns their pairs alternates, so that all lists are about as long.
        if half and other != block and (block < other) == ((block + other) % 2 == 1):
            continue
        for s in range(len(vectors)):
            if half and other == block and not positive[s]:
                continue
            far = 0.0
            for axis in range(3):
                v = vectors[s, axis]
                gap = _gap(low[axis], high[axis], boxes[0, other, axis] + v, boxes[1, other, axis] + v)
                far += gap * gap
            if far > square:
                continue
            for j in range(bounds[other], bounds[other + 1]):
                far = 0.0
                for axis in range(3):
                    x = positions[j, axis] + vectors[s, axis]
                    gap = _gap(low[axis], high[axis], x, x)
                    far += gap * gap
                if far <= square:
                    if write:
                        atoms[places[species[j]]] = j
                        shifts[places[species[j]]] = s
                    places[species[j]] += 1


@exact
def count_entries(blocks: Pack, common: Pack, sizes: np.ndarray) -> None:
    """Write the number of entries per block and species."""
    nothing = np.empty(0, dtype=np.int32)
    for block in range(blocks[0], blocks[1]):
        _visit(block, common, (nothing, nothing), sizes[block])


@exact
def fill_entries(blocks: Pack, common: Pack, starts: np.ndarray, entries: Pack) -> None:
    """Write the entries of some blocks."""
    for block in range(blocks[0], blocks[1]):
        _visit(block, common, entries, starts[block, :-1].copy())
