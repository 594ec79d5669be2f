"""The figure of a table of timed dynamics: time per step against atoms, fitted lines, and what was published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D

from mace_ft_bench.leaderboard.svg import (
    INK,
    QUIET,
    Style,
    label_logarithmic,
    legend_above,
    model_styles,
    new_figure,
    tidy,
    to_svg,
)
from mace_ft_bench.leaderboard.timing_rows import power_laws

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from mace_ft_bench.leaderboard.timing_rows import PublishedTimes, TimingRow, Way

_PANEL = 210
"""Height [pt]."""
_MARGIN = 1.25
"""Factor between the outermost size and the edge of the figure."""
_APART = 1.5
"""Ratio of sizes from which on both have room for a label."""
_DISPERSION = (("o", "-"), ("^", "--"), ("s", "-."))
"""Marker and dashes."""
_PUBLISHED = ("--", ":", "-.")


def draw_times(rows: Sequence[TimingRow], published: PublishedTimes | None, *, title: str) -> str:
    """Draw medians with quartiles against the number of atoms, one panel per device and dtype.

    Returns
    -------
    str
        An ``<svg>`` element; empty if there are no times.
    """
    timed = [row for row in rows if row.samples]
    if not timed:
        return ""
    panels = list(dict.fromkeys((row.way.device, row.way.dtype) for row in timed))
    styles = _styles([row.way for row in timed])
    figure = new_figure(70 + _PANEL * len(panels))
    axes_of = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (device, dtype) in zip(axes_of, panels, strict=True):
        own = [row for row in timed if (row.way.device, row.way.dtype) == (device, dtype)]
        _panel(axes, own, styles, published)
        axes.set_title(f"{device}, {dtype}", loc="left", fontsize=9.5, color=INK)
    axes_of[-1].set_xlabel("atoms", color=INK, fontsize=10)
    handles = [_handle(style) for style in styles.values()]
    names = list(styles)
    if published:
        handles += [_published_handle(number) for number in range(len(published.curves))]
        names += [f"published: {curve.name}" for curve in published.curves]
    legend_above(figure, handles, names)
    told = [f"{way}: exponent {law}" for way, law in power_laws(timed).items() if law]
    description = "; ".join(told)
    return to_svg(figure, name=f"times {title}", title=f"{title}: time per step against atoms", description=description)


def _styles(ways: Sequence[Way]) -> dict[str, Style]:
    """Return one style per name: the colour tells the accelerator, marker and dashes the dispersion."""
    colours = model_styles(dict.fromkeys(way.accelerate for way in ways))
    dispersions = list(dict.fromkeys(way.dispersion for way in ways))
    return {
        _name(way): Style(
            colours[way.accelerate].colour, *_DISPERSION[dispersions.index(way.dispersion) % len(_DISPERSION)]
        )
        for way in ways
    }


def _name(way: Way) -> str:
    return f"{way.accelerate}, {way.dispersion_text}"


def _panel(axes: Axes, rows: Sequence[TimingRow], styles: dict[str, Style], published: PublishedTimes | None) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    tidy(axes, "", "time per step [ms]")
    for row in rows:
        low, median, high = row.quartiles or (0.0, 0.0, 0.0)
        style = styles[_name(row.way)]
        spread = [[median - low], [high - median]]
        axes.errorbar(
            row.atoms, median, yerr=spread, color=style.colour, marker=style.marker, markersize=5, capsize=3, zorder=3
        )
    for way, law in power_laws(rows).items():
        sizes = sorted(row.atoms for row in rows if row.way == way)
        if law:
            style = styles[_name(way)]
            ends = [sizes[0], sizes[-1]]
            axes.plot(ends, [law(end) for end in ends], color=style.colour, linestyle=style.dashes, linewidth=1.4)
    if published:
        for number, curve in enumerate(published.curves):
            line = _published_handle(number)
            line.set_data(published.atoms, published.ms_per_step(curve))
            axes.add_line(line)
    sizes = sorted({*(row.atoms for row in rows), *(published.atoms if published else ())})
    axes.set_xlim(sizes[0] / _MARGIN, sizes[-1] * _MARGIN)
    axes.autoscale_view(scalex=False)
    label_logarithmic(axes)
    _label_sizes(axes, sizes)


def _label_sizes(axes: Axes, sizes: Sequence[int]) -> None:
    """Label the sizes themselves, leaving out those that would cover the one before."""
    shown = [sizes[0]]
    for size in sizes[1:]:
        if size > _APART * shown[-1]:
            shown.append(size)
    axes.set_xticks(shown, minor=False)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter("{x:g}")


def _handle(style: Style) -> Line2D:
    return _line(style.colour, style.marker, style.dashes, 1.4)


def _published_handle(number: int) -> Line2D:
    return _line(QUIET, "x", _PUBLISHED[number % len(_PUBLISHED)], 1.2)


def _line(colour: str, marker: str, dashes: Any, width: float) -> Line2D:  # noqa: ANN401 - matplotlib lists the strings
    return Line2D([], [], color=colour, marker=marker, markersize=5, linestyle=dashes, linewidth=width)
