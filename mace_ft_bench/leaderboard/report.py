"""Write the leaderboard: one self-contained page, and the same numbers as Markdown, CSV and JSON."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from mace_ft_bench.atomic import write_whole
from mace_ft_bench.leaderboard import board as boards
from mace_ft_bench.leaderboard import provenance, wording
from mace_ft_bench.leaderboard.case_section import case_section
from mace_ft_bench.leaderboard.cost import cost_figures, cost_rows
from mace_ft_bench.leaderboard.exports import to_csv, to_json
from mace_ft_bench.leaderboard.figures import draw_figure
from mace_ft_bench.leaderboard.main_table import main_rows
from mace_ft_bench.leaderboard.provenance import PROVENANCE, last_started, provenance_rows
from mace_ft_bench.leaderboard.svg import caption_of, model_styles
from mace_ft_bench.leaderboard.table import to_markdown
from mace_ft_bench.leaderboard.templating import markup, template
from mace_ft_bench.results.record import FAILED, NOT_COVERED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mace_ft_bench.leaderboard.board import Board, CaseSettings, ModelInfo
    from mace_ft_bench.leaderboard.svg import Styles
    from mace_ft_bench.results.case import Case
    from mace_ft_bench.results.record import Record


_TEMPLATES = "mace_ft_bench.leaderboard"


@dataclass(frozen=True)
class ReportPaths:
    """The files of a report."""

    markdown: Path
    html: Path
    csv: Path
    json: Path


def write_report(
    records: Iterable[Record],
    cases: Iterable[Case],
    folder: Path,
    *,
    model_info: ModelInfo | None = None,
    settings: CaseSettings | None = None,
) -> ReportPaths:
    """Write ``leaderboard.html``, ``.md``, ``.csv`` and ``.json``; without records they say that nothing was run.

    All are rendered before any is written, and each replaces its predecessor in one step.

    Parameters
    ----------
    records
        Attempts of any models and cases; only current ones of ``cases`` count.
    cases
        What to show, in this order.
    folder
        Made if it does not exist.
    model_info
        ``functional`` (level of theory of the training labels), ``licence``, ``parameters``, ``description``, ``heads``
        by model.
    settings
        Settings in force by case, defaults included; without them those of the card are shown.
    """
    board = boards.make_board(records, cases, model_info, settings)
    paths = ReportPaths(*(folder / f"leaderboard.{end}" for end in ("md", "html", "csv", "json")))
    texts = {
        paths.markdown: to_markdown(board),
        paths.html: to_html(board),
        paths.csv: to_csv(board),
        paths.json: to_json(board),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        write_whole(path, text)
    return paths


def to_html(board: Board) -> str:
    """Return the page: style, script and figures inline, nothing is loaded from elsewhere."""
    styles = model_styles(board.models)
    return template("leaderboard.html.j2").render(
        _context(board),
        sections=[_section(board, case, styles) for case in board.cases],
        cost_figures=[(markup(figure.svg), figure.caption) for figure in cost_figures(board, styles)],
    )


def _section(board: Board, case: Case, styles: Styles) -> dict[str, Any]:
    figure = draw_figure(case, board.results(case), styles)
    return {
        "values": case_section(board, case),
        "figure": markup(figure),
        "caption": caption_of(figure) if figure else "",
        "settings": provenance.settings_in_force(board, case),
        "origins": provenance.origins(board, case),
        "commands": provenance.commands(board, case),
    }


def _context(board: Board) -> dict[str, Any]:
    script = resources.files(_TEMPLATES).joinpath("templates", "leaderboard.js").read_text(encoding="utf-8")
    return {
        "board": board,
        "rows": main_rows(board),
        "headline": boards.headline(board),
        "ranking_note": boards.ranking_note(board),
        "how": boards.HOW_SCORES_WORK,
        "studies_note": boards.STUDIES_NOTE,
        "times_note": boards.TIMES_NOTE,
        "cost": cost_rows(board),
        "failures": board.attempts(FAILED),
        "missing": board.attempts(NOT_COVERED),
        "provenance": provenance_rows(board),
        "provenance_fields": ("sha256", *PROVENANCE),
        "origin_fields": provenance.ORIGIN,
        "package_sets": provenance.package_sets(board),
        "date": last_started(board),
        "wording": wording,
        # Browsers run this script and no other, whatever a name or a message contains.
        "script": markup(script),
        "script_hash": _base64(hashlib.sha256(script.encode()).digest()),
        "csv": _base64(to_csv(board).encode()),
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
