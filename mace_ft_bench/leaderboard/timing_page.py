"""Write a table of timed dynamics: a self-contained page, its figure, and the numbers as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mace_ft_bench.atomic import write_whole
from mace_ft_bench.errors import StoreError
from mace_ft_bench.leaderboard.templating import markup, template
from mace_ft_bench.leaderboard.timing_figure import draw_times
from mace_ft_bench.leaderboard.timing_rows import STEPS, power_laws, published_times, timing_rows
from mace_ft_bench.leaderboard.wording import NONE, number, plural
from mace_ft_bench.results.timing_record import BUSY, TimingResult, result_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mace_ft_bench.leaderboard.timing_rows import PublishedCurve, PublishedTimes, TimingRow, Way
    from mace_ft_bench.results.record import Record

PAGE, FIGURE, MARKDOWN, CSV, JSON = (f"timing.{end}" for end in ("html", "svg", "md", "csv", "json"))
CAPTION = (
    "Time of a step against the number of atoms. Points are medians of the samples, bars their quartiles, lines the "
    "fitted power laws."
)
CAPTION_PUBLISHED = " Grey is what was published, on other hardware and with another model."
SUMMARY_NOTE = (
    f"Seconds for {STEPS:,} steps. Exponents are those of power laws fitted by least squares to the medians, log time "
    "over log atoms, with the standard error of the fit."
)


@dataclass(frozen=True)
class Table:
    """Cells as they are shown."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class TimingReport:
    """Everything that is shown, whatever the format."""

    model: str
    protocol: TimingResult
    """Of the first record; all share system, thermostat and steps."""
    rows: tuple[TimingRow, ...]
    published: PublishedTimes | None
    packages: dict[str, str]
    started: str

    @classmethod
    def of(cls, records: Sequence[Record]) -> TimingReport:
        """Return the report of records of one table."""
        protocol = result_of(records[0])
        return cls(
            model=records[0].model,
            protocol=protocol,
            rows=tuple(timing_rows(records)),
            published=published_times(protocol.system),
            packages=dict(records[0].provenance.package_versions),
            started=max(record.provenance.started for record in records),
        )

    @property
    def lead(self) -> str:
        """What was timed, in a sentence."""
        what = self.protocol
        return (
            f"Langevin dynamics of {what.system} at {what.temperature_k:g} K, {what.timestep_fs:g} fs a step, "
            f"friction {what.friction_per_fs:g}/fs; samples of {plural(what.steps, 'step')}, "
            "all configurations of a size in turns."
        )

    @property
    def warnings(self) -> list[str]:
        """What makes the times doubtful."""
        loads = [row.load_average for row in self.rows if row.samples and row.load_average is not None]
        if not loads or max(loads) < BUSY:
            return []
        load = f"The machine was busy: its load average was {max(loads):.1f} before the timing."
        return [f"{load} Times are longer, and scatter more, than on an idle machine."]


def write_timing(records: Sequence[Record], folder: Path) -> Path:
    """Write ``timing.html``, ``.svg``, ``.md``, ``.csv`` and ``.json``, and return the path of the page.

    Parameters
    ----------
    records
        Of :func:`mace_ft_bench.results.timing_table.run_table`; one at least.
    folder
        Receives the files; those of an earlier call are replaced.

    Raises
    ------
    StoreError
        If the folder cannot be written.
    """
    report = TimingReport.of(records)
    figure = draw_times(report.rows, report.published, title=f"{report.model}, {report.protocol.system}")
    texts = {
        PAGE: to_html(report, figure),
        **({FIGURE: figure} if figure else {}),
        MARKDOWN: to_markdown(report),
        CSV: to_csv(report),
        JSON: to_json(report),
    }
    try:
        for file, text in texts.items():
            write_whole(folder / file, text)
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror}.", fix="give another folder.") from error
    return folder / PAGE


