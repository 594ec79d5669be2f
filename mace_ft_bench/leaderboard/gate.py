"""A gate: whether a model is at least as good as the one it is to replace, case by case.

Means hide what got worse, so no mean is taken: every case that both models cover has to hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mace_ft_bench.leaderboard.score import Records, case_score
from mace_ft_bench.results.record import FAILED, NOT_COVERED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mace_ft_bench.results.case import Case
    from mace_ft_bench.results.record import Record

Outcome = Literal["better", "as good", "worse", "failed", "not compared"]

RELATIVE_SLACK = 0.05
"""Growth of an error that still counts as good."""
TOLERANCE_SLACK = 0.02
"""The same as a share of the metric's tolerance, for errors near zero."""
DYNAMICS_SLACK = 1.0
"""The same for molecular dynamics: trajectories are chaotic, and averages over picoseconds scatter."""
GAIN = 0.02
"""Gain of score from which on a case is better: one at its tolerance scores 0.5, a perfect one 1."""


@dataclass(frozen=True)
class Comparison:
    """One case on both models."""

    case: str
    outcome: Outcome
    score: float | None
    """Of the model; None where it does not cover the case."""
    parent_score: float | None
    reason: str = ""
    """Why a case failed or was not compared."""


def compare_models(cases: Iterable[Case], records: Records, *, model: str, parent: str) -> list[Comparison]:
    """Compare two models on the scored cases.

    A case that either model does not cover is not compared, nor one on which both come to nothing. One on which the
    model fails and its parent does not has failed, whatever the parent's error was, and so has one that ended in an
    error: what crashes was not judged. A case is worse if any of its errors grew, whatever became of the others.

    Parameters
    ----------
    cases
        Those without metrics are left out.
    records
        Of both models on all of these cases.
    model, parent
        Their names in the records.
    """
    scored = [case for case in cases if case.metrics]
    return [_compared(case, records[model, case.id], records[parent, case.id]) for case in scored]


def passes(comparisons: Sequence[Comparison]) -> bool:
    """Whether at least one case was compared and none of them failed or got worse."""
    outcomes = {item.outcome for item in comparisons}
    return bool(outcomes & {"better", "as good"}) and not outcomes & {"worse", "failed"}


def _compared(case: Case, own: Record, parent: Record) -> Comparison:
    scores = case_score(case, own), case_score(case, parent)
    for record in (own, parent):
        if record.status in NOT_COVERED:
            return Comparison(case.id, "not compared", *scores, f"{record.model}: {record.message}")
    if own.status == "error" or (own.status in FAILED and parent.status not in FAILED):
        return Comparison(case.id, "failed", *scores, own.message)
    if own.status in FAILED:
        return Comparison(case.id, "not compared", *scores, f"both failed; {own.model}: {own.message}")
    names = [] if parent.status in FAILED else grown(case, own.errors, parent.errors)
    if names:
        worse = ", ".join(case.metrics[name].label for name in names)
        return Comparison(case.id, "worse", *scores, f"larger: {worse}")
    better = (scores[0] or 0.0) - (scores[1] or 0.0) > GAIN
    return Comparison(case.id, "better" if better else "as good", *scores)


def grown(case: Case, errors: Mapping[str, float], before: Mapping[str, float]) -> list[str]:
    """Return the names of the metrics whose error grew beyond the slack, or that only ``before`` has.

    Averages of molecular dynamics may grow by a whole tolerance.

    Parameters
    ----------
    case
        Whose metrics count.
    errors, before
        Signed errors by metric, now and before.
    """
    slack = DYNAMICS_SLACK if case.property == "molecular_dynamics" else TOLERANCE_SLACK
    return [
        name
        for name, metric in case.metrics.items()
        if name in before
        and not abs(errors.get(name, math.inf)) <= (1 + RELATIVE_SLACK) * abs(before[name]) + slack * metric.tolerance
    ]
