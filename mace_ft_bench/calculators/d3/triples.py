"""The compiled three-body sum of Axilrod, Teller and Muto as D3 damps it, in atomic units.

Every triangle is met at each of its three corners. A corner collects the whole derivative with respect to its own two
edges, a third of the energy and half of the virial of these edges, so that nothing is written to other atoms.
"""

# ruff: noqa: C901, PLR0913, PLR0917 - compiled functions take arrays, not objects

from __future__ import annotations

import numpy as np

from mace_ft_bench.calculators.d3.jit import Pack, compiled
from mace_ft_bench.calculators.d3.kernels import REFERENCES

SCALE = (4.0 / 3.0) ** 16
"""Sixteenth power of the scale of the radii; 16 is the exponent of the damping."""


@compiled
def _triangle(a: float, b: float, c: float, radii: float) -> tuple[float, float, float]:
    """Return the energy of squared sides a, b, c per C9, and its derivatives with respect to a and b.

    ``radii`` is the product of the squared radii of the three pairs.
    """
    product = a * b * c
    root = np.sqrt(product)
    angle = (a + c - b) * (a + b - c) * (b + c - a)
    strength = 0.375 / (product * product * root)
    value = strength * angle + 1.0 / (product * root)
    ratio = radii / product
    off = 6.0 * SCALE * ratio * ratio * ratio ** (2.0 / 3.0)
    damping = 1.0 / (1.0 + off)
    fall = damping * off * damping * (8.0 / 3.0)
    change = -2.5 * strength * angle - 1.5 / (product * root)
    slope_a = strength * (2.0 * a * (b + c) - 3.0 * a * a + (b - c) * (b - c)) + change / a
    slope_b = strength * (2.0 * b * (a + c) - 3.0 * b * b + (a - c) * (a - c)) + change / b
    return damping * value, damping * slope_a + fall / a * value, damping * slope_b + fall / b * value


@compiled
def _gather(i: int, span: Pack, lists: Pack, geometry: Pack, near: np.ndarray, who: np.ndarray) -> int:
    """Collect vectors and squared distances of the neighbours of an atom; return their number."""
    (atoms, shifts), square = lists
    positions, vectors = geometry
    count = 0
    for p in range(span[0], span[1]):
        j, s = atoms[p], shifts[p]
        if j == i and s == 0:
            continue
        total = 0.0
        for axis in range(3):
            near[axis, count] = positions[j, axis] + vectors[s, axis] - positions[i, axis]
            total += near[axis, count] * near[axis, count]
        near[3, count] = total
        who[count] = j
        count += total <= square
    return count


@compiled
def _mix(first: np.ndarray, table: np.ndarray, second: np.ndarray) -> float:
    total = 0.0
    for a in range(REFERENCES):
        for b in range(REFERENCES):
            total += first[a] * table[a, b] * second[b]
    return total


@compiled
def sum_triples(
    blocks: Pack,
    lists: Pack,
    geometry: Pack,
    species: np.ndarray,
    law: Pack,
    tables: Pack,
    weights: np.ndarray,
    results: Pack,
) -> None:
    """Add the three-body part.

    Parameters
    ----------
    blocks, geometry, species, weights, results
        As for :func:`mace_ft_bench.calculators.d3.kernels.sum_pairs`.
    lists
        As there, but every pair on the lists of both its atoms.
    law
        Cutoff of all three sides, as a tuple of one.
    tables
        C6 of the reference systems, shape (species, species, 5, 5), and squared radii, shape (species, species).
    """
    bounds, starts, entries = lists
    square = law[0] * law[0]
    c6, radii = tables
    energies, back, forces, virial = results
    longest = 0
    for block in range(blocks[0], blocks[1]):
        longest = max(longest, starts[block, -1] - starts[block, 0])
    near, who = np.empty((4, longest + 1)), np.empty(longest + 1, dtype=np.int32)
    own, slope, pull, share = np.empty(longest), np.empty(longest), np.empty(longest), np.empty(longest)
    for block in range(blocks[0], blocks[1]):
        span = (starts[block, 0], starts[block, -1])
        for i in range(bounds[block], bounds[block + 1]):
            count = _gather(i, span, (entries, square), geometry, near, who)
            for p in range(count):
                table = c6[species[i], species[who[p]]]
                own[p] = _mix(weights[i, 0], table, weights[who[p], 0])
                slope[p] = _mix(weights[i, 1], table, weights[who[p], 0])
                pull[p] = 0.0
                share[p] = 0.0
            for p in range(count):
                j = who[p]
                for q in range(p):
                    k = who[q]
                    c = 0.0
                    for axis in range(3):
                        side = near[axis, p] - near[axis, q]
                        c += side * side
                    if c > square:
                        continue
                    across = _mix(weights[j, 0], c6[species[j], species[k]], weights[k, 0])
                    r = radii[species[i], species[j]] * radii[species[i], species[k]] * radii[species[j], species[k]]
                    c9 = np.sqrt(own[p] * own[q] * across)
                    energy, slope_p, slope_q = _triangle(near[3, p], near[3, q], max(c, 1e-4), r)
                    share[p] += c9 * energy
                    share[q] += c9 * energy
                    pull[p] += 2.0 * c9 * slope_p
                    pull[q] += 2.0 * c9 * slope_q
            for p in range(count):
                energies[i] += share[p] / 6.0  # a third of the triangle, which is counted at both its edges here
                back[i] += 0.5 * share[p] / own[p] * slope[p]
                for axis in range(3):
                    force = pull[p] * near[axis, p]
                    forces[i, axis] += force
                    for other in range(axis, 3):
                        virial[axis, other] -= 0.5 * force * near[other, p]