def times_table(report: TimingReport) -> Table:
    """Return what ran, size by size."""
    memory = any(row.peak_memory_mb for row in report.rows)
    titles = ("atoms", "device", "dtype", "dispersion", "accelerate", "ms/step", "quartiles", "samples", "µs/atom/step")
    more = ("ns/day", "peak memory [MB]") if memory else ("ns/day",)
    rows = []
    for row in report.rows:
        if row.quartiles is None:
            continue
        low, median, high = row.quartiles
        asked = row.way.accelerate
        cells = (
            str(row.atoms),
            *(row.way.device, row.way.dtype, row.way.dispersion_text),
            asked if row.used in {asked, "own"} else f"{asked} ({row.used})",
            *(_number(median), f"{_number(low)} to {_number(high)}", str(len(row.samples))),
            *(_number(row.us_per_atom), _number(row.ns_per_day)),
        )
        rows.append((*cells, *((_number(row.peak_memory_mb),) if memory else ())))
    return Table((*titles, *more), tuple(rows))


def refused_table(report: TimingReport) -> Table:
    """Return what could not run, and why; sizes, and then accelerators, with all else in common share a row."""
    sizes: dict[tuple[Way, str], list[str]] = {}
    for row in report.rows:
        if not row.samples:
            sizes.setdefault((row.way, row.reason), []).append(str(row.atoms))
    accelerators: dict[tuple[str, ...], list[str]] = {}
    for (way, reason), found in sizes.items():
        key = (", ".join(found), way.device, way.dtype, way.dispersion_text, reason)
        accelerators.setdefault(key, []).append(way.accelerate)
    rows = tuple((*key[:-1], ", ".join(names), key[-1]) for key, names in accelerators.items())
    return Table(("atoms", "device", "dtype", "dispersion", "accelerate", "reason"), rows)


def summary_table(report: TimingReport) -> Table:
    """Return the time of ten thousand steps by size, and the fitted exponent, of every way that has times."""
    sizes = sorted({row.atoms for row in report.rows if row.samples})
    seconds = {(row.way, row.atoms): row.seconds for row in report.rows}
    rows = []
    for way, law in power_laws(report.rows).items():
        cells = (_number(seconds.get((way, atoms))) for atoms in sizes)
        rows.append((way.device, way.dtype, way.dispersion_text, way.accelerate, *cells, str(law or NONE)))
    titles = ("device", "dtype", "dispersion", "accelerate", *(f"{atoms} atoms [s]" for atoms in sizes))
    return Table((*titles, "exponent"), tuple(rows))


def published_table(published: PublishedTimes) -> Table:
    """Return published times as printed, and their exponents, as printed and as fitted."""
    sizes = [f"{atoms} atoms [s]" for atoms in published.atoms]
    rows = [_published_row(published, curve) for curve in published.curves]
    return Table(("", *sizes, "exponent printed", "exponent fitted"), tuple(rows))


def _published_row(published: PublishedTimes, curve: PublishedCurve) -> tuple[str, ...]:
    printed = NONE if curve.exponent_as_printed is None else f"{curve.exponent_as_printed:.2f}"
    return (curve.name, *(f"{time:g}" for time in curve.seconds), printed, str(published.law(curve) or NONE))


def published_note(published: PublishedTimes) -> str:
    """Return where published times are from."""
    return (
        f"{published.source}: {published.task}, {published.label}. The fitted exponent is a least-squares fit to the "
        "printed times."
    )


def machine_table(report: TimingReport) -> Table:
    """Return the hardware by device, and the versions."""
    rows = []
    for device in dict.fromkeys(row.way.device for row in report.rows):
        row = next(row for row in report.rows if row.way.device == device)
        threads = f", {plural(row.threads, 'thread')}" if device == "cpu" else ""
        load = "" if row.load_average is None else f", load average before {row.load_average:.1f}"
        rows.append((device, f"{row.hardware}{threads}{load if row.samples else ''}"))
    rows += [
        ("packages", ", ".join(f"{name} {version}" for name, version in report.packages.items())),
        ("last timed", report.started),
    ]
    return Table(("", ""), tuple(rows))


