"""Scores of metrics, cases and models; pure functions of records and cases.

A metric scores ``2 ** (-|error| / tolerance)``, a case the mean over its metrics, a model the mean over cases. Models
are ranked on the cases that all of them cover, so that nobody climbs by skipping a hard case; a failed case is covered
and scores zero, so that nobody climbs by failing one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from mace_ft_bench.results.record import FAILED, NOT_COVERED

if TYPE_CHECKING:
    from mace_ft_bench.results.case import Case
    from mace_ft_bench.results.record import Record

Kind = Literal["measured", "published"]

Records = Mapping[tuple[str, str], "Record"]
"""Current records by (model, case identifier)."""


def metric_score(error: float, tolerance: float) -> float:
    """Return ``2 ** (-|error| / tolerance)``: one without error, one half at the tolerance, falling towards zero.

    Parameters
    ----------
    error
        Signed error, in the unit of ``tolerance``.
    tolerance
        Error that scores one half; positive.

    Raises
    ------
    ValueError
        If the error is NaN or infinite, or the tolerance is not a positive finite number.
    """
    if not math.isfinite(error):
        raise ValueError(f"An error of {error} cannot be scored. To fix: record a failed status, not a number.")
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise ValueError(f"A tolerance of {tolerance} cannot score. To fix: give the error that scores one half.")
    return float(2.0 ** (-abs(error) / tolerance))


def case_score(case: Case, record: Record) -> float | None:
    """Return the mean score over the metrics of a case, or None where there is nothing to score.

    A failed record scores 0, and so does a metric whose error an ``ok`` record lacks. A record that does not cover the
    case, and a case without metrics, have no score.
    """
    if not case.metrics or record.status in NOT_COVERED:
        return None
    if record.status in FAILED:
        return 0.0
    return fmean(
        metric_score(record.errors[name], metric.tolerance) if name in record.errors else 0.0
        for name, metric in case.metrics.items()
    )


@dataclass(frozen=True)
class Standing:
    """Where one model stands."""

    model: str
    kind: Kind
    score: float | None
    """Mean over the cases that all ranked models cover; None if there are none, and for published rows."""
    own_score: float | None
    """Mean over the cases this model covers; not comparable between models of different coverage."""
    covered: int
    """Scored cases with a score, zero included."""
    scored: int
    """Scored cases there are."""
    failed: int
    """Attempted cases, scored or not, that ended in a failure."""
    wall_s: float | None = None
    """Wall time of all its attempts [s]."""
    us_per_atom: float | None = None
    """Time per MD step and atom of the largest system of a throughput record [microseconds]."""
    case_scores: Mapping[str, float | None] = field(default_factory=dict)
    """Score by identifier of every scored case; None where not covered."""
    partial: frozenset[str] = frozenset()
    """Cases scored on some of their metrics only (published rows)."""

    @property
    def coverage(self) -> float:
        """Fraction of the scored cases that is covered."""
        return self.covered / self.scored if self.scored else 0.0


@dataclass(frozen=True)
class Ranking:
    """Measured models in order, those that cannot be ranked, and the cases they were ranked on."""

    ranked: tuple[Standing, ...]
    """Best first."""
    unranked: tuple[Standing, ...]
    """Models that cover no scored case, or all models if they share none."""
    shared: tuple[str, ...]
    """Identifiers of the cases that the ranked models share."""

    def position(self, standing: Standing) -> int:
        """Return the rank from 1; equal scores share a rank."""
        score = standing.score or 0.0
        return 1 + sum((other.score or 0.0) > score for other in self.ranked)


def current_records(records: Iterable[Record], cases: Iterable[Case]) -> tuple[Records, tuple[Record, ...]]:
    """Split records into those that count and those that are stale.

    A record is current if it was run on the card as it is now. Of several current records of a (model, case) the last
    one started counts, in order of appearance where the start is not known. Records of cases that are not given, and of
    other modes, are left out.

    Returns
    -------
    current
        Records by (model, case).
    stale
        The last outdated record of each (model, case) that has no current one.
    """
    shown = {case.id: case for case in cases}
    hashes = {name: case.content_hash() for name, case in shown.items()}
    current: dict[tuple[str, str], Record] = {}
    stale: dict[tuple[str, str], Record] = {}
    for record in sorted(records, key=lambda item: item.provenance.started):
        if record.case in shown and is_of_mode(record, shown[record.case]):
            group = current if record.case_hash == hashes[record.case] else stale
            group[record.model, record.case] = record
    return current, tuple(record for pair, record in stale.items() if pair not in current)


def is_of_mode(record: Record, case: Case) -> bool:
    """Whether a record was run in the mode of a case, in another one of the same settings, or when there were none."""
    return "" in {record.mode, case.mode} or record.mode == case.mode or record.case_hash == case.content_hash()


def rank_models(records: Records, cases: Sequence[Case]) -> Ranking:
    """Rank the measured models by their score over the cases that all ranked models cover.

    A model that covers no scored case is not ranked: it would leave the others without a shared case.
    """
    models = sorted({model for model, _ in records})
    scores = {model: _scores(model, records, cases) for model in models}
    covering = [model for model in models if _covered(scores[model])]
    shared = tuple(case.id for case in cases if covering and all(scores[m].get(case.id) is not None for m in covering))
    standings = [_standing(model, scores[model], shared, records) for model in models]
    ranked = [standing for standing in standings if standing.score is not None]
    ranked.sort(key=lambda item: (-(item.score or 0.0), -item.coverage, item.model))
    return Ranking(tuple(ranked), tuple(item for item in standings if item.score is None), shared)


def mean_score(scores: Mapping[str, float | None], cases: Iterable[str] | None = None) -> float | None:
    """Return the mean over ``cases`` (all by default) that have a score, or None if none has."""
    wanted = scores if cases is None else cases
    found = [score for name in wanted if (score := scores.get(name)) is not None]
    return fmean(found) if found else None


def _scores(model: str, records: Records, cases: Sequence[Case]) -> dict[str, float | None]:
    found = {case.id: records.get((model, case.id)) for case in cases if case.metrics}
    by_id = {case.id: case for case in cases}
    return {name: case_score(by_id[name], record) if record else None for name, record in found.items()}


def _covered(scores: Mapping[str, float | None]) -> int:
    return sum(score is not None for score in scores.values())


def _standing(model: str, scores: dict[str, float | None], shared: tuple[str, ...], records: Records) -> Standing:
    own = [record for (name, _), record in records.items() if name == model]
    return Standing(
        model=model,
        kind="measured",
        score=mean_score(scores, shared) if _covered(scores) else None,
        own_score=mean_score(scores),
        covered=_covered(scores),
        scored=len(scores),
        failed=sum(record.status in FAILED for record in own),
        wall_s=sum(record.wall_s for record in own),
        us_per_atom=timed[1] if (timed := largest_timed(own)) else None,
        case_scores=scores,
    )


def largest_timed(records: Iterable[Record]) -> tuple[int, float] | None:
    """Return atoms and time per step and atom [microseconds] of the largest system timed: overheads matter least there.

    None without a throughput record that ended well.
    """
    timed = [record.result for record in records if record.property == "throughput" and record.result]
    pairs = [pair for result in timed for pair in zip(result["atoms"], result["median_us_per_atom"], strict=True)]
    if not pairs:
        return None
    atoms, time = max(pairs)
    return int(atoms), float(time)
