"""Write a study: one self-contained page with its figures, Markdown, and the errors of every run as CSV."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from mace_ft_bench.atomic import write_whole
from mace_ft_bench.leaderboard.study_figures import (
    QUANTITIES,
    curves,
    error_against_share,
    error_against_steps,
    forgetting_against_gain,
    overall,
)
from mace_ft_bench.leaderboard.templating import markup, template

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    Record = Mapping[str, Any]

PAGE, MARKDOWN, TABLE = "study.html", "study.md", "study.csv"
TITLES = ("variant", "share", *QUANTITIES.values(), "runs", "failed")
_MODELS = ("fine_tuned", "parent")
_ROLES = {"test": 0, "valid": 1}
"""Roles of frames that are drawn, the first that there is."""


def write_study(records: Sequence[Record], folder: Path, *, name: str, steps: int) -> Path:
    """Write ``study.html``, ``study.md`` and ``study.csv``, and return the path of the page.

    Parameters
    ----------
    records
        Of :func:`mace_ft_bench.finetune.study.run_study`.
    folder
        The folder of the study; its own files of an earlier call are replaced.
    name, steps
        Of the study.
    """
    texts = {
        PAGE: to_html(records, name=name, steps=steps),
        MARKDOWN: to_markdown(records, name=name),
        TABLE: to_csv(records),
    }
    for file, text in texts.items():
        write_whole(folder / file, text)
    return folder / PAGE


def compared_splits(records: Sequence[Record]) -> list[str]:
    """Return the names of the test splits, or of the validation frames where there is none."""
    roles = {entry["name"]: entry["role"] for record in records for entry in record.get("report", {}).get("splits", [])}
    drawn = sorted({_ROLES[role] for role in roles.values() if role in _ROLES})
    return [name for name, role in roles.items() if drawn and _ROLES.get(role) == drawn[0]]


def _domains(records: Sequence[Record]) -> list[str]:
    entries = (entry for record in records for entry in record.get("report", {}).get("forgetting", []))
    return list(dict.fromkeys(entry["name"] for entry in entries if entry["errors"]))


def to_html(records: Sequence[Record], *, name: str, steps: int) -> str:
    """Return the page: style and figures inline, nothing is loaded from elsewhere."""
    return template("study.html.j2").render(
        name=name,
        steps=steps,
        total=len(records),
        done=sum(record["status"] == "ok" for record in records),
        failures=failures(records),
        titles=TITLES,
        splits=[
            {
                "name": split,
                "figure": markup(error_against_share(records, split)),
                "rows": table_rows(records, split),
                "forgetting": [markup(forgetting_against_gain(records, split, domain)) for domain in _domains(records)],
            }
            for split in compared_splits(records)
        ],
        during=markup(error_against_steps(records)),
    )


def failures(records: Sequence[Record]) -> list[str]:
    """Return a sentence for every run that failed."""
    return [f"{record['name']} failed: {record['message']}" for record in records if record["status"] != "ok"]


def to_markdown(records: Sequence[Record], *, name: str) -> str:
    """Return the tables as Markdown."""
    lines = [f"# Study {name}", "", *(f"- {text}" for text in failures(records)), ""]
    for split in compared_splits(records):
        lines += [f"## {split}", "", f"| {' | '.join(TITLES)} |", f"|---|{'---:|' * (len(TITLES) - 1)}"]
        lines += [f"| {' | '.join(row)} |" for row in table_rows(records, split)] + [""]
    return "\n".join(lines)


def to_csv(records: Sequence[Record]) -> str:
    """Return one row per run, split and quantity; a failed run has one row without numbers."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["variant", "fraction", "seed", "status", "split", "quantity", "rmse", "parent_rmse"])
    for record in records:
        head = [record["variant"], record["fraction"], record["seed"], record["status"]]
        report = record.get("report", {})
        entries = [*report.get("splits", []), *report.get("forgetting", [])]
        rows = [
            [*head, entry["name"], quantity, *(next(overall(entry, model, quantity), "") for model in _MODELS)]
            for entry in entries
            for quantity in QUANTITIES
        ]
        writer.writerows(rows or [[*head, "", "", "", ""]])
    return text.getvalue()


def table_rows(records: Sequence[Record], split: str) -> list[list[str]]:
    """Return one row per variant and share: mean and deviation of every quantity, runs, failed runs."""
    found = {name: curves(records, split, name) for name in QUANTITIES}
    rows = []
    for variant in dict.fromkeys(record["variant"] for record in records):
        for fraction in sorted({record["fraction"] for record in records}):
            group = [item for item in records if item["variant"] == variant and item["fraction"] == fraction]
            failed = sum(item["status"] != "ok" for item in group)
            cells = [_cell(found[name].get(variant, []), fraction) for name in QUANTITIES]
            rows.append([variant, f"{fraction:g}", *cells, str(len(group)), str(failed) if failed else "–"])
    return rows


def _cell(points: Sequence[Any], fraction: float) -> str:
    for point in points:
        if point.fraction == fraction:
            return f"{point.mean:.3g} ± {point.spread:.2g}" if point.runs > 1 else f"{point.mean:.3g}"
    return "–"
