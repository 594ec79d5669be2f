"""Figures of a study: errors against the share of the data and against steps, what was gained and what forgotten."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from mace_ft_bench.leaderboard.svg import INK, PALETTE, label_logarithmic, legend_above, new_figure, tidy, to_svg

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Record = Mapping[str, Any]

QUANTITIES = {"energy": "E [meV/atom]", "forces": "F [meV/Å]", "stress": "S [GPa]"}
_PANEL = 190
"""Height [pt]."""
_MARGIN = 1.2
"""Of the axis of shares, a factor on either side."""


class Point(NamedTuple):
    """Errors of the runs of one variant at one share."""

    fraction: float
    mean: float
    spread: float
    """Standard deviation over seeds; zero for one."""
    runs: int
    failed: int


def curves(records: Sequence[Record], split: str, quantity: str) -> dict[str, list[Point]]:
    """Return RMSE against the share, by variant.

    Parameters
    ----------
    records
        Of :func:`mace_ft_bench.finetune.study.run_study`.
    split
        Name of the frames compared on.
    quantity
        ``energy``, ``forces`` or ``stress``.
    """
    grouped: dict[tuple[str, float], list[Record]] = defaultdict(list)
    for record in records:
        grouped[record["variant"], record["fraction"]].append(record)
    found: dict[str, list[Point]] = defaultdict(list)
    for (variant, fraction), group in sorted(grouped.items(), key=lambda item: item[0][1]):
        values = [value for record in group for value in _rmse(record, split, quantity)]
        if values:
            failed = sum(record["status"] != "ok" for record in group)
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
            found[variant].append(Point(fraction, float(np.mean(values)), spread, len(values), failed))
    return dict(found)


def _rmse(record: Record, split: str, quantity: str) -> Iterator[float]:
    for entry in record.get("report", {}).get("splits", []):
        if entry["name"] == split:
            yield from overall(entry, "fine_tuned", quantity)


def overall(entry: Record, model: str, quantity: str) -> Iterator[float]:
    """Yield the RMSE over all frames of an entry of a report, if its frames have the label."""
    for row in entry["errors"]:
        if row["config_type"] is None and row[model] and row[model][quantity]:
            yield row[model][quantity]["rmse"]


def error_against_share(records: Sequence[Record], split: str) -> str:
    """Draw the errors of every variant against the share of the training frames, with the deviation over seeds."""
    drawn = {name: curves(records, split, name) for name in QUANTITIES}
    panels = [name for name, found in drawn.items() if found]
    colours = _colours(records)
    figure = new_figure(60 + _PANEL * len(panels))
    axes_of = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    shares = sorted({record["fraction"] for record in records})
    for axes, name in zip(axes_of, panels, strict=True):
        axes.set_xscale("log")
        axes.set_xlim(shares[0] / _MARGIN, shares[-1] * _MARGIN)  # a single share gives the axis no width
        axes.set_yscale("log")
        tidy(axes, "share of the training frames" if name == panels[-1] else "", QUANTITIES[name])
        for variant, points in drawn[name].items():
            _curve(axes, points, colours[variant])
        label_logarithmic(axes)
        axes.set_xticks(shares)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
    _legend(figure, colours)
    return to_svg(
        figure,
        name=f"error against share {split}",
        title=f"RMSE on {split} against the share of the training frames",
        description="Points are means over seeds, bars standard deviations; open points lack failed runs.",
    )


def _colours(records: Sequence[Record]) -> dict[str, str]:
    variants = dict.fromkeys(record["variant"] for record in records)
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(variants)}


def _legend(figure: Figure, colours: Mapping[str, str]) -> None:
    handles = [Line2D([], [], color=colour, marker="o", markersize=4) for colour in colours.values()]
    legend_above(figure, handles, list(colours))


def _curve(axes: Axes, points: Sequence[Point], colour: str) -> None:
    shares, means, spreads = (np.array([point[index] for point in points]) for index in range(3))
    axes.plot(shares, means, color=colour, linewidth=1.6)
    _bars(axes, (shares, means, spreads), colour)
    for point in points:
        face = "none" if point.failed else colour
        axes.plot(point.fraction, point.mean, marker="o", markersize=5, color=colour, markerfacecolor=face)


class Milestone(NamedTuple):
    """Force errors on the validation frames of the runs of one variant after some steps."""

    steps: int
    mean: float
    spread: float
    """Standard deviation over seeds; zero for one."""


def learning_curves(records: Sequence[Record], fraction: float) -> dict[str, list[Milestone]]:
    """Return force RMSE [meV/Angstrom] on the validation frames during training, by variant.

    Where the runs of a variant were not validated after the same steps, those of its first run count.

    Parameters
    ----------
    records
        Of :func:`mace_ft_bench.finetune.study.run_study`. Those of earlier releases have no history and are left out.
    fraction
        Share of the training frames.
    """
    found: dict[str, list[Milestone]] = {}
    for variant in dict.fromkeys(record["variant"] for record in records):
        runs = [
            {entry["steps"]: entry["forces"] for entry in record.get("history", []) if entry["forces"] is not None}
            for record in records
            if (record["variant"], record["fraction"]) == (variant, fraction) and record.get("history")
        ]
        for steps in runs[0] if runs else ():
            values = [run[steps] for run in runs if steps in run]
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
            if steps > 0:
                found.setdefault(variant, []).append(Milestone(steps, float(np.mean(values)), spread))
    return found


def error_against_steps(records: Sequence[Record]) -> str:
    """Draw the force errors on the validation frames during training, a panel per share; nothing without a history."""
    drawn = {fraction: learning_curves(records, fraction) for fraction in sorted({r["fraction"] for r in records})}
    drawn = {fraction: found for fraction, found in drawn.items() if found}
    if not drawn:
        return ""
    colours = _colours(records)
    figure = new_figure(60 + _PANEL * len(drawn))
    panels = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (fraction, found) in zip(panels, drawn.items(), strict=True):
        axes.set_yscale("log")
        label = f"{QUANTITIES['forces']}, share {fraction:g}" if len(drawn) > 1 else QUANTITIES["forces"]
        tidy(axes, "steps" if axes is panels[-1] else "", label)
        for variant, points in found.items():
            steps, means, spreads = (np.array([point[index] for point in points]) for index in range(3))
            axes.plot(steps, means, color=colours[variant], linewidth=1.6, marker="o", markersize=4)
            _bars(axes, (steps, means, spreads), colours[variant])
        label_logarithmic(axes)
    _legend(figure, colours)
    return to_svg(
        figure,
        name="error against steps",
        title="Force RMSE on the validation frames during training",
        description="Points are means over seeds, bars standard deviations.",
    )


def _bars(axes: Axes, points: tuple[np.ndarray, np.ndarray, np.ndarray], colour: str) -> None:
    places, means, spreads = points
    if spreads.any():  # a bar of no height still puts rounding errors beside its value, which spoils the axis
        axes.errorbar(places, means, np.minimum(spreads, 0.95 * means), color=colour, linestyle="none", capsize=3)


def forgetting_against_gain(records: Sequence[Record], split: str, domain: str, quantity: str = "forces") -> str:
    """Draw, for every run with a parent, the error on the parent's domain against that on the new frames."""
    variants = list(dict.fromkeys(record["variant"] for record in records))
    figure = new_figure(320)
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_yscale("log")
    unit = QUANTITIES[quantity]
    tidy(axes, f"{unit} on {split}", f"{unit} on {domain}")
    parents: set[tuple[float, float]] = set()
    for index, variant in enumerate(variants):
        for mine, theirs in _gains(records, variant, (split, domain), quantity):
            axes.plot(*mine, "o", markersize=5, color=PALETTE[index % len(PALETTE)])
            parents.add(theirs)
    label_logarithmic(axes)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    for point in parents:
        axes.plot(*point, "*", markersize=11, color=INK)
    handles = [
        Line2D([], [], color=PALETTE[index % len(PALETTE)], marker="o", linestyle="none")
        for index in range(len(variants))
    ]
    handles.append(Line2D([], [], color=INK, marker="*", markersize=9, linestyle="none"))
    legend_above(figure, handles, [*variants, "parent"])
    return to_svg(
        figure,
        name="forgetting against gain",
        title=f"RMSE on {domain}, the parent's domain, against RMSE on {split}",
        description="Every point is a run; the star is the parent.",
    )


def _gains(
    records: Sequence[Record], variant: str, splits: tuple[str, str], quantity: str
) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """Yield (new, old) errors of the fine-tuned model and of its parent, of the runs that have all four."""
    for record in records:
        report = record.get("report", {})
        entries = {entry["name"]: entry for entry in [*report.get("splits", []), *report.get("forgetting", [])]}
        if record["variant"] != variant or not set(splits) <= set(entries):
            continue
        found = [list(overall(entries[name], model, quantity)) for model in ("fine_tuned", "parent") for name in splits]
        if all(found):
            new, old, parents_new, parents_old = (values[0] for values in found)
            yield (new, old), (parents_new, parents_old)
