"""All results as plain rows, built once: the page, the Markdown, the CSV and the JSON show these and no others."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from mace_ft_bench.leaderboard import wording
from mace_ft_bench.leaderboard.published import published_errors, published_models
from mace_ft_bench.leaderboard.score import Kind, Records, metric_score
from mace_ft_bench.leaderboard.wording import NONE
from mace_ft_bench.results.record import FAILED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mace_ft_bench.results.case import Case, Reference
    from mace_ft_bench.results.record import Record


@dataclass(frozen=True)
class ResultRow:
    """One metric of one model in one case; a case without metrics has one row without a number."""

    model: str
    study: str
    """Material of the case."""
    case: str
    metric: str
    """Label on the card, empty for a case without metrics."""
    error: float | None
    """Signed error against the scored reference [unit]; None where there is none."""
    unit: str
    score: float | None
    """Score of this metric: 0 for a failed attempt, None where the case is not covered."""
    status: str
    """Status of the record, ``not run``, or ``published``."""
    kind: Kind
    theory: str
    """Level of theory of the model's labels, or of the published model."""

    @property
    def error_text(self) -> str:
        """The error as people read it, without its unit."""
        return NONE if self.error is None else wording.signed(self.error)

    @property
    def score_text(self) -> str:
        """The score with three decimals."""
        return wording.score(self.score)

    @property
    def failed(self) -> bool:
        """Whether the attempt failed."""
        return self.status in FAILED

    def plain(self) -> dict[str, Any]:
        """Return the row as plain data, numbers unrounded."""
        return asdict(self)


COLUMNS = tuple(entry.name for entry in fields(ResultRow))
"""Names of the fields of a row, in order."""


def result_rows(
    cases: Iterable[Case], records: Records, models: Sequence[str], theories: Mapping[str, str]
) -> tuple[ResultRow, ...]:
    """Return the rows of all cases: measured models in the order given, then published ones.

    Parameters
    ----------
    cases
        What to show, in this order.
    records
        Current records by (model, case).
    models
        Measured models; a case that one of them has no record of is ``not run``.
    theories
        Level of theory by measured model.
    """
    found: list[ResultRow] = []
    for case in cases:
        for model in models:
            found += _measured(case, model, records.get((model, case.id)), theories.get(model, NONE))
        for reference in published_models(case):
            found += _published(case, reference)
    return tuple(found)


def _measured(case: Case, model: str, record: Record | None, theory: str) -> list[ResultRow]:
    status = record.status.replace("_", " ") if record else "not run"
    errors = record.errors if record else {}
    missing = 0.0 if status == "ok" or status in FAILED else None  # a metric that an ok record lacks counts zero
    rows = []
    for name, metric in case.metrics.items():
        error = errors.get(name)
        score = missing if error is None else metric_score(error, metric.tolerance)
        rows.append(_row(case, model, metric.label, error, metric.unit, score, status, "measured", theory))
    return rows or [_row(case, model, "", None, "", None, status, "measured", theory)]


def _published(case: Case, reference: Reference) -> list[ResultRow]:
    """Metrics that nobody printed have no row."""
    label, theory = reference.label, reference.level_of_theory
    rows = []
    for name, error in published_errors(case, reference).items():
        metric = case.metrics[name]
        score = metric_score(error, metric.tolerance)
        rows.append(_row(case, label, metric.label, error, metric.unit, score, "published", "published", theory))
    return rows


def _row(  # noqa: PLR0913, PLR0917 - the fields of a row after those that the case gives
    case: Case,
    model: str,
    metric: str,
    error: float | None,
    unit: str,
    score: float | None,
    status: str,
    kind: Kind,
    theory: str,
) -> ResultRow:
    return ResultRow(model, case.material, case.id, metric, error, unit, score, status, kind, theory)
