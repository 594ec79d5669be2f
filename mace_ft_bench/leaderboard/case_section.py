"""One case with all its values: references, measured models, published models, and their sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mace_ft_bench.leaderboard import wording
from mace_ft_bench.leaderboard.published import published_errors, published_score
from mace_ft_bench.leaderboard.score import case_score
from mace_ft_bench.leaderboard.wording import NONE
from mace_ft_bench.results.record import FAILED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mace_ft_bench.leaderboard.board import Board
    from mace_ft_bench.results.case import Case, Metric, Reference

RowKind = Literal["DFT", "experiment", "exact", "measured", "published"]

_ROW_KINDS: Mapping[str, RowKind] = {
    "dft": "DFT",
    "experiment": "experiment",
    "exact": "exact",
    "published_model": "published",
}


@dataclass(frozen=True)
class Column:
    """A quantity of a case: a field of the results, a metric, or a field that a metric scores."""

    label: str
    unit: str
    field: str = ""
    metric: str = ""


@dataclass(frozen=True)
class Cell:
    """A value, and the error against the scored reference."""

    value: str
    error: str = ""


@dataclass(frozen=True)
class ValueRow:
    """The values of one model or reference in one case."""

    name: str
    kind: RowKind
    theory: str
    score: str
    cells: tuple[Cell, ...]
    status: str = "ok"
    """Anything else than ``ok`` stands in place of the values."""
    scored: bool = False
    """Whether errors are taken against this row."""

    @property
    def failed(self) -> bool:
        """Whether the attempt failed."""
        return self.status in FAILED


@dataclass(frozen=True)
class Source:
    """Where numbers are published, and whose they are."""

    labels: tuple[str, ...]
    source: str
    doi: str
    note: str


@dataclass(frozen=True)
class CaseSection:
    """One case with all its values."""

    case: Case
    columns: tuple[Column, ...]
    rows: tuple[ValueRow, ...]
    sources: tuple[Source, ...]


def case_section(board: Board, case: Case) -> CaseSection:
    """Return the value table of a case: references, measured models in order of rank, published models."""
    columns = _columns(case, board.results(case))
    references = sorted(case.references, key=lambda r: (r.kind == "published_model", not r.scored))
    rows = [_reference_row(board, case, reference, columns) for reference in references]
    split = sum(reference.kind != "published_model" for reference in references)
    measured = [_measured_row(board, case, model, columns) for model in board.models]
    return CaseSection(case, columns, (*rows[:split], *measured, *rows[split:]), _sources(case))


def _sources(case: Case) -> tuple[Source, ...]:
    """Return the sources of a case, each once, in order of appearance."""
    keys = dict.fromkeys((r.source, r.doi, r.note) for r in case.references)
    return tuple(
        Source(tuple(r.label for r in case.references if (r.source, r.doi, r.note) == key), *key) for key in keys
    )


def _columns(case: Case, results: Mapping[str, Mapping[str, Any]]) -> tuple[Column, ...]:
    """Scored quantities in the order of the card, then all else that fits, in the order of the result."""
    tables = [*results.values(), *(reference.values for reference in case.references)]
    fields = list(dict.fromkeys(name for table in tables for name, value in table.items() if _fits_a_cell(value)))
    metrics = [_metric_column(name, metric, fields) for name, metric in case.metrics.items()]
    shown = {column.field for column in metrics}
    rest = [Column(wording.field_label(f, case), wording.split_field(f)[1], f) for f in fields if f not in shown]
    return (*metrics, *rest)


def _metric_column(name: str, metric: Metric, fields: Sequence[str]) -> Column:
    stem = wording.split_field(name)[0]
    relative = [field for field in fields if metric.unit == "%" and wording.split_field(field)[0] == stem]
    field = name if name in fields else next(iter(relative), "")
    return Column(metric.label, wording.split_field(field)[1] if field else metric.unit, field, name)


def _fits_a_cell(value: object) -> bool:
    return isinstance(value, (bool, int, float, str)) or wording.is_short_list(value)


def _measured_row(board: Board, case: Case, model: str, columns: Sequence[Column]) -> ValueRow:
    record = board.records.get((model, case.id))
    status = record.status.replace("_", " ") if record else "not run"
    cells: tuple[Cell, ...] = ()
    if record and record.status == "ok":
        cells = tuple(_cell(case, column, record.result or {}, record.errors) for column in columns)
    score = wording.score(case_score(case, record)) if record else NONE
    return ValueRow(model, "measured", board.fact(model, "functional"), score, cells, status)


def _reference_row(board: Board, case: Case, reference: Reference, columns: Sequence[Column]) -> ValueRow:
    errors = published_errors(case, reference) if reference.kind == "published_model" else {}
    values = _implied(board, case, columns) | reference.values if _has_curve(reference) else reference.values
    partial = "†" if 0 < len(errors) < len(case.metrics) else ""
    return ValueRow(
        name=reference.label,
        kind=_ROW_KINDS[reference.kind],
        theory=reference.level_of_theory,
        score=f"{wording.score(published_score(case, errors))}{partial}",
        cells=tuple(_cell(case, column, values, errors) for column in columns),
        scored=reference.scored,
    )


def _has_curve(reference: Reference) -> bool:
    return reference.scored and any(isinstance(value, (list, tuple)) for value in reference.values.values())


def _implied(board: Board, case: Case, columns: Sequence[Column]) -> dict[str, Any]:
    """Return reference values that only a curve holds, such as a barrier: a model's value minus its signed error."""
    records = [record for record in board.records.values() if record.case == case.id and record.status == "ok"]
    found = {}
    for column in columns:
        for record in records:
            value, error = (record.result or {}).get(column.metric), record.errors.get(column.metric)
            if value is not None and error is not None and value != error:
                found[column.field] = value - error
    return found


def _cell(case: Case, column: Column, values: Mapping[str, Any], errors: Mapping[str, float]) -> Cell:
    value, error = values.get(column.field), errors.get(column.metric)
    text = NONE if value is None else wording.quantity(column.field, value)
    if error is None or error == value:  # an error may itself be the result, as that of held-out frames is
        return Cell(text)
    unit = case.metrics[column.metric].unit
    if unit == column.unit:
        unit = ""  # the heading names it
    if not column.field:
        return Cell(wording.number(error))
    if value is None:
        return Cell(NONE, f"error {wording.number(error)} {unit}".rstrip())
    return Cell(text, wording.signed(error, unit))
