"""The compiled passes of D3 over the pairs of a structure, in atomic units.

Atoms are sorted into compact blocks of up to two dozen. For every block there is one list per species of all atoms that
any of its members may interact with, every pair of the structure on one list only. A pass over a block packs such a
list into contiguous arrays and runs over them once per member: the ``row`` functions, with all that depends on the two
species outside, which the compiler turns into vector instructions. Anything that would stop it (a branch, a call into a
mathematics library, a minimum) is avoided. The members of the block lead their own list, so that member i starts behind
itself.

C6 coefficients are bilinear in weights of the reference systems, C6_ij = W_i · C6ref · W_j, which leaves five products
a pair, and the derivative with respect to the coordination number of the one atom needs only sums over the row.

All of it lies in one file because numba's cache notices changes of the file of a kernel, not of what the kernel calls.
"""

# ruff: noqa: C901, PLR0913, PLR0917 - compiled functions take arrays, not objects

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from ase.units import Bohr

from mace_ft_bench.calculators.d3.jit import Pack, compiled, inlined
from mace_ft_bench.calculators.d3.settings import TOUCHING_DISTANCE

if TYPE_CHECKING:
    from collections.abc import Callable

REFERENCES = 5
"""Most reference systems an element has."""
COUNTING_STEEPNESS = 16.0
"""k1 of the counting function."""

TOUCHING = (TOUCHING_DISTANCE / Bohr) ** 2
"""Square of the distance [bohr^2] below which two atoms count as one put in twice."""

_CLOSEST = 1e-4
"""Square of the distance [bohr^2] below which pairs are evaluated as if they were that far; they are refused later."""
_FURTHEST_RATIO = 3.0
"""Ratio of covalent radius to distance above which the counting function is 1 to 1e-14."""
_HALF_COUNT = math.exp(COUNTING_STEEPNESS)


@inlined
def _power16(u: float) -> float:
    """Return exp(16 u) for 0 <= u <= 3 to 1e-14: a Taylor polynomial of exp(u/4), squared six times; it vectorises."""
    t = 0.25 * u
    e = 1.0 + t / 12.0
    e = 1.0 + e * t / 11.0
    e = 1.0 + e * t / 10.0
    e = 1.0 + e * t / 9.0
    e = 1.0 + e * t / 8.0
    e = 1.0 + e * t / 7.0
    e = 1.0 + e * t / 6.0
    e = 1.0 + e * t / 5.0
    e = 1.0 + e * t / 4.0
    e = 1.0 + e * t / 3.0
    e = 1.0 + e * t / 2.0
    e = 1.0 + e * t
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    return e * e


@inlined
def _step(r: float, cutoff: float, per_width: float) -> tuple[float, float]:
    """Return the quintic step that falls from 1 to 0 before the cutoff, and its derivative."""
    x = min(max((cutoff - r) * per_width, 0.0), 1.0)
    rest = 1.0 - x
    return x * x * x * (10.0 + x * (6.0 * x - 15.0)), -30.0 * x * x * rest * rest * per_width


@inlined
def _counting(r2: float, radius: float, cutoff: float, per_width: float) -> tuple[float, float]:
    """Return the counting function and its derivative over the distance."""
    r2 = max(r2, _CLOSEST)
    u = radius / math.sqrt(r2)
    e = _power16(min(u, _FURTHEST_RATIO))
    inverse = 1.0 / (e + _HALF_COUNT)
    count = e * inverse
    slope = -COUNTING_STEEPNESS * u * count * _HALF_COUNT * inverse / r2
    if per_width > 0.0:
        r = math.sqrt(r2)
        factor, fall = _step(r, cutoff, per_width)
        slope = slope * factor + count * fall / r
        count *= factor
    return count, slope


@inlined
def _rational(r2: float, pair: Pack) -> tuple[float, float]:
    """Becke-Johnson damping: return g of E = -C6 g(r), and -g'(r)/r."""
    s6, s8, radius6, radius8 = pair
    r4 = r2 * r2
    r6 = r4 * r2
    below6 = r6 + radius6
    below8 = r4 * r4 + radius8
    inverse = 1.0 / (below6 * below8)
    f6 = inverse * below8
    f8 = inverse * below6
    return s6 * f6 + s8 * f8, 6.0 * s6 * f6 * f6 * r4 + 8.0 * s8 * f8 * f8 * r6


