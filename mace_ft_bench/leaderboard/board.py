"""What the Markdown tables and the page show, prepared once for both: rows and sections as plain text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mace_ft_bench.leaderboard import wording
from mace_ft_bench.leaderboard.published import published_errors, published_score, published_standings
from mace_ft_bench.leaderboard.rows import ResultRow, result_rows
from mace_ft_bench.leaderboard.score import Kind, Ranking, Records, Standing, case_score, current_records, rank_models
from mace_ft_bench.leaderboard.studies import Study, rank_studies
from mace_ft_bench.leaderboard.wording import NONE
from mace_ft_bench.results.record import FAILED, NOT_COVERED

if TYPE_CHECKING:
    from mace_ft_bench.results.case import Case, Metric, Reference
    from mace_ft_bench.results.record import Record

RowKind = Literal["DFT", "experiment", "exact", "measured", "published"]

_ROW_KINDS: Mapping[str, RowKind] = {
    "dft": "DFT",
    "experiment": "experiment",
    "exact": "exact",
    "published_model": "published",
}

ModelInfo = Mapping[str, Mapping[str, str]]
"""Facts by model: ``functional`` (level of theory of the labels), ``licence``, ``parameters``, ``description``, and
``heads`` separated by commas."""

CaseSettings = Mapping[str, Mapping[str, Any]]
"""Settings in force by case, those that a card leaves to their defaults included."""


@dataclass(frozen=True)
class ScoreCell:
    """The score of one (model, case), or why there is none."""

    case: str
    text: str
    value: float | None
    status: str
    """Status of the record, ``not run``, or ``published``."""

    @property
    def failed(self) -> bool:
        """Whether the attempt failed."""
        return self.status in FAILED


@dataclass(frozen=True)
class MainRow:
    """One row of the main table."""

    rank: str
    standing: Standing
    theory: str
    cells: tuple[ScoreCell, ...]

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.standing.model

    @property
    def kind(self) -> Kind:
        """Measured here, or published elsewhere."""
        return self.standing.kind

    @property
    def coverage(self) -> str:
        """``5/6``."""
        return f"{self.standing.covered}/{self.standing.scored}"

    @property
    def own_score(self) -> str:
        """Score over the cases it covers, marked where metrics are missing."""
        return f"{wording.score(self.standing.own_score)}{'†' if self.standing.partial else ''}"

    @property
    def cost(self) -> str:
        """Wall time of all attempts."""
        return wording.duration(self.standing.wall_s)

    @property
    def speed(self) -> str:
        """Time per MD step and atom."""
        value = self.standing.us_per_atom
        return NONE if value is None else f"{wording.number(value)} µs"


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


@dataclass(frozen=True)
class Attempts:
    """Cases that ended for one model with one status, for one reason."""

    model: str
    cases: tuple[str, ...]
    status: str
    message: str


@dataclass(frozen=True)
class Board:
    """Everything a report shows."""

    cases: tuple[Case, ...]
    records: Records
    stale: tuple[Record, ...]
    ranking: Ranking
    published: tuple[Standing, ...]
    model_info: ModelInfo
    studies: tuple[Study, ...]
    rows: tuple[ResultRow, ...]
    """Every number of every model, the published ones included."""
    settings: CaseSettings

    @property
    def models(self) -> tuple[str, ...]:
        """Measured models, the ranked ones first."""
        return tuple(standing.model for standing in (*self.ranking.ranked, *self.ranking.unranked))

    @property
    def scored_cases(self) -> tuple[Case, ...]:
        """Cases with metrics."""
        return tuple(case for case in self.cases if case.metrics)

    def short(self, case: Case) -> str:
        """Return the identifier of a case, without the material if there is only one."""
        several = len({other.material for other in self.cases}) > 1
        return case.id if several else case.id.removeprefix(f"{case.material}/")

    def fact(self, model: str, name: str) -> str:
        """Return a fact about a model, or a dash."""
        return self.model_info.get(model, {}).get(name) or NONE

    def attempts(self, statuses: Iterable[str]) -> list[Attempts]:
        """Return what ended with these statuses, by model and case; what ended for the same reason together."""
        found = [record for record in self.records.values() if record.status in set(statuses)]
        groups: dict[tuple[str, str, str], list[str]] = {}
        for record in sorted(found, key=lambda record: (record.model, record.case)):
            groups.setdefault((record.model, record.status, record.message), []).append(record.case)
        return [Attempts(m, tuple(cases), status, message) for (m, status, message), cases in groups.items()]

    def not_run(self) -> dict[str, list[str]]:
        """Return the cases that each model has no current record of."""
        absent = {m: [case.id for case in self.cases if (m, case.id) not in self.records] for m in self.models}
        return {model: cases for model, cases in absent.items() if cases}

    def results(self, case: Case) -> dict[str, Mapping[str, Any]]:
        """Return the results of a case by model, where the attempt succeeded."""
        found = {model: self.records.get((model, case.id)) for model in self.models}
        return {m: record.result for m, record in found.items() if record and record.status == "ok" and record.result}


def make_board(
    records: Iterable[Record],
    cases: Iterable[Case],
    model_info: ModelInfo | None = None,
    settings: CaseSettings | None = None,
) -> Board:
    """Score and rank the records of the given cases."""
    shown, info = tuple(cases), model_info or {}
    current, stale = current_records(records, shown)
    ranking = rank_models(current, shown)
    models = [standing.model for standing in (*ranking.ranked, *ranking.unranked)]
    theories = {model: facts["functional"] for model, facts in info.items() if facts.get("functional")}
    return Board(
        cases=shown,
        records=current,
        stale=stale,
        ranking=ranking,
        published=published_standings(shown),
        model_info=info,
        studies=rank_studies(shown, current),
        rows=result_rows(shown, current, models, theories),
        settings=settings or {},
    )


def main_rows(board: Board) -> list[MainRow]:
    """Return the ranked models, those that cannot be ranked, and the published ones, in this order."""
    ranking = board.ranking
    rows = [_main_row(board, standing, str(ranking.position(standing))) for standing in ranking.ranked]
    return rows + [_main_row(board, standing, NONE) for standing in (*ranking.unranked, *board.published)]


def _main_row(board: Board, standing: Standing, rank: str) -> MainRow:
    theory = (
        board.fact(standing.model, "functional") if standing.kind == "measured" else _published_theory(board, standing)
    )
    cells = tuple(_score_cell(board, standing, case.id) for case in board.scored_cases)
    return MainRow(rank, standing, theory, cells)


def _published_theory(board: Board, standing: Standing) -> str:
    found = [r.level_of_theory for case in board.cases for r in case.references if r.label == standing.model]
    return found[0] if found else NONE


def _score_cell(board: Board, standing: Standing, case: str) -> ScoreCell:
    value = standing.case_scores.get(case)
    if standing.kind == "published":
        mark = "†" if case in standing.partial else ""
        return ScoreCell(case, f"{wording.score(value)}{mark}", value, "published")
    record = board.records.get((standing.model, case))
    status = record.status.replace("_", " ") if record else "not run"
    text = wording.score(value) if status == "ok" else status
    return ScoreCell(case, text, value, status)


def section(board: Board, case: Case) -> CaseSection:
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
    values = _implied(board, case, columns) | reference.values if reference.scored else reference.values
    partial = "†" if 0 < len(errors) < len(case.metrics) else ""
    return ValueRow(
        name=reference.label,
        kind=_ROW_KINDS[reference.kind],
        theory=reference.level_of_theory,
        score=f"{wording.score(published_score(case, errors))}{partial}",
        cells=tuple(_cell(case, column, values, errors) for column in columns),
        scored=reference.scored,
    )


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


@dataclass(frozen=True)
class ProvenanceRow:
    """What produced the records of a model; several settings are separated by commas."""

    model: str
    facts: Mapping[str, str]


PROVENANCE = ("head", "dtype", "device", "accelerator", "dispersion", "threads", "hardware")
"""Fields of a record's provenance that the report shows."""


