"""Real spherical harmonics of one degree from those of the degree below.

A solid harmonic of degree l is a homogeneous polynomial, so its gradient is made of solid harmonics of degree l - 1,
and Euler's theorem, ``l S_l = x . grad S_l``, builds the values from the same coefficients (doi 10.1063/5.0156307
derives such recursions). The coefficients are read off e3nn's own harmonics, and so follow its order and sign.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch

from mace_ft_bench.torch_env import mace_environment

with mace_environment():
    from e3nn import o3

_ZERO = 1e-9


class Lift(NamedTuple):
    """Sparse coefficients, one entry per index: ``grad_axis S_target`` contains ``slope`` times ``S_source``."""

    target: np.ndarray
    """Component ``l**2 + m`` (T,)."""
    axis: np.ndarray
    """0, 1, 2 for x, y, z (T,)."""
    source: np.ndarray
    """Component of degree l - 1 (T,)."""
    value: np.ndarray
    """``slope / l``: contribution of ``x_axis S_source`` to ``S_target`` (T,)."""
    slope: np.ndarray


@functools.cache
def lift(max_ell: int, dtype: np.dtype) -> Lift:
    """Return the coefficients up to degree ``max_ell``, sorted by degree; arrays that are shared, not to be changed."""
    rows = [row for ell in range(1, max_ell + 1) for row in _one_degree(ell)]
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    target, axis, source = (np.array(column, dtype=np.int64) for column in columns[:3])
    slope = np.array(columns[3])
    degree = np.sqrt(target).astype(np.int64)
    return Lift(target, axis, source, (slope / np.maximum(degree, 1)).astype(dtype), slope.astype(dtype))


@torch.enable_grad()  # whatever the caller does with gradients
def _one_degree(ell: int) -> list[tuple[int, int, int, float]]:
    points = torch.from_numpy(np.random.default_rng(ell).normal(size=(8 * (ell + 1), 3))).requires_grad_()
    lower = _solid(ell - 1, points).detach().numpy()
    upper = _solid(ell, points)
    rows = []
    for m in range(2 * ell + 1):
        (gradient,) = torch.autograd.grad(upper[:, m].sum(), points, retain_graph=True)
        coefficients = np.linalg.lstsq(lower, gradient.numpy(), rcond=None)[0]
        rows += [
            (ell**2 + m, int(axis), (ell - 1) ** 2 + int(source), float(coefficients[source, axis]))
            for source, axis in np.argwhere(np.abs(coefficients) > _ZERO)
        ]
    return rows


def _solid(ell: int, points: torch.Tensor) -> torch.Tensor:
    values: torch.Tensor = o3.spherical_harmonics(ell, points, normalize=False, normalization="component")
    return values
