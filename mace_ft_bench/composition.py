"""What the composition of structures explains of their energies: one zero per element."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_INDEPENDENT = 1e-8
"""Singular values of the compositions, relative to the largest, below which a direction is undetermined."""


def composition_shares(structures: Sequence[Sequence[str]]) -> tuple[NDArray[np.float64], list[str]]:
    """Return the share of every element in every structure, and the elements.

    Parameters
    ----------
    structures
        The chemical symbols of each.

    Returns
    -------
    array
        Shape (structures, elements); rows add up to one.
    list of str
        The elements, sorted.
    """
    elements = sorted({symbol for symbols in structures for symbol in symbols})
    shares = [[list(symbols).count(symbol) / len(symbols) for symbol in elements] for symbols in structures]
    return np.array(shares, dtype=float).reshape(len(structures), len(elements)), elements


def fit_element_zeros(shares: NDArray[np.float64], energies: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Fit a zero per element to energies per atom by least squares, the smallest where compositions leave a choice.

    Parameters
    ----------
    shares
        Shape (structures, elements).
    energies
        Energies per atom, shape (structures,) or (structures, n).

    Returns
    -------
    array
        The zeros, shape (elements,) or (elements, n).
    int
        Number of zeros, or of combinations of them, that the compositions determine: energies of no more structures
        are explained completely, whatever they are.
    """
    zeros, _, rank, _ = np.linalg.lstsq(shares, energies, rcond=_INDEPENDENT)
    return np.asarray(zeros, dtype=float), int(rank)
