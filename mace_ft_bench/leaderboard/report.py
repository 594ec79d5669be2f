"""Write the leaderboard: one Markdown file and one self-contained page."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mace_ft_bench.leaderboard import board as boards
from mace_ft_bench.leaderboard import wording
from mace_ft_bench.leaderboard.figures import draw_figure
from mace_ft_bench.leaderboard.svg import model_styles
from mace_ft_bench.leaderboard.table import to_markdown
from mace_ft_bench.results.record import FAILED, NOT_COVERED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mace_ft_bench.leaderboard.board import Board, ModelInfo
    from mace_ft_bench.results.case import Case
    from mace_ft_bench.results.record import Record


@dataclass(frozen=True)
class ReportPaths:
    """The files of a report."""

    markdown: Path
    html: Path


def write_report(
    records: Iterable[Record], cases: Iterable[Case], folder: Path, *, model_info: ModelInfo | None = None
) -> ReportPaths:
    """Write ``leaderboard.md`` and ``leaderboard.html``; without records they say that nothing was run.

    Both are rendered before either is written, and each replaces its predecessor in one step.

    Parameters
    ----------
    records
        Attempts of any models and cases; only current ones of ``cases`` count.
    cases
        What to show, in this order.
    folder
        Made if it does not exist.
    model_info
        ``functional`` (level of theory of the training labels), ``licence``, ``parameters``, ``description`` by model.
    """
    board = boards.make_board(records, cases, model_info)
    markdown, page = to_markdown(board), to_html(board)
    folder.mkdir(parents=True, exist_ok=True)
    paths = ReportPaths(folder / "leaderboard.md", folder / "leaderboard.html")
    _replace(paths.markdown, markdown)
    _replace(paths.html, page)
    return paths


def to_html(board: Board) -> str:
    """Return the page: style and figures inline, nothing is loaded from elsewhere."""
    loader = PackageLoader("mace_ft_bench.leaderboard", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    styles = model_styles(board.models)
    sections = [(boards.section(board, case), _figure(board, case, styles)) for case in board.cases]
    return environment.get_template("leaderboard.html.j2").render(_context(board), sections=sections)


def _figure(board: Board, case: Case, styles: Any) -> Markup:  # noqa: ANN401
    return Markup(draw_figure(case, board.results(case), styles))  # noqa: S704 - text in it is escaped where it is drawn


def _context(board: Board) -> dict[str, Any]:
    return {
        "board": board,
        "rows": boards.main_rows(board),
        "headline": boards.headline(board),
        "ranking_note": boards.ranking_note(board),
        "how": boards.HOW_SCORES_WORK,
        "times_note": boards.TIMES_NOTE,
        "failures": board.with_status(FAILED),
        "missing": board.with_status(NOT_COVERED),
        "provenance": boards.provenance_rows(board),
        "provenance_fields": ("sha256", *boards.PROVENANCE),
        "versions": boards.versions(board),
        "date": boards.last_started(board),
        "wording": wording,
    }


def _replace(path: Path, text: str) -> None:
    """Write under a temporary name beside the target, then rename: a reader never sees half a file."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
