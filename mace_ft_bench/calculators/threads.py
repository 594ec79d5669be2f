"""Threads for compiled code that releases the interpreter's lock.

Plain threads rather than numba's own: its default layer ends the process when two Python threads use it at once, and
OpenMP does not survive a fork.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
"""By process, because threads do not survive a fork, and number of threads."""


def thread_count() -> int:
    """Return the number of threads: ``OMP_NUM_THREADS``, or torch's setting if it is loaded; at most the cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    limit = int(wanted) if wanted.isdigit() and int(wanted) > 0 else cores
    torch: Any = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        limit = min(limit, torch.get_num_threads())
    return max(1, min(cores, limit))


def pool(threads: int) -> ThreadPoolExecutor:
    """Return the pool of so many threads of this process."""
    key = (os.getpid(), threads)
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(threads, thread_name_prefix="mace_ft_bench")
    return _pools[key]


def in_threads(function: Callable[..., None], parts: Sequence[Any]) -> None:
    """Call the function for every part, in threads; the first error is raised."""
    threads = min(thread_count(), len(parts))
    if threads < 2:  # noqa: PLR2004 - nothing to share
        return in_turn(function, parts)
    for _ in pool(threads).map(function, parts):
        pass
    return None


def in_turn(function: Callable[..., None], parts: Sequence[Any]) -> None:
    """Call the function for every part, one after the other."""
    for part in parts:
        function(part)
