"""What the Markdown tables and the page show, prepared once for both: the records, scored and ranked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mace_ft_bench.leaderboard import wording
from mace_ft_bench.leaderboard.published import published_standings
from mace_ft_bench.leaderboard.rows import ResultRow, result_rows
from mace_ft_bench.leaderboard.score import Ranking, Records, Standing, current_records, rank_models
from mace_ft_bench.leaderboard.studies import Study, rank_studies
from mace_ft_bench.leaderboard.wording import NONE

if TYPE_CHECKING:
    from mace_ft_bench.results.case import Case
    from mace_ft_bench.results.record import Record

ModelInfo = Mapping[str, Mapping[str, str]]
"""Facts by model: ``functional`` (level of theory of the labels), ``licence``, ``parameters``, ``description``, and
``heads`` separated by commas."""

CaseSettings = Mapping[str, Mapping[str, Any]]
"""Settings in force by case, those that a card leaves to their defaults included."""


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
