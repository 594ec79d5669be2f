"""The leaderboard as GitHub Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from mace_ft_bench.leaderboard import board as boards
from mace_ft_bench.leaderboard import wording
from mace_ft_bench.leaderboard.case_section import case_section
from mace_ft_bench.leaderboard.cost import cost_rows
from mace_ft_bench.leaderboard.main_table import main_rows
from mace_ft_bench.leaderboard.provenance import PROVENANCE, commands, provenance_rows, versions
from mace_ft_bench.leaderboard.studies import rank_text
from mace_ft_bench.leaderboard.wording import NONE
from mace_ft_bench.results.record import FAILED, NOT_COVERED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mace_ft_bench.leaderboard.board import Attempts, Board
    from mace_ft_bench.leaderboard.case_section import Cell, Column, Source, ValueRow
    from mace_ft_bench.leaderboard.main_table import MainRow, ScoreCell
    from mace_ft_bench.results.case import Case
    from mace_ft_bench.results.record import Record

_MAIN = (
    "rank",
    "model",
    "kind",
    "score",
    "own cases",
    "coverage",
    "failed",
    "wall time",
    "per step and atom",
    "level of theory",
)


def to_markdown(board: Board) -> str:
    """Return the whole leaderboard as one Markdown document."""
    parts = [
        "# mace_ft_bench leaderboard",
        f"{boards.headline(board)} {boards.ranking_note(board)}",
        _main_table(board),
        boards.TIMES_NOTE if board.records else "",
        "## How scores work",
        escape(boards.HOW_SCORES_WORK),
        *_studies(board),
        *_cost(board),
        *(part for case in board.cases for part in _section(board, case)),
        *_results(board),
        *_attempts("Failures", board.attempts(FAILED)),
        *_attempts("Cases not covered", board.attempts(NOT_COVERED)),
        *_not_run(board),
        *_stale(board.stale),
        *_provenance(board),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the cells are plain text, whatever they contain."""
    lines = [[escape(cell) for cell in row] for row in (header, *rows)]
    lines.insert(1, ["---"] * len(header))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    """Return text that Markdown shows literally and that stays in one table cell."""
    line = " ".join(text.split()).replace("\\", "\\\\")
    for character, entity in {"&": "&amp;", "<": "&lt;", ">": "&gt;"}.items():
        line = line.replace(character, entity)
    for character in "|`*_[]~$":
        line = line.replace(character, f"\\{character}")
    return line


def _main_table(board: Board) -> str:
    rows = main_rows(board)
    if not rows:
        return ""
    header = (*_MAIN, *(board.short(case) for case in board.scored_cases))
    return markdown_table(header, [_main_cells(row) for row in rows])


def _main_cells(row: MainRow) -> list[str]:
    standing = row.standing
    failed = NONE if row.kind == "published" else str(standing.failed)
    facts = [wording.score(standing.score), row.own_score, row.coverage, failed, row.cost, row.speed, row.theory]
    return [row.rank, row.model, row.kind, *facts, *(_score_text(cell) for cell in row.cells)]


def _score_text(cell: ScoreCell) -> str:
    return f"0.000 ({cell.text})" if cell.failed else cell.text


def _studies(board: Board) -> list[str]:
    header = ("model", "study", "rank", "score", "coverage", "not well, or why not ranked")
    cells = [(model, study.cell(model, board.records)) for study in board.studies for model in board.models]
    rows = [(model, c.study, rank_text(c.rank), c.score_text, c.coverage, c.reason or NONE) for model, c in cells]
    return ["## Studies", boards.STUDIES_NOTE, markdown_table(header, rows)] if rows else []


def _cost(board: Board) -> list[str]:
    header = ("model", "case", "parameters", "score", "atoms", "µs per step and atom", "machine", "no time or score")
    rows = [
        (r.model, r.case, r.parameters, r.score_text, str(r.atoms or NONE), r.time_text, r.machine, r.reason or NONE)
        for r in cost_rows(board)
    ]
    return ["## Cost", markdown_table(header, rows)] if rows else []


def _results(board: Board) -> list[str]:
    """Return all rows, as the other files have them."""
    header = ("model", "study", "case", "metric", "error", "unit", "score", "status", "kind", "level of theory")
    rows = [
        (r.model, r.study, r.case, r.metric or NONE, r.error_text, r.unit, r.score_text, r.status, r.kind, r.theory)
        for r in board.rows
    ]
    return ["## All results", markdown_table(header, rows)] if rows else []


def _section(board: Board, case: Case) -> list[str]:
    section = case_section(board, case)
    header = ["", "kind", "level of theory", "score", *(_heading(column) for column in section.columns)]
    return [
        f"## {escape(case.title)}",
        f"`{case.id}`: {escape(case.description)}" if case.description else f"`{case.id}`",
        markdown_table(header, [_value_cells(row, len(section.columns)) for row in section.rows]),
        "\n".join(_source(source) for source in section.sources),
        "\n".join(f"- To repeat it: {escape(command)}" for command in commands(board, case)),
    ]


def _heading(column: Column) -> str:
    return f"{column.label} [{column.unit}]" if column.unit else column.label


def _value_cells(row: ValueRow, width: int) -> list[str]:
    name = f"{row.name} (reference)" if row.scored else row.name
    if row.status == "ok":
        return [name, row.kind, row.theory, row.score, *(_value_text(cell) for cell in row.cells)]
    return [name, row.kind, row.theory, row.score, *[row.status, *[NONE] * width][:width]]


def _value_text(cell: Cell) -> str:
    return f"{cell.value} ({cell.error})" if cell.error else cell.value


def _source(source: Source) -> str:
    doi = f" [doi:{escape(source.doi)}](https://doi.org/{quote(source.doi)})." if source.doi else ""
    note = f" {escape(source.note)}" if source.note else ""
    return f"- {escape('; '.join(source.labels))}: {escape(source.source)}.{doi}{note}"


def _attempts(title: str, attempts: Sequence[Attempts]) -> list[str]:
    rows = [(a.model, ", ".join(a.cases), a.status.replace("_", " "), a.message or NONE) for a in attempts]
    return [f"## {title}", markdown_table(("model", "cases", "status", "reason"), rows)] if rows else []


def _not_run(board: Board) -> list[str]:
    rows = [(model, ", ".join(cases)) for model, cases in board.not_run().items()]
    return ["## Not run", markdown_table(("model", "cases"), rows)] if rows else []


def _stale(records: Sequence[Record]) -> list[str]:
    if not records:
        return []
    note = "These records were run on an earlier version of the case card and do not count. To fix: run them again."
    return ["## Stale records", note, markdown_table(("model", "case"), [(r.model, r.case) for r in records])]


def _provenance(board: Board) -> list[str]:
    rows = [(row.model, *row.facts.values()) for row in provenance_rows(board)]
    if not rows:
        return []
    table = markdown_table(("model", "sha256", *PROVENANCE), rows)
    used = ", ".join(f"{escape(name)} {escape(version)}" for name, version in versions(board).items())
    return ["## Provenance", table, f"Versions: {used}." if used else ""]
