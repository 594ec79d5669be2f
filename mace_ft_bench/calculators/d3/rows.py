"""The compiled sums of one atom over many others, in atomic units; the innermost loops of D3.

They run over plain arrays with all that depends on the two species outside, so the compiler turns them into vector
instructions. Anything that would stop it (a branch, a call into a mathematics library, a minimum) is avoided.

C6 coefficients are bilinear in weights of the reference systems, C6_ij = W_i · C6ref · W_j, which leaves five products
a pair, and the derivative with respect to the coordination number of the one atom needs only sums over the row.
"""

# ruff: noqa: PLR0913, PLR0917 - compiled functions take arrays, not objects

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ase.units import Bohr

from mace_ft_bench.calculators.d3.jit import Pack, compiled, inlined
from mace_ft_bench.calculators.d3.settings import TOUCHING_DISTANCE

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

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
