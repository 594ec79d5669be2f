"""The compiled passes of D3 over the pairs of a structure, in atomic units.

Atoms are sorted into compact blocks of up to two dozen. For every block there is one list per species of all atoms that
any of its members may interact with, every pair of the structure on one list only. A pass over a block packs such a
list into contiguous arrays and runs over them once per member. The members of the block lead their own list, so that
member i starts behind itself.
"""

# ruff: noqa: C901, PLR0913, PLR0917 - compiled functions take arrays, not objects

from __future__ import annotations

import numpy as np

from mace_ft_bench.calculators.d3.jit import Pack, compiled
from mace_ft_bench.calculators.d3.rows import chain_row, count_row, rational_row, zero_row

REFERENCES = 5
"""Most reference systems an element has."""


@compiled
def _longest(starts: np.ndarray, blocks: tuple[int, int]) -> int:
    most = 0
    for block in range(blocks[0], blocks[1]):
        for species in range(starts.shape[1] - 1):
            most = max(most, starts[block, species + 1] - starts[block, species])
    return most


@compiled
def _pack(entries: Pack, span: Pack, geometry: Pack, origin: np.ndarray, packed: np.ndarray) -> int:
    """Write the places of a list relative to the origin; return their number."""
    atoms, shifts = entries
    positions, vectors = geometry
    first, last = span
    for p in range(first, last):
        j, s = atoms[p], shifts[p]
        for axis in range(3):
            packed[axis, p - first] = positions[j, axis] + vectors[s, axis] - origin[axis]
    size: int = last - first
    return size


@compiled
def _add_virial(virial: np.ndarray, place: Pack, force: Pack, count: int) -> None:
    x, y, z = place
    fx, fy, fz = force
    xx = xy = xz = yy = yz = zz = 0.0
    for p in range(count):
        xx += fx[p] * x[p]
        xy += fx[p] * y[p]
        xz += fx[p] * z[p]
        yy += fy[p] * y[p]
        yz += fy[p] * z[p]
        zz += fz[p] * z[p]
    virial[0, 0] += xx
    virial[0, 1] += xy
    virial[0, 2] += xz
    virial[1, 1] += yy
    virial[1, 2] += yz
    virial[2, 2] += zz


@compiled
def count_neighbours(
    blocks: Pack, lists: Pack, geometry: Pack, species: np.ndarray, law: Pack, counts: np.ndarray
) -> float:
    """Add the coordination numbers of the pairs of some blocks; return how many of them lie on each other.

    Parameters
    ----------
    blocks
        First and last block (excluded).
    lists
        Starts of the blocks; of the lists, shape (blocks, species + 1); and the entries (atoms, shifts).
    geometry
        Positions, shape (atoms, 3), and vectors of the shifts, shape (shifts, 3).
    species
        Species of the atoms.
    law
        Covalent distances of species, shape (species, species); cutoff; inverse width of the smooth step or 0.
    counts
        Coordination numbers, shape (atoms,), added to.
    """
    bounds, starts, entries = lists
    positions = geometry[0]
    radii, cutoff, per_width = law
    longest = _longest(starts, blocks)
    packed, added = np.empty((3, longest)), np.empty(longest)
    touching = 0.0
    for block in range(blocks[0], blocks[1]):
        origin = positions[bounds[block]]
        for other in range(radii.shape[0]):
            first = starts[block, other]
            size = _pack(entries, (first, starts[block, other + 1]), geometry, origin, packed)
            added[:size] = 0.0
            before = 0
            for i in range(bounds[block], bounds[block + 1]):
                before += species[i] == other
                place = (packed[0, before:size], packed[1, before:size], packed[2, before:size])
                own = (positions[i, 0] - origin[0], positions[i, 1] - origin[1], positions[i, 2] - origin[2])
                found = (radii[species[i], other], cutoff, per_width)
                total, near = count_row(place, own, found, added[before:size])
                counts[i] += total
                touching += near
            for p in range(size):
                counts[entries[0][first + p]] += added[p]
    return touching


@compiled
def chain_to_forces(
    blocks: Pack,
    lists: Pack,
    geometry: Pack,
    species: np.ndarray,
    law: Pack,
    back: np.ndarray,
    forces: np.ndarray,
    virial: np.ndarray,
) -> None:
    """Add the forces and the virial that come from the change of coordination numbers.

    Parameters are those of :func:`count_neighbours`, and ``back``, the derivative of the energy with respect to the
    coordination numbers.
    """
    bounds, starts, entries = lists
    positions = geometry[0]
    radii, cutoff, per_width = law
    longest = _longest(starts, blocks)
    packed, pulls, others = np.empty((3, longest)), np.empty((3, longest)), np.empty(longest)
    for block in range(blocks[0], blocks[1]):
        origin = positions[bounds[block]]
        for other in range(radii.shape[0]):
            first = starts[block, other]
            size = _pack(entries, (first, starts[block, other + 1]), geometry, origin, packed)
            pulls[:, :size] = 0.0
            for p in range(size):
                others[p] = back[entries[0][first + p]]
            before = 0
            for i in range(bounds[block], bounds[block + 1]):
                before += species[i] == other
                place = (packed[0, before:size], packed[1, before:size], packed[2, before:size])
                own = (positions[i, 0] - origin[0], positions[i, 1] - origin[1], positions[i, 2] - origin[2])
                found = (radii[species[i], other], cutoff, per_width)
                force = (pulls[0, before:size], pulls[1, before:size], pulls[2, before:size])
                tx, ty, tz = chain_row(place, own, found, (back[i], others[before:size]), force)
                _add_own(forces, virial, i, own, (tx, ty, tz))
            _add_virial(virial, (packed[0], packed[1], packed[2]), (pulls[0], pulls[1], pulls[2]), size)
            for p in range(size):
                for axis in range(3):
                    forces[entries[0][first + p], axis] += pulls[axis, p]