def provenance_rows(board: Board) -> list[ProvenanceRow]:
    """Return the settings and hardware of each model's records, of those that computed something if there are any."""
    return [ProvenanceRow(model, _facts(board, model)) for model in board.models]


def _facts(board: Board, model: str) -> dict[str, str]:
    records = [record for (name, _), record in board.records.items() if name == model]
    computed = [record for record in records if record.status not in NOT_COVERED]
    origins = [record.provenance for record in computed or records]
    facts = {name: _distinct(getattr(origin, name) for origin in origins) for name in PROVENANCE}
    return {"sha256": _distinct(weights_name(origin.model_sha256) for origin in origins), **facts}


def weights_name(sha256: str) -> str:
    """Return the checksum of weights, or what makes a model that a package ships; versions are told elsewhere."""
    return sha256.partition("@")[0]


def versions(board: Board) -> dict[str, str]:
    """Return the versions of the packages that were used, by package."""
    tables = [record.provenance.package_versions for record in board.records.values()]
    names = sorted({name for table in tables for name in table})
    return {name: _distinct(table.get(name, "") for table in tables) for name in names}


def last_started(board: Board) -> str:
    """Return the date of the youngest record, empty if none has one."""
    return max((record.provenance.started for record in board.records.values()), default="")[:10]


def _distinct(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value)) or NONE


def headline(board: Board) -> str:
    """Say what was compared, in one sentence."""
    materials = ", ".join(dict.fromkeys(case.material for case in board.cases))
    modes = {f", mode {case.mode}" for case in board.cases if case.mode}
    counts = f"{wording.plural(len(board.models), 'model')}, {wording.plural(len(board.cases), 'case')}"
    return f"{counts} ({len(board.scored_cases)} scored) on {materials or 'nothing'}{''.join(modes)}."


def ranking_note(board: Board) -> str:
    """Say on what the models were ranked, or why they were not."""
    shared = board.ranking.shared
    if not board.records:
        return "Nothing was run. To fix: run the suite, then write the report again."
    if shared:
        return f"Ranked on the {wording.plural(len(shared), 'case')} that all ranked models cover."
    if not board.scored_cases:
        return "None of these cases is scored, so the models are not ranked."
    if any(study.ranking.ranked for study in board.studies):
        return "No scored case is covered by all models, so they are ranked within studies only."
    return "No scored case is covered by all models, so they are not ranked. To fix: run a case that all support."


HOW_SCORES_WORK = """\
A metric scores 2^(−|error|/tolerance): 1 without error, one half at the tolerance of its case, falling towards 0. \
A case scores the mean of its metrics and a model the mean of its cases; models are ranked on the cases that all of \
them cover, and a failed attempt is covered with score 0. \
Unsupported, missing or not yet run cases lower the coverage and leave the score alone; published rows are literature \
values, shown for comparison and never ranked († scored on those metrics only that were printed)."""
"""Three sentences."""

STUDIES_NOTE = """\
Within a study, models are ranked on the scored cases that all ranked models cover. Coverage counts the cases with a \
score, and a failed attempt scores 0. A model without a score is not ranked, for the reason given."""
"""Stands beside the models against studies."""

TIMES_NOTE = "Wall time is that of all attempts of a model. Times compare only between equal hardware, see Provenance."
"""Stands beside the costs."""
