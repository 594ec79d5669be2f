"""How a time grows with the number of atoms: a power law by least squares."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_FEWEST = 2
"""Sizes that determine a power law; one more also says how well."""


@dataclass(frozen=True)
class PowerLaw:
    """``time = factor * atoms ** exponent``."""

    exponent: float
    standard_error: float | None
    """Of the exponent, from the residuals; None for two sizes, which any power law fits."""
    factor: float
    """In the unit of the times."""
    sizes: int
    """Number of different sizes."""

    def __str__(self) -> str:
        error = "" if self.standard_error is None else f" ± {self.standard_error:.2f}"
        return f"{self.exponent:.2f}{error}"

    def __call__(self, atoms: float) -> float:
        """Return the time at a size."""
        return float(self.factor * atoms**self.exponent)


def fit_power_law(atoms: Sequence[float], times: Sequence[float]) -> PowerLaw | None:
    """Fit log time over log atoms by least squares; None for fewer than two different sizes.

    Parameters
    ----------
    atoms
        Numbers of atoms (n,).
    times
        Times (n,), in any unit.
    """
    sizes = len(set(atoms))
    if sizes < _FEWEST:
        return None
    x, y = np.log(np.asarray(atoms, dtype=float)), np.log(np.asarray(times, dtype=float))
    error = None
    if sizes > _FEWEST:
        error = math.sqrt(np.polyfit(x, y, 1, cov=True)[1][0, 0])
    exponent, offset = np.polyfit(x, y, 1)
    return PowerLaw(float(exponent), error, math.exp(offset), sizes)
