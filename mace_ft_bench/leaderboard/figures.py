"""Figures by property: plain results in, SVG text out.

A figure is a function of a case, the results by model (plain dictionaries, measured models in order) and their styles.
A property without an entry in :data:`FIGURES` simply has no figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from mace_ft_bench.leaderboard.bar_figure import bars
from mace_ft_bench.leaderboard.curves import Results, curve_look, line, listed, reference_curves
from mace_ft_bench.leaderboard.dynamics_figures import molecular_dynamics, nve_drift
from mace_ft_bench.leaderboard.phonon_figure import phonons
from mace_ft_bench.leaderboard.published import published_models
from mace_ft_bench.leaderboard.svg import (
    INK,
    Style,
    Styles,
    legend_above,
    model_styles,
    new_figure,
    tidy,
    to_svg,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mace_ft_bench.results.case import Case, Reference

_PANELS = 4
"""Most panels side by side."""
_DEEPEST = 15.0
"""Depth [eV] of a well beyond which it is none: no two atoms bind as strongly."""

FigureFunction = Callable[["Case", Results, Styles], str]


def draw_figure(case: Case, results: Results, styles: Styles | None = None) -> str:
    """Return the figure of a case as SVG text, empty if its property has none or there are no results.

    Parameters
    ----------
    case
        The case, with its references.
    results
        Result fields by model, of successful records only.
    styles
        Style by model; give those of :func:`~mace_ft_bench.leaderboard.svg.model_styles` over all models to keep them
        the same in all figures.
    """
    function = FIGURES.get(case.property)
    if function is None or not results:
        return ""
    return function(case, results, styles if styles is not None else model_styles(results))


def gsfe(case: Case, results: Results, styles: Styles) -> str:
    """Stacking fault energy against displacement, DFT as open circles."""
    figure = new_figure(290 + 10 * len(published_models(case)))
    axes = figure.subplots()
    tidy(axes, "displacement / slip vector", "stacking fault energy [J/m²]")
    lines = {
        model: line(axes, result["displacement"], result["gamma_j_per_m2"], styles[model])
        for model, result in results.items()
    }
    lines |= reference_curves(axes, case, "gamma_j_per_m2")
    axes.set_xlim(-0.02, 1.02)
    legend_above(figure, list(lines.values()), list(lines))
    barriers = {model: result["barrier_j_per_m2"] for model, result in results.items()}
    return to_svg(
        figure,
        name=case.id,
        title=f"{case.title}: stacking fault energy against displacement",
        description=f"Barriers: {listed(barriers, 'J/m²')}.",
    )


def eos(case: Case, results: Results, styles: Styles) -> str:
    """Energy above the minimum against volume."""
    figure = new_figure(280)
    axes = figure.subplots()
    tidy(axes, "volume [Å³/atom]", "energy above minimum [meV/atom]")
    lines = {}
    for model, result in results.items():
        energies = np.asarray(result["energies_ev_per_atom"])
        above = 1000.0 * (energies - energies.min())
        lines[model] = line(axes, result["volumes_angstrom3_per_atom"], above, styles[model])
    scored = case.scored_reference
    if scored and isinstance(volume := scored.values.get("v0_angstrom3_per_atom"), float):
        lines[f"V0, {scored.label}"] = axes.axvline(volume, color=INK, linestyle=(0, (4, 3)), linewidth=1)
    legend_above(figure, list(lines.values()), list(lines))
    volumes = {model: result["v0_angstrom3_per_atom"] for model, result in results.items()}
    return to_svg(
        figure,
        name=case.id,
        title=f"{case.title}: energy against volume",
        description=f"Equilibrium volumes: {listed(volumes, 'Å³/atom')}.",
    )


def phases(case: Case, results: Results, styles: Styles) -> str:
    """Energy of every phase above the ground state, and the curves of energy against volume behind it."""
    energies = {model: _but_ground(result["energy_mev_per_atom"]) for model, result in results.items()}
    scored = case.scored_reference
    known, volumes = (_by_name(scored, field) for field in ("energy_mev_per_atom", "volume_angstrom3_per_atom"))
    figure = new_figure(200 + 14 * len(_lowest_first(known, *energies.values())))
    rows, curves = figure.subplots(1, 2, width_ratios=(3, 2))
    tidy(rows, "energy above the ground state [meV/atom]", "")
    tidy(curves, "volume [Å³/atom]", "energy [meV/atom]")
    lines = _dot_rows(rows, case, energies, known, styles)
    for model, result in reversed(list(results.items())):  # the best model on top
        _draw_curves(curves, result, styles[model])
    places = [(volumes[name], energy) for name, energy in known.items() if name in volumes]
    if scored and places:
        curves.plot(*zip(*places, strict=True), markersize=6, zorder=3, **curve_look(scored)[1])
    legend_above(figure, list(lines.values()), list(lines))
    each = [f"{model}: {listed(values, 'meV/atom')}" for model, values in energies.items()]
    return to_svg(
        figure,
        name=case.id,
        title=f"{case.title}: energies of the phases, and energy against volume",
        description=f"Energies above the ground state. {'; '.join(each)}.",
    )


def formation_energies(case: Case, results: Results, styles: Styles) -> str:
    """Draw the formation energy of every defect."""
    energies = {model: result["formation_energy_ev"] for model, result in results.items()}
    known = _by_name(case.scored_reference, "formation_energy_ev")
    figure = new_figure(130 + 18 * len(_lowest_first(known, *energies.values())))
    axes = figure.subplots()
    tidy(axes, "formation energy [eV]", "")
    lines = _dot_rows(axes, case, energies, known, styles)
    legend_above(figure, list(lines.values()), list(lines))
    each = [f"{model}: {listed(values, 'eV')}" for model, values in energies.items()]
    return to_svg(
        figure,
        name=case.id,
        title=f"{case.title}: formation energies by model and reference",
        description=f"{'; '.join(each)}.",
    )


def _dot_rows(
    axes: Axes, case: Case, values: Mapping[str, Mapping[str, float]], known: Mapping[str, float], styles: Styles
) -> dict[str, Line2D]:
    """Draw a row per name, the lowest at the bottom: a dot per model, an open circle of the scored reference."""
    names = _lowest_first(known, *values.values())
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    lines: dict[str, Line2D] = {}
    for model, found in reversed(list(values.items())):  # the best model on top
        lines[model] = line(axes, list(found.values()), [names.index(name) for name in found], styles[model])
        lines[model].set(linestyle="none", markersize=6)
    lines = {model: lines[model] for model in values}
    if case.scored_reference and known:
        label, options = curve_look(case.scored_reference)
        heights = [names.index(name) for name in known]
        (lines[label],) = axes.plot(list(known.values()), heights, markersize=9, zorder=3, **options)
    return lines


def _by_name(reference: Reference | None, field: str) -> dict[str, float]:
    """Return the entries ``<field>_<name>`` of a reference by name."""
    values = reference.values.items() if reference else ()
    return _but_ground(
        {
            name.removeprefix(f"{field}_"): value
            for name, value in values
            if name.startswith(f"{field}_") and isinstance(value, float)
        }
    )


def _but_ground(table: Mapping[str, float]) -> dict[str, float]:
    """Leave out the ground state, which is the zero of the others."""
    return {name: value for name, value in table.items() if name != "ground"}


def _lowest_first(*sources: Mapping[str, float]) -> list[str]:
    """Return the names of all sources by the value in the first that has them."""
    values = {name: value for source in reversed(sources) for name, value in source.items()}
    return sorted(values, key=values.__getitem__)


def _draw_curves(axes: Axes, result: Mapping[str, Any], style: Style) -> None:
    for name, volumes in result["curve_angstrom3_per_atom"].items():
        energies = result["curve_mev_per_atom"][name]
        axes.plot(volumes, energies, color=style.colour, linestyle=style.dashes, linewidth=1.2)


def diatomics(case: Case, results: Results, styles: Styles) -> str:
    """Energy against distance, a panel per pair."""
    pairs = list(dict.fromkeys(chain.from_iterable(result["energy_ev"] for result in results.values())))
    columns = min(len(pairs), _PANELS)
    rows = math.ceil(len(pairs) / columns)
    figure = new_figure(110 + (200 if rows == 1 else 120 * rows))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    lines: dict[str, Line2D] = {}
    for axes, pair in zip(panels, pairs, strict=False):
        for model, result in reversed(list(results.items())):  # the best model on top
            if pair in result["energy_ev"]:
                look: dict[str, Any] = {"color": styles[model].colour, "linestyle": styles[model].dashes}
                curve = (result["distance_angstrom"][pair], result["energy_ev"][pair])
                (lines[model],) = axes.plot(*curve, linewidth=1.4, **look)
        tidy(axes, "", "")
        axes.set_title(pair, loc="left", fontsize=9.5, color=INK)
        axes.set_ylim(
            _around_the_minimum(
                [result["energy_ev"][pair] for result in results.values() if pair in result["energy_ev"]]
            )
        )
    for axes in panels[len(pairs) :]:
        axes.set_axis_off()
    figure.supxlabel("distance [Å]", fontsize=10, color=INK)
    figure.supylabel("energy [eV]", fontsize=10, color=INK)
    lines = {model: lines[model] for model in results}
    legend_above(figure, list(lines.values()), list(lines))
    flips = {model: result["flips_per_pair"] for model, result in results.items()}
    return to_svg(
        figure,
        name=case.id,
        title=f"{case.title}: energy against distance",
        description=f"Extra sign changes of the force: {listed(flips, 'per pair')}.",
    )


def _around_the_minimum(curves: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return limits that show the wells; the repulsion leaves the panel, and so does what falls far below it."""
    depths = [-min(curve) for curve in curves]
    well = max([1.0, *(depth for depth in depths if depth <= _DEEPEST)])
    return -1.2 * well, 1.2 * well


