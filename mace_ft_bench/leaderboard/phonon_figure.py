"""Phonon dispersion and density of states as a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mace_ft_bench.leaderboard.curves import curve_look, listed
from mace_ft_bench.leaderboard.svg import INK, QUIET, legend_above, new_figure, tidy, to_svg

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    from mace_ft_bench.leaderboard.curves import Results
    from mace_ft_bench.leaderboard.svg import Styles
    from mace_ft_bench.results.case import Case, Reference


def phonons(case: Case, results: Results, styles: Styles) -> str:
    """Dispersion and density of states, frequencies of references at special points as open circles.

    Paths are drawn between the special points of the first model: reciprocal vectors differ as lattice constants do. A
    model with another sequence of points has another lattice and is left out.
    """
    figure = new_figure(290)
    bands, states = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    tidy(bands, "", "frequency [THz]")
    tidy(states, "states/THz", "")
    lines: dict[str, Line2D] = {}
    first = next(iter(results.values()))
    alike = {model: result for model, result in results.items() if _names(result) == _names(first)}
    for model, result in alike.items():
        look = {"color": styles[model].colour, "linestyle": styles[model].dashes, "linewidth": 1.3}
        lines[model] = bands.plot(_along(first, result), result["path_thz"], **look)[0]
        states.plot(result["dos_states_per_thz_and_atom"], result["dos_thz"], **look)
    places = _special_points(bands, first)
    for reference in case.references:
        found = [(x, value) for x, name in places for value in _frequencies_at(reference, name)]
        if found and reference.kind != "published_model":
            label, options = curve_look(reference)
            (lines[label],) = bands.plot(*zip(*found, strict=True), markersize=6, zorder=3, clip_on=False, **options)
    states.set_xlim(left=0)
    bands.axhline(0, color=INK, linewidth=0.6)
    legend_above(figure, list(lines.values()), list(lines))
    lowest = {model: result["lowest_thz"] for model, result in results.items()}
    others = [model for model in results if model not in alike]
    left_out = f" Not drawn, another lattice: {', '.join(others)}." if others else ""
    return to_svg(
        figure,
        name=case.id,
        title=f"{case.title}: dispersion and density of states",
        description=f"Lowest frequencies, negative where imaginary: {listed(lowest, 'THz')}.{left_out}",
    )


def _names(result: Mapping[str, Any]) -> list[str]:
    return [name for _, name in result["path_labels"]]


def _along(first: Mapping[str, Any], result: Mapping[str, Any]) -> np.ndarray:
    """Return places of the q-points of a result, its special points at those of the first, from 0 to 1."""
    own, target = (np.array([place for place, _ in item["path_labels"]]) for item in (result, first))
    return np.asarray(np.interp(result["path_distance"], own, target / target[-1]))


def _special_points(axes: Axes, result: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Mark the special points of a path and return them; two names share the place where a path is broken."""
    length = result["path_distance"][-1]
    places = [(place / length, name) for place, name in result["path_labels"]]
    names: dict[float, list[str]] = {}
    for place, name in places:
        names.setdefault(round(place, 4), []).append("Γ" if name == "G" else name)
    axes.set_xticks(list(names), ["|".join(dict.fromkeys(group)) for group in names.values()])
    axes.grid(visible=True, axis="x", color=QUIET, alpha=0.7)
    axes.set_xlim(0, 1)
    return places


def _frequencies_at(reference: Reference, point: str) -> list[float]:
    values = reference.values.get(f"thz_at_{point}", [])
    return values if isinstance(values, list) else [values]
