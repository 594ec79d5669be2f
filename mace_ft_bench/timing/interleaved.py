"""Time several ways of doing one thing in turns, so that a busy machine disturbs all of them alike."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Times:
    """Times of several ways [ms]; every round times each way once."""

    samples: dict[str, tuple[float, ...]]

    def median(self, name: str) -> float:
        """Return the median time of one way [ms]."""
        return float(np.median(self.samples[name]))

    def ratio(self, slow: str, fast: str) -> float:
        """Return the median over the rounds of how many times longer ``slow`` takes than ``fast``."""
        return float(np.median(np.array(self.samples[slow]) / np.array(self.samples[fast])))


def time_in_turns(
    ways: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 1,
    on_round: Callable[[Mapping[str, float]], None] | None = None,
) -> Times:
    """Call every way once per round, starting with another one each time, and time it.

    Parameters
    ----------
    ways
        What to time, by name.
    rounds
        Number of timed rounds.
    warmup
        Rounds before them, not timed: compilation, caches, first lists.
    on_round
        Called after every timed round with its times [ms].
    """
    samples: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways)
    for turn in range(warmup + rounds):
        shift = turn % len(order)  # what runs after a threaded way finds its threads still spinning
        for name in order[shift:] + order[:shift]:
            start = perf_counter()
            ways[name]()
            if turn >= warmup:
                samples[name].append(1000 * (perf_counter() - start))
        if turn >= warmup and on_round is not None:
            on_round({name: values[-1] for name, values in samples.items()})
    return Times({name: tuple(values) for name, values in samples.items()})
