"""The main table: models, ranked ones first, and their scores case by case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mace_ft_bench.leaderboard import wording
from mace_ft_bench.leaderboard.wording import NONE
from mace_ft_bench.results.record import FAILED

if TYPE_CHECKING:
    from mace_ft_bench.leaderboard.board import Board
    from mace_ft_bench.leaderboard.score import Kind, Standing


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