def throughput(case: Case, results: Results, styles: Styles) -> str:
    """Time per step against the number of atoms, both logarithmic."""
    figure = new_figure(280)
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_yscale("log")
    tidy(axes, "atoms", "time per step [ms]")
    lines = {}
    for model, result in results.items():
        lines[model] = line(axes, result["atoms"], result["median_ms_per_step"], styles[model])
    axes.set_xticks(sorted(set(chain.from_iterable(result["atoms"] for result in results.values()))), minor=False)
    axes.set_xticks([], minor=True)
    # Plain numbers: powers of ten would be drawn as formulas.
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    legend_above(figure, list(lines.values()), list(lines))
    times = {model: result["median_ms_per_step"][-1] for model, result in results.items()}
    return to_svg(
        figure,
        name=case.id,
        title=f"{case.title}: time per step against number of atoms",
        description=f"Largest system: {listed(times, 'ms')}.",
    )


def parity(case: Case, results: Results, styles: Styles) -> str:
    """Draw forces and energies against the labels of the frames, the mean offset of the energies removed.

    What no frame has a label of has no panel.
    """
    pairs = {
        "force components [eV/Å]": {model: result["force_pairs_ev_per_angstrom"] for model, result in results.items()},
        "energies, aligned [eV/atom]": {model: _aligned(result) for model, result in results.items()},
    }
    shown = {title: by_model for title, by_model in pairs.items() if any(by_model.values())}
    if not shown:
        return ""
    figure = new_figure(230 + 7 * len(results))
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, (title, by_model) in zip(panels, shown.items(), strict=True):
        tidy(axes, "reference", "model")
        axes.set_title(title, loc="left", fontsize=9.5, color=INK)
        for model in reversed(list(by_model)):  # the best model on top
            _points(axes, by_model[model], styles[model])
        axes.set_box_aspect(1)
        axes.autoscale_view()
        axes.locator_params(axis="x", nbins=4)  # energies have many digits
        axes.ticklabel_format(useOffset=False)
        axes.axline((axes.get_xlim()[0],) * 2, slope=1, color=INK, linewidth=0.8, alpha=0.6, zorder=0.9)
    markers = [
        Line2D([], [], color=styles[model].colour, marker="o", markersize=5, linestyle="none") for model in results
    ]
    legend_above(figure, markers, list(results))
    rmse = {model: result["overall"].get("force_rmse_mev_per_a") for model, result in results.items()}
    return to_svg(
        figure,
        name=case.id,
        title=f"{case.title}: model against reference",
        description=f"Force RMSE: {listed(rmse, 'meV/Å')}.",
    )