def to_html(report: TimingReport, figure: str) -> str:
    """Return the page: style and figure inline, nothing is loaded from elsewhere."""
    published = report.published
    return template("timing.html.j2").render(
        model=report.model,
        lead=report.lead,
        warnings=report.warnings,
        figure=markup(figure),
        caption=CAPTION + (CAPTION_PUBLISHED if published else ""),
        times=times_table(report),
        refused=refused_table(report),
        summary=summary_table(report),
        summary_note=SUMMARY_NOTE,
        published=published_table(published) if published else None,
        published_note=published_note(published) if published else "",
        machine=machine_table(report),
    )


def to_markdown(report: TimingReport) -> str:
    """Return the tables as Markdown."""
    parts = [
        f"# Timing of {report.model}",
        report.lead,
        *report.warnings,
        SUMMARY_NOTE,
        _markdown(summary_table(report)),
    ]
    if report.published:
        parts += ["## Published, on other hardware and with another model", published_note(report.published)]
        parts.append(_markdown(published_table(report.published)))
    if (refused := refused_table(report)).rows:
        parts += ["## What could not run", _markdown(refused)]
    parts += ["## Steps", _markdown(times_table(report)), "## Where", _markdown(machine_table(report))]
    return "\n\n".join(parts) + "\n"


def _markdown(table: Table) -> str:
    lines = [table.titles, ("---",) * len(table.titles), *table.rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def to_csv(report: TimingReport) -> str:
    """Return one line per configuration and size, with full precision."""
    text = io.StringIO()
    rows = [_plain(row) for row in report.rows]
    writer = csv.DictWriter(text, [name for name in rows[0] if name != "samples_ms_per_step"], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_json(report: TimingReport) -> str:
    """Return everything, with all samples."""
    laws = [
        {**way._asdict(), "exponent": law.exponent, "standard_error": law.standard_error, "sizes": law.sizes}
        for way, law in power_laws(report.rows).items()
        if law
    ]
    data = {
        "model": report.model,
        "system": report.protocol.system,
        "steps_per_sample": report.protocol.steps,
        "timestep_fs": report.protocol.timestep_fs,
        "temperature_k": report.protocol.temperature_k,
        "friction_per_fs": report.protocol.friction_per_fs,
        "packages": report.packages,
        "rows": [_plain(row) for row in report.rows],
        "power_laws": laws,
        "published": _published_plain(report.published) if report.published else None,
    }
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(row: TimingRow) -> dict[str, Any]:
    low, median, high = row.quartiles or (None, None, None)
    return {
        "atoms": row.atoms,
        **row.way._asdict(),
        "used": row.used,
        "ms_per_step": median,
        "first_quartile_ms_per_step": low,
        "third_quartile_ms_per_step": high,
        "samples": len(row.samples),
        "samples_ms_per_step": list(row.samples),
        "us_per_atom_and_step": row.us_per_atom,
        f"seconds_for_{STEPS}_steps": row.seconds,
        "ns_per_day": row.ns_per_day,
        "peak_memory_mb": row.peak_memory_mb,
        "hardware": row.hardware,
        "threads": row.threads,
        "load_average": row.load_average,
        "status": row.status,
        "reason": row.reason,
    }


def _published_plain(published: PublishedTimes) -> dict[str, Any]:
    return {
        "label": published.label,
        "source": published.source,
        "task": published.task,
        "atoms": list(published.atoms),
        "curves": [
            {
                "name": curve.name,
                "seconds": list(curve.seconds),
                "exponent_as_printed": curve.exponent_as_printed,
                "exponent_fitted": law.exponent if (law := published.law(curve)) else None,
            }
            for curve in published.curves
        ],
    }


def _number(value: float | None) -> str:
    return NONE if value is None else number(value)
