"""How the kernels of D3 are compiled: once per machine, without the interpreter's lock.

Numbers are finite in all of them, which structure checks see to, so sums may be reordered for vector instructions.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from numba import njit

Pack: TypeAlias = tuple[Any, ...]
"""Arguments that belong together, named where they are unpacked."""

compiled = njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
inlined = njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
exact = njit(cache=True, nogil=True, error_model="numpy")
"""In the written order of operations, for decisions that have to come out the same twice."""
