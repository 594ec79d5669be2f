"""Split many structures into batches that fit into memory."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_log = logging.getLogger("mace_ft_bench")

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def run_in_batches(
    items: Sequence[_Item], sizes: Sequence[int], budget: int, work: Callable[[Sequence[_Item]], list[_Result]]
) -> list[_Result]:
    """Call ``work`` on consecutive items whose sizes add up to the budget at most; halve a batch that memory refuses.

    Parameters
    ----------
    items
        What to work on.
    sizes
        Size of each.
    budget
        Largest sum of sizes in one batch; a single larger item is a batch of its own.
    work
        Returns one result per item, in order.

    Raises
    ------
    MemoryError
        Or what torch raises, if a single item does not fit.
    """
    results: list[_Result] = []
    for start, stop in _spans(sizes, budget):
        results += _halving(items[start:stop], work)
    return results


def _spans(sizes: Sequence[int], budget: int) -> Iterator[tuple[int, int]]:
    start = total = 0
    for index, size in enumerate(sizes):
        if index > start and total + size > budget:
            yield start, index
            start, total = index, 0
        total += size
    if start < len(sizes):
        yield start, len(sizes)


def _halving(items: Sequence[_Item], work: Callable[[Sequence[_Item]], list[_Result]]) -> list[_Result]:
    try:
        return work(items)
    except (MemoryError, RuntimeError) as error:
        if len(items) == 1 or not is_out_of_memory(error):
            raise
    middle = len(items) // 2
    _log.warning("A batch of %d structures does not fit into memory; it is split.", len(items))
    return _halving(items[:middle], work) + _halving(items[middle:], work)


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; torch says so by a subclass of RuntimeError on GPUs, and in words on CPUs."""
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)