def _aligned(result: Mapping[str, Any]) -> list[tuple[float, float]]:
    offset = (result["energy_offset_mev_per_atom"] or 0.0) / 1000
    return [(label, energy - offset) for label, energy in result["energy_pairs_ev_per_atom"]]


def migration(case: Case, results: Results, styles: Styles) -> str:
    """Energy along the path of a jumping atom, both drawn to one length."""
    figure = new_figure(260)
    axes = figure.subplots()
    tidy(axes, "path / its length", "energy [eV]")
    lines = {}
    for model, result in results.items():
        place = np.asarray(result["path_angstrom"]) / result["path_angstrom"][-1]
        lines[model] = line(axes, place, result["path_ev"], styles[model])
    lines |= reference_curves(axes, case, "path_ev")
    legend_above(figure, list(lines.values()), list(lines))
    barriers = {model: result["barrier_ev"] for model, result in results.items()}
    return to_svg(
        figure,
        name=case.id,
        title=f"{case.title}: energy along the path",
        description=f"Barriers: {listed(barriers, 'eV')}.",
    )


def _points(axes: Axes, pairs: Sequence[Sequence[float]], style: Style) -> None:
    """Draw dots as one path of round-capped points: a marker each would make the page ten times larger."""
    if not pairs:
        return
    vertices = np.repeat(np.asarray(pairs, dtype=float), 2, axis=0)
    path = Path(vertices, [Path.MOVETO, Path.LINETO] * len(pairs))
    path.should_simplify = False
    axes.add_patch(PathPatch(path, fill=False, edgecolor=style.colour, linewidth=2.6, capstyle="round", alpha=0.7))
    axes.update_datalim(vertices)


FIGURES: Mapping[str, FigureFunction] = MappingProxyType(
    {
        "diatomics": diatomics,
        "elastic": bars,
        "energy_difference": bars,
        "eos": eos,
        "formation_energy": formation_energies,
        "frame_errors": parity,
        "grain_boundary": bars,
        "gsfe": gsfe,
        "molecular_dynamics": molecular_dynamics,
        "nve_drift": nve_drift,
        "phases": phases,
        "phonons": phonons,
        "point_defect": bars,
        "surface": bars,
        "throughput": throughput,
        "vacancy_migration": migration,
    }
)
"""Figure function by property name."""