@inlined
def _zero(r2: float, pair: Pack) -> tuple[float, float]:
    """Zero damping and its modified form: 1 / (r^n (1 + 6 t^-m)), t = slope r + offset, m = 14 and 16."""
    s6, s8, slope6, slope8, offset6, offset8 = pair
    r = math.sqrt(r2)
    inverse = 1.0 / r2
    t = slope6 * r + offset6
    t2 = t * t
    t4 = t2 * t2
    t14 = t4 * t4 * t4 * t2
    off = 6.0 / (t14 + 6.0)
    f6 = s6 * (1.0 - off) * inverse * inverse * inverse
    h6 = f6 * (6.0 * inverse - 14.0 * slope6 * off / (t * r))
    t = slope8 * r + offset8
    t2 = t * t
    t4 = t2 * t2
    t8 = t4 * t4
    off = 6.0 / (t8 * t8 + 6.0)
    f8 = s8 * (1.0 - off) * inverse * inverse * inverse * inverse
    h8 = f8 * (8.0 * inverse - 16.0 * slope8 * off / (t * r))
    return f6 + f8, h6 + h8


@compiled
def count_row(place: Pack, own: Pack, law: Pack, counts: np.ndarray) -> tuple[float, float]:
    """Count the neighbours of one atom; return the count and how many are on top of it."""
    x, y, z = place
    xi, yi, zi = own
    radius, cutoff, per_width = law
    square = cutoff * cutoff
    total = 0.0
    touching = 0.0
    for p in range(x.size):
        dx, dy, dz = x[p] - xi, y[p] - yi, z[p] - zi
        r2 = dx * dx + dy * dy + dz * dz
        touching += 1.0 if r2 < TOUCHING else 0.0
        count, _ = _counting(r2, radius, cutoff, per_width)
        count = count if r2 <= square else 0.0
        total += count
        counts[p] += count
    return total, touching


@compiled
def chain_row(place: Pack, own: Pack, law: Pack, back: Pack, force: Pack) -> tuple[float, float, float]:
    """Turn derivatives with respect to coordination numbers into forces; return the force on the one atom."""
    x, y, z = place
    xi, yi, zi = own
    radius, cutoff, per_width = law
    mine, others = back
    fx, fy, fz = force
    square = cutoff * cutoff
    tx = ty = tz = 0.0
    for p in range(x.size):
        dx, dy, dz = x[p] - xi, y[p] - yi, z[p] - zi
        r2 = dx * dx + dy * dy + dz * dz
        _, slope = _counting(r2, radius, cutoff, per_width)
        pull = (mine + others[p]) * slope
        pull = pull if r2 <= square else 0.0
        fx[p] -= pull * dx
        fy[p] -= pull * dy
        fz[p] -= pull * dz
        tx += pull * dx
        ty += pull * dy
        tz += pull * dz
    return tx, ty, tz


def _make_pair_row(damping: Callable[..., tuple[float, float]]) -> Callable[..., Pack]:
    """Return the row function of a damping; one source for both."""

    def row(place: Pack, own: Pack, law: Pack, pair: Pack, mixed: Pack, weights: Pack, out: Pack) -> Pack:
        x, y, z = place
        xi, yi, zi = own
        cutoff, per_width = law
        v0, v1, v2, v3, v4 = mixed
        w0, w1, w2, w3, w4, d0, d1, d2, d3, d4 = weights
        fx, fy, fz, back, energy = out
        square = cutoff * cutoff
        tx = ty = tz = a0 = a1 = a2 = a3 = a4 = 0.0
        for p in range(x.size):
            dx, dy, dz = x[p] - xi, y[p] - yi, z[p] - zi
            r2 = dx * dx + dy * dy + dz * dz
            keep = 1.0 if r2 <= square else 0.0
            r2 = max(r2, _CLOSEST)
            g, h = damping(r2, pair)
            if per_width > 0.0:
                r = math.sqrt(r2)
                factor, fall = _step(r, cutoff, per_width)
                h = h * factor - g * fall / r
                g *= factor
            g *= keep
            c6 = v0 * w0[p] + v1 * w1[p] + v2 * w2[p] + v3 * w3[p] + v4 * w4[p]
            slope = v0 * d0[p] + v1 * d1[p] + v2 * d2[p] + v3 * d3[p] + v4 * d4[p]
            a0 += g * w0[p]
            a1 += g * w1[p]
            a2 += g * w2[p]
            a3 += g * w3[p]
            a4 += g * w4[p]
            back[p] -= g * slope
            energy[p] -= 0.5 * g * c6
            pull = h * c6 * keep
            fx[p] -= pull * dx
            fy[p] -= pull * dy
            fz[p] -= pull * dz
            tx += pull * dx
            ty += pull * dy
            tz += pull * dz
        return tx, ty, tz, (a0, a1, a2, a3, a4)

    return row


rational_row = compiled(_make_pair_row(_rational))
zero_row = compiled(_make_pair_row(_zero))


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
