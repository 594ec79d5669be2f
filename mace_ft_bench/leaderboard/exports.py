"""The numbers of the page for programs: all rows as CSV, everything as JSON."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mace_ft_bench.leaderboard import board as boards
from mace_ft_bench.leaderboard.cost import cost_rows
from mace_ft_bench.leaderboard.main_table import main_rows
from mace_ft_bench.leaderboard.provenance import commands
from mace_ft_bench.leaderboard.rows import COLUMNS

if TYPE_CHECKING:
    from mace_ft_bench.leaderboard.board import Board
    from mace_ft_bench.leaderboard.main_table import MainRow
    from mace_ft_bench.results.case import Case

FORMAT = 1
"""Version of the layout of the JSON file; raised when a reader of the old one would fail."""


def to_csv(board: Board) -> str:
    """Return the rows of all results, numbers unrounded, an empty cell where there is none."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.plain() for row in board.rows)
    return text.getvalue()


def to_json(board: Board) -> str:
    """Return ranking, studies, cost, results, cases and the origin of every record."""
    content = {
        "format": FORMAT,
        "headline": boards.headline(board),
        "ranking": boards.ranking_note(board),
        "models": [_model(board, row) for row in main_rows(board)],
        "studies": [
            {"model": model, **asdict(study.cell(model, board.records))}
            for study in board.studies
            for model in board.models
        ],
        "cost": [asdict(row) for row in cost_rows(board)],
        "results": [row.plain() for row in board.rows],
        "cases": [_case(board, case) for case in board.cases],
        "records": [
            {
                "model": record.model,
                "case": record.case,
                "key": record.key,
                "status": record.status,
                "message": record.message,
                "wall_s": record.wall_s,
                "provenance": asdict(record.provenance),
            }
            for record in board.records.values()
        ],
    }
    return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _model(board: Board, row: MainRow) -> dict[str, Any]:
    standing = row.standing
    return {
        "model": row.model,
        "kind": row.kind,
        "rank": board.ranking.position(standing) if standing in board.ranking.ranked else None,
        "score": standing.score,
        "own_score": standing.own_score,
        "covered": standing.covered,
        "scored": standing.scored,
        "failed": standing.failed,
        "wall_s": standing.wall_s,
        "us_per_atom": standing.us_per_atom,
        "theory": row.theory,
        "facts": dict(board.model_info.get(row.model, {})),
    }


def _case(board: Board, case: Case) -> dict[str, Any]:
    return {
        "case": case.id,
        "title": case.title,
        "property": case.property,
        "settings": board.settings.get(case.id, case.settings),
        "metrics": {name: asdict(metric) for name, metric in case.metrics.items()},
        "references": [
            {"label": r.label, "kind": r.kind, "source": r.source, "doi": r.doi, "scored": r.scored}
            for r in case.references
        ],
        "commands": commands(board, case),
    }
