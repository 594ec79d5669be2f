"""Figures of a validation: learning curves, parity, histograms of errors, bars by config_type; SVG text out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from mace_ft_bench.leaderboard.svg import (
    INK,
    PALETTE,
    QUIET,
    label_logarithmic,
    legend_above,
    new_figure,
    plain,
    tidy,
    to_svg,
)
from mace_ft_bench.leaderboard.wording import number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Report = Mapping[str, Any]
    Sample = NDArray[np.float64]

TUNED, PARENT, SECOND = PALETTE[0], PALETTE[1], PALETTE[2]
_PANELS = {
    "energy": ("energy", "meV/atom"),
    "forces": ("force component", "meV/Å"),
    "stress": ("stress component", "GPa"),
}
_PARITY_UNITS = {"energy": ("eV/atom", 1e-3), "forces": ("eV/Å", 1e-3), "stress": ("GPa", 1.0)}
"""Unit of a parity plot, and what one unit of the errors is in it."""
_HISTORY = {
    "energy_rmse_mev_per_atom": "E [meV/atom]",
    "force_rmse_mev_per_a": "F [meV/Å]",
    "stress_rmse_gpa": "S [GPa]",
}
_SMALL = 250
"""Width and height of a panel [pt] of which three stand side by side, or below each other on a phone."""
_HEXAGONS, _PALEST = 40, 0.25
_MOST_BINS = 41
_MOST_GROUPS = 40
"""Bars beyond which a figure would be longer than a page; the table has them all."""


def learning_curve(report: Report) -> str:
    """Draw validation errors against the epoch: the start as a line, the best epoch of either stage marked."""
    stages, best = report["training"]["stages"], report["training"]["best_epochs"]
    names = [name for name in _HISTORY if any(item[name] is not None for part in stages.values() for item in part)]
    figure = new_figure(60 + 115 * len(names))
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(panels, names, strict=True):
        axes.set_yscale("log")
        tidy(axes, "epoch" if name == names[-1] else "", _HISTORY[name])
        for stage, colour in zip(stages, (TUNED, SECOND), strict=False):
            _curve(axes, stages[stage], name, colour, best[stage])
        start = stages["one"][0][name]
        if start:
            axes.axhline(start, color=QUIET, linestyle=(0, (4, 3)), linewidth=1)
        label_logarithmic(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles = [Line2D([], [], color=colour, linewidth=1.6) for colour in (TUNED, SECOND)][: len(stages)]
    handles += [
        Line2D([], [], color=INK, marker="*", markersize=9, linestyle="none"),
        Line2D([], [], color=QUIET, linestyle=(0, (4, 3)), linewidth=1),
    ]
    legend_above(figure, handles, [*(f"stage {stage}" for stage in stages), "best epoch", "start (epoch −1)"])
    return to_svg(
        figure,
        name="learning curve",
        title="Errors on validation frames against the epoch; best epochs",
        description="; ".join(f"stage {stage}: epoch {epoch}" for stage, epoch in best.items()),
    )


def _curve(axes: Axes, stage: Sequence[Report], name: str, colour: str, best: int) -> None:
    points = [(item["epoch"], item[name]) for item in stage if item[name]]
    axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.4, marker="o", markersize=2.5) if points else None
    chosen = [(epoch, value) for epoch, value in points if epoch == best]
    if chosen:
        axes.plot(*chosen[0], color=INK, marker="*", markersize=10, linestyle="none", zorder=4)


def parity(split: str, name: str, sample: Sample) -> str:
    """Draw predictions of the fine-tuned model against labels; hexagons of more values have a stronger colour.

    Parameters
    ----------
    split
        Name of the split.
    name
        ``energy``, ``forces`` or ``stress``.
    sample
        Labels in the first row, predictions in the second; energies are shifted by the mean label.
    """
    unit, scale = _PARITY_UNITS[name]
    shift = sample[0].mean() if name == "energy" else 0.0
    labels, found = scale * (sample[0] - shift), scale * (sample[1] - shift)
    figure, axes = _small(f"label [{unit}]", f"prediction [{unit}]")
    low, high = float(min(labels.min(), found.min())), float(max(labels.max(), found.max()))
    margin = 0.04 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    axes.set(xlim=limits, ylim=limits, box_aspect=1)
    axes.axline((limits[0], limits[0]), slope=1, color=INK, linewidth=0.8, alpha=0.6, zorder=0.9)
    hexagons = axes.hexbin(labels, found, gridsize=_HEXAGONS, extent=(*limits, *limits), mincnt=1, linewidths=0)
    counts = np.log1p(np.asarray(hexagons.get_array(), dtype=float))
    hexagons.set_array(None)
    hexagons.set_facecolor([to_rgba(TUNED, _PALEST + (1 - _PALEST) * share) for share in counts / counts.max()])
    axes.locator_params(nbins=5)
    axes.xaxis.set_major_formatter("{x:g}")  # the default rounds ticks of some meV/atom to 0.00
    axes.yaxis.set_major_formatter("{x:g}")
    label, _ = _PANELS[name]
    return to_svg(
        figure,
        name=f"parity {split} {name}",
        title=f"{split}: {label}, prediction against label",
        description=f"{labels.size} values from {number(low)} to {number(high)} {unit}.",
    )


def histogram(split: str, name: str, sample: Sample) -> str:
    """Draw how many values have which error, the number on a logarithmic axis; the parent where there is one."""
    label, unit = _PANELS[name]
    errors = [row - sample[0] for row in sample[1:]]
    largest = float(max(np.abs(values).max() for values in errors)) or 1.0
    bins = min(_MOST_BINS, 2 * round(np.sqrt(sample.shape[1])) + 7)
    edges = np.linspace(-largest, largest, bins + 1)
    figure, axes = _small(f"error [{unit}]", "values")
    axes.set_yscale("log")
    for values, colour in reversed(list(zip(errors, (TUNED, PARENT), strict=False))):
        counts = np.histogram(values, edges)[0]
        axes.stairs(np.where(counts > 0, counts, np.nan), edges, color=colour, linewidth=1.5, baseline=0.5)
        axes.stairs(np.maximum(counts, 0.5), edges, baseline=0.5, fill=True, color=colour, alpha=0.15)
    axes.set_ylim(bottom=0.5)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.locator_params(axis="x", nbins=5)
    return to_svg(
        figure,
        name=f"histogram {split} {name}",
        title=f"{split}: errors of the {label}",
        description=f"The largest of {sample.shape[1]} is {number(largest)} {unit}.",
    )


def _small(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_SMALL / 72, _SMALL / 72), layout="constrained", facecolor="none")
    axes = figure.subplots()
    tidy(axes, xlabel, ylabel)
    return figure, axes


def group_bars(entry: Report) -> str:
    """Draw the RMSE of both models over all frames and by config_type, one panel per quantity that has labels."""
    rows = entry["errors"][: _MOST_GROUPS + 1]
    names = [name for name in _PANELS if rows[0]["fine_tuned"][name]]
    figure = new_figure(80 + (26 if rows[0]["parent"] else 17) * len(rows))
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        tidy(axes, f"{name[0].upper()} [{_PANELS[name][1]}]", "")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=3)
        _bars(axes, rows, name)
    titles = [f"{row['config_type'] or 'all'} ({row['frames']})" for row in rows]
    for text in panels[0].set_yticks(range(len(rows)), titles):
        plain(text.label1)
    panels[0].invert_yaxis()
    colours = {"fine-tuned": TUNED, "parent": PARENT} if rows[0]["parent"] else {"fine-tuned": TUNED}
    legend_above(figure, [Patch(color=colour) for colour in colours.values()], list(colours))
    return to_svg(
        figure,
        name=f"bars {entry['role']} {entry['name']}",
        title=f"{entry['name']}: RMSE by config_type",
        description="The numbers are in the table.",
    )


def _bars(axes: Axes, rows: Sequence[Report], name: str) -> None:
    both = rows[0]["parent"] is not None
    models = (("fine_tuned", TUNED, -0.2), ("parent", PARENT, 0.2)) if both else (("fine_tuned", TUNED, 0.0),)
    for model, colour, offset in models:
        for index, row in enumerate(rows):
            if errors := row[model][name]:
                axes.barh(index + offset, errors["rmse"], height=0.36 if both else 0.6, color=colour)