@compiled
def _add_own(forces: np.ndarray, virial: np.ndarray, i: int, own: Pack, force: Pack) -> None:
    x, y, z = own
    tx, ty, tz = force
    forces[i, 0] += tx
    forces[i, 1] += ty
    forces[i, 2] += tz
    virial[0, 0] += tx * x
    virial[0, 1] += tx * y
    virial[0, 2] += tx * z
    virial[1, 1] += ty * y
    virial[1, 2] += ty * z
    virial[2, 2] += tz * z


@compiled
def sum_pairs(
    blocks: Pack,
    lists: Pack,
    geometry: Pack,
    species: np.ndarray,
    law: Pack,
    tables: Pack,
    weights: np.ndarray,
    results: Pack,
) -> None:
    """Add site energies, derivatives with respect to coordination numbers, forces and virial of the pairs.

    Parameters
    ----------
    blocks, lists, geometry, species
        See :func:`count_neighbours`.
    law
        Whether the damping is rational; cutoff; inverse width of the smooth step or 0.
    tables
        C6 of the reference systems, shape (species, species, 5, 5), and the damping, shape (species, species, 6).
    weights
        Weights of the reference systems and their derivatives, shape (atoms, 2, 5).
    results
        Energies, shape (atoms,); derivatives, (atoms,); forces, (atoms, 3); virial, (3, 3): upper triangle.
    """
    bounds, starts, entries = lists
    positions = geometry[0]
    rational, cutoff, per_width = law
    c6, damping = tables
    energies, back, forces, virial = results
    longest = _longest(starts, blocks)
    packed, shares, added = np.empty((3, longest)), np.empty((2 * REFERENCES, longest)), np.empty((5, longest))
    mixed, slopes = np.empty(REFERENCES), np.empty(REFERENCES)
    for block in range(blocks[0], blocks[1]):
        origin = positions[bounds[block]]
        for other in range(c6.shape[0]):
            first = starts[block, other]
            size = _pack(entries, (first, starts[block, other + 1]), geometry, origin, packed)
            added[:, :size] = 0.0
            for p in range(size):
                j = entries[0][first + p]
                for a in range(REFERENCES):
                    shares[a, p] = weights[j, 0, a]
                    shares[REFERENCES + a, p] = weights[j, 1, a]
            before = 0
            for i in range(bounds[block], bounds[block + 1]):
                kind = species[i]
                before += kind == other
                for b in range(REFERENCES):
                    mixed[b] = 0.0
                    slopes[b] = 0.0
                    for a in range(REFERENCES):
                        mixed[b] += weights[i, 0, a] * c6[kind, other, a, b]
                        slopes[b] += weights[i, 1, a] * c6[kind, other, a, b]
                place = (packed[0, before:size], packed[1, before:size], packed[2, before:size])
                own = (positions[i, 0] - origin[0], positions[i, 1] - origin[1], positions[i, 2] - origin[2])
                d = damping[kind, other]
                v = (mixed[0], mixed[1], mixed[2], mixed[3], mixed[4])
                w = (
                    shares[0, before:size],
                    shares[1, before:size],
                    shares[2, before:size],
                    shares[3, before:size],
                    shares[4, before:size],
                    shares[5, before:size],
                    shares[6, before:size],
                    shares[7, before:size],
                    shares[8, before:size],
                    shares[9, before:size],
                )
                out = (
                    added[0, before:size],
                    added[1, before:size],
                    added[2, before:size],
                    added[3, before:size],
                    added[4, before:size],
                )
                if rational:
                    pair = (d[0], d[1], d[2], d[3])
                    tx, ty, tz, sums = rational_row(place, own, (cutoff, per_width), pair, v, w, out)
                else:
                    full = (d[0], d[1], d[2], d[3], d[4], d[5])
                    tx, ty, tz, sums = zero_row(place, own, (cutoff, per_width), full, v, w, out)
                for b in range(REFERENCES):
                    energies[i] -= 0.5 * mixed[b] * sums[b]
                    back[i] -= slopes[b] * sums[b]
                _add_own(forces, virial, i, own, (tx, ty, tz))
            _add_virial(virial, (packed[0], packed[1], packed[2]), (added[0], added[1], added[2]), size)
            for p in range(size):
                j = entries[0][first + p]
                for axis in range(3):
                    forces[j, axis] += added[axis, p]
                back[j] += added[3, p]
                energies[j] += added[4, p]
