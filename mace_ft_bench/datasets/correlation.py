"""How many independent values a series in time has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_WINDOW = 5.0
"""Autocorrelation times that the sum over the autocorrelation function covers (Sokal)."""


def autocorrelation_time(values: Sequence[float] | np.ndarray) -> float:
    """Return the integrated autocorrelation time 1 + 2 sum(rho) of a series, in its own steps; at least 1.

    The sum ends at the first lag that is five times the sum so far (Sokal, doi 10.1007/978-1-4899-0319-8_6). Values
    this far apart count as independent: the variance of the mean of n values is variance * time / n.
    """
    deviations = np.asarray(values, dtype=float) - np.mean(values)
    count = len(deviations)
    spectrum = np.abs(np.fft.rfft(deviations, 2 * count)) ** 2
    covariance = np.fft.irfft(spectrum)[:count]
    if covariance[0] <= 0 or np.ptp(values) <= 1e-12 * np.abs(values).max():
        return 1.0
    times = 2 * np.cumsum(covariance / covariance[0]) - 1
    wide = np.flatnonzero(np.arange(count) >= _WINDOW * times)
    return max(float(times[wide[0] if wide.size else -1]), 1.0)
