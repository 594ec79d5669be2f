"""Rows of the literature: shown beside the measured models, never ranked among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from mace_ft_bench.errors import CardError
from mace_ft_bench.leaderboard.score import Standing, mean_score, metric_score
from mace_ft_bench.leaderboard.wording import split_field

if TYPE_CHECKING:
    from mace_ft_bench.results.case import Case, Reference

Values = Mapping[str, float | list[float]]


def determined_errors(metrics: Iterable[str], values: Values, reference: Values) -> dict[str, float]:
    """Return the signed errors that two tables of values determine.

    A metric that both tables name is a difference: ``formation_energy_ev``. A metric ``<stem>_percent`` is taken from
    the one number that both tables name ``<stem>_...``: ``c11_percent`` from ``c11_gpa``. Where several fit, the rest
    has to be a unit: ``b0_percent`` from ``b0_gpa``, not from ``b0_prime``. Metrics without such a number are left out.

    Parameters
    ----------
    metrics
        Names of metrics.
    values, reference
        Published values, and those they are compared with, by field name.

    Raises
    ------
    CardError
        If several numbers fit a stem, or the reference value is zero.
    """
    errors = {}
    for metric in metrics:
        name = _matching(metric, [name for name in values if name in reference])
        value, target = values.get(name), reference.get(name)
        if isinstance(value, (int, float)) and isinstance(target, (int, float)):
            errors[metric] = value - target if name == metric else _percent(metric, value, target)
    return errors


def _percent(metric: str, value: float, target: float) -> float:
    if target == 0:
        raise CardError(f"{metric} divides by zero.", fix="score an absolute error instead.")
    return 100.0 * (value - target) / abs(target)


def _matching(metric: str, names: Sequence[str]) -> str:
    """Return the name of the value behind a metric, empty if there is none."""
    if metric in names:
        return metric
    stem = metric.removesuffix("percent")
    fitting = [name for name in names if metric.endswith("_percent") and name.startswith(stem)]
    if len(fitting) > 1:
        fitting = [name for name in fitting if split_field(name)[0] == stem.removesuffix("_")]
    if len(fitting) > 1:
        raise CardError(f"{metric} fits {fitting}.", fix="give the error itself in [references.errors].")
    return fitting[0] if fitting else ""


def published_errors(case: Case, reference: Reference) -> dict[str, float]:
    """Return the errors of a published model: as printed, otherwise computed from its values."""
    scored = case.scored_reference
    missing = [name for name in case.metrics if name not in reference.errors]
    computed = determined_errors(missing, reference.values, scored.values) if scored else {}
    printed = {name: error for name, error in reference.errors.items() if name in case.metrics}
    return computed | printed


def published_standings(cases: Sequence[Case]) -> tuple[Standing, ...]:
    """Return one row per published label, in order of appearance; the same label in several cards is one row."""
    labels = dict.fromkeys(reference.label for case in cases for reference in published_models(case))
    return tuple(_standing(label, [case for case in cases if case.metrics]) for label in labels)


def published_models(case: Case) -> list[Reference]:
    """Return the published models of a case."""
    return [reference for reference in case.references if reference.kind == "published_model"]


def published_score(case: Case, errors: Mapping[str, float]) -> float | None:
    """Return the mean score over the metrics that were published, or None if none was.

    Unlike a missing error of a measured model, one that nobody printed is no failure and does not count as zero.
    """
    scores = [metric_score(error, case.metrics[name].tolerance) for name, error in errors.items()]
    return fmean(scores) if scores else None


def _standing(label: str, cases: Sequence[Case]) -> Standing:
    errors = {case.id: _errors_of(label, case) for case in cases}
    scores = {case.id: published_score(case, errors[case.id]) for case in cases}
    return Standing(
        model=label,
        kind="published",
        score=None,
        own_score=mean_score(scores),
        covered=sum(score is not None for score in scores.values()),
        scored=len(cases),
        failed=0,
        case_scores=scores,
        partial=frozenset(case.id for case in cases if 0 < len(errors[case.id]) < len(case.metrics)),
    )


def _errors_of(label: str, case: Case) -> dict[str, float]:
    found = [published_errors(case, reference) for reference in published_models(case) if reference.label == label]
    return {name: error for errors in found for name, error in errors.items()}
