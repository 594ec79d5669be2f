"""Lines that figures of several properties share: of models, of references, and their values in words."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_ft_bench.leaderboard.svg import INK, QUIET
from mace_ft_bench.leaderboard.wording import quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    from mace_ft_bench.leaderboard.svg import Style
    from mace_ft_bench.results.case import Case, Reference

Results = Mapping[str, Mapping[str, Any]]
"""Result fields by model, measured models in order."""


def plain_line(axes: Axes, x: Any, y: Any, style: Style) -> Line2D:  # noqa: ANN401 - any sequence of numbers
    """Draw a thin line without markers."""
    (line,) = axes.plot(x, y, color=style.colour, linestyle=style.dashes, linewidth=1.2)
    return line


def line(axes: Axes, x: Any, y: Any, style: Style) -> Line2D:  # noqa: ANN401 - any sequence of numbers
    """Draw a line with markers."""
    (line,) = axes.plot(
        x, y, color=style.colour, linestyle=style.dashes, marker=style.marker, linewidth=1.6, markersize=4
    )
    return line


def reference_curves(axes: Axes, case: Case, name: str) -> dict[str, Line2D]:
    """Curves of references over equally spaced displacements from 0 to 1; published models in grey, by marker."""
    lines = {}
    markers = cycle("x+1234")
    for reference in case.references:
        curve = reference.values.get(name)
        if isinstance(curve, list):
            label, options = curve_look(reference)
            if reference.kind == "published_model":
                options |= {"marker": next(markers)}
            (lines[label],) = axes.plot(np.linspace(0, 1, len(curve)), curve, markersize=7, zorder=3, **options)
    return lines


def curve_look(reference: Reference) -> tuple[str, dict[str, Any]]:
    """Return the label of a reference and how it is drawn."""
    if reference.kind == "published_model":
        return f"{reference.label} (published)", {"color": QUIET, "linestyle": "--", "marker": "x"}
    label = f"{reference.label} ({reference.level_of_theory})"
    return label, {"color": INK, "linestyle": "none", "marker": "o", "markerfacecolor": "none"}


def listed(values: Mapping[str, Any], unit: str) -> str:
    """Return values by name in words, for the text that stands for a figure."""
    found = ((name, quantity("", value)) for name, value in values.items() if value is not None)
    return ", ".join(f"{name} {text} {unit}".rstrip() for name, text in found)
