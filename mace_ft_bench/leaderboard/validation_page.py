"""Write a validation: one self-contained page, Markdown, and all numbers as JSON."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_ft_bench.errors import DataError
from mace_ft_bench.leaderboard import validation_figures as figures
from mace_ft_bench.leaderboard import validation_wording as words
from mace_ft_bench.leaderboard.templating import markup, template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markupsafe import Markup
    from numpy.typing import NDArray

    Report = Mapping[str, Any]
    Samples = Mapping[str, Mapping[str, NDArray[Any]]]

PAGE, MARKDOWN, NUMBERS = "validation.html", "validation.md", "validation.json"
_DRAWN = ("energy", "forces", "stress")


def check_target(folder: Path, made_by: str, *, overwrite: bool) -> None:
    """Refuse a folder whose files are not an earlier validation's.

    Parameters
    ----------
    folder
        Where the files are to be written; may be missing.
    made_by
        What the JSON file of an earlier validation names as its maker.
    overwrite
        Replace files of others as well.

    Raises
    ------
    DataError
        If a file of one of the names was made by something else, or the folder is that of a run.
    """
    if (folder / "run.json").is_file():
        raise DataError(f"{folder} is a run folder with a {NUMBERS} of its own.", fix="choose another --out folder.")
    found = [folder / name for name in (PAGE, MARKDOWN, NUMBERS) if (folder / name).exists()]
    if found and not overwrite and not _made_by(folder / NUMBERS, made_by):
        raise DataError(
            f"{found[0]} exists and was not made by `{made_by}`.", fix="choose another --out, or --overwrite."
        )


def _made_by(path: Path, made_by: str) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["made_by"] == made_by)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def write_validation(report: Report, samples: Samples, folder: Path, *, overwrite: bool = False) -> Path:
    """Write ``validation.html``, ``validation.md`` and ``validation.json``, and return the path of the page.

    All are rendered before any is written, and each replaces its predecessor in one step.

    Parameters
    ----------
    report
        Plain data of a validation.
    samples
        By split and quantity labels and predictions, one row each.
    folder
        Made if it does not exist.
    overwrite
        See :func:`check_target`.

    Raises
    ------
    DataError
        See :func:`check_target`.
    """
    check_target(folder, report["made_by"], overwrite=overwrite)
    whole = {**report, "verdict": verdict(report)}
    texts = {
        PAGE: to_html(report, samples),
        MARKDOWN: to_markdown(report),
        NUMBERS: json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".validation-") as scratch:
        for name, text in texts.items():
            (Path(scratch) / name).write_text(text, encoding="utf-8")
        for name in texts:
            (Path(scratch) / name).replace(folder / name)
    return folder / PAGE


def verdict(report: Report) -> dict[str, Any]:
    """Return what the page says first, as plain data."""
    gap = words.gap_sentence(report)
    return {
        "headline": words.headline(report).text,
        "sentences": [sentence.text for sentence in words.verdicts(report)],
        "gap": gap.text if gap else "",
        "warnings": words.warnings(report),
    }


def to_html(report: Report, samples: Samples) -> str:
    """Return the page: style and figures inline, nothing is loaded from elsewhere."""
    return template("validation.html.j2").render(
        report=report,
        words=words,
        headline=words.headline(report),
        gap=words.gap_sentence(report),
        curve=markup(figures.learning_curve(report)) if report["training"] else "",
        splits=[(entry, *_drawn(entry, samples[entry["name"]])) for entry in report["splits"]],
        forgetting=[
            (entry, markup(figures.group_bars(entry)) if entry["errors"] else "") for entry in report["forgetting"]
        ],
    )


def _drawn(entry: Report, sample: Mapping[str, NDArray[Any]]) -> tuple[list[Markup], list[Markup], Markup]:
    """Return parity plots, histograms and bars of a split."""
    name, found = entry["name"], [quantity for quantity in _DRAWN if quantity in sample]
    return (
        [markup(figures.parity(name, quantity, sample[quantity])) for quantity in found],
        [markup(figures.histogram(name, quantity, sample[quantity])) for quantity in found],
        markup(figures.group_bars(entry)),
    )


def to_markdown(report: Report) -> str:
    """Return the verdict and all tables as Markdown."""
    gap = words.gap_sentence(report)
    lines = [f"# Validation of {report['name']}", "", f"**{words.headline(report).text}**", ""]
    lines += [f"- {sentence.text}" for sentence in [*words.verdicts(report), *([gap] if gap else [])]]
    lines += [f"- Warning: {text}" for text in words.warnings(report)]
    lines += [
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {_cell(text)} |" for name, text in words.recipe_rows(report)),
        "",
    ]
    for entry in report["splits"]:
        lines += [f"## {entry['name']}, {entry['frames']} frames", "", *_tables(entry)]
    for entry in report["forgetting"]:
        lines += [f"## Forgetting on {entry['name']}, {entry['frames']} frames", ""]
        lines += _tables(entry) if entry["errors"] else [words.left_out_note(entry), ""]
        lines += [f"Head: `{entry['head']}`, which replay kept for these frames.", ""] if entry["head"] else []
    lines += [words.COLUMNS_NOTE, "", words.RELATIVE_NOTE, "", words.zero_note(report), ""]
    return "\n".join(lines)


def _tables(entry: Report) -> list[str]:
    head = "| | frames | RMSE | MAE | relative | parent RMSE | MAE | relative | change | 95 % interval |"
    lines = [head, f"|---|{'---:|' * 9}"]
    for row in words.quantity_rows(entry):
        cells = (row.label, row.frames, *row.mine, *row.theirs, row.change, row.interval)
        lines.append(f"| {' | '.join(cells)} |")
    titles = " | ".join(f"{label} [{unit}]" for label, unit in words.LABELS.values())
    lines += ["", f"| config_type | frames | {titles} |", f"|---|{'---:|' * (1 + len(words.LABELS))}"]
    for group in words.group_rows(entry):
        errors = [f"{mine} ({theirs}, {change})" if change else mine for mine, theirs, change in group.cells]
        lines.append(f"| {_cell(group.config_type)} | {group.frames} | {' | '.join(errors)} |")
    note = words.left_out_note(entry)
    return [*lines, "", *([note, ""] if note else [])]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
