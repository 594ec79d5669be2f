"""Figures by property: plain results in, SVG text out.

A figure is a function of a case, the results by model (plain dictionaries, measured models in order) and their styles.
A property without an entry in :data:`FIGURES` simply has no figure.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from mace_ft_bench.leaderboard.published import published_models
from mace_ft_bench.leaderboard.svg import (
    INK,
    QUIET,
    Style,
    Styles,
    legend_above,
    model_styles,
    new_figure,
    plain,
    tidy,
    to_svg,
)
from mace_ft_bench.leaderboard.wording import field_label, quantity, split_field

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mace_ft_bench.results.case import Case, Reference

Results = Mapping[str, Mapping[str, Any]]
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
    figure = new_figure(290)
    axes = figure.subplots()
    tidy(axes, "displacement / slip vector", "stacking fault energy [J/m²]")
    lines = {
        model: _line(axes, result["displacement"], result["gamma_j_per_m2"], styles[model])
        for model, result in results.items()
    }
    lines |= _reference_curves(axes, case, "gamma_j_per_m2")
    axes.set_xlim(-0.02, 1.02)
    legend_above(figure, list(lines.values()), list(lines))
    barriers = {model: result["barrier_j_per_m2"] for model, result in results.items()}
    return to_svg(
        figure,
        name=case.id,
        title=f"{case.title}: stacking fault energy against displacement",
        description=f"Barriers: {_listed(barriers, 'J/m²')}.",
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
        lines[model] = _line(axes, result["volumes_angstrom3_per_atom"], above, styles[model])
    scored = case.scored_reference
    if scored and isinstance(volume := scored.values.get("v0_angstrom3_per_atom"), float):
        lines[f"V0, {scored.label}"] = axes.axvline(volume, color=INK, linestyle=(0, (4, 3)), linewidth=1)
    legend_above(figure, list(lines.values()), list(lines))
    volumes = {model: result["v0_angstrom3_per_atom"] for model, result in results.items()}
    return to_svg(
        figure,
        name=case.id,
        title=f"{case.title}: energy against volume",
        description=f"Equilibrium volumes: {_listed(volumes, 'Å³/atom')}.",
    )


def throughput(case: Case, results: Results, styles: Styles) -> str:
    """Time per step against the number of atoms, both logarithmic."""
    figure = new_figure(280)
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_yscale("log")
    tidy(axes, "atoms", "time per step [ms]")
    lines = {}
    for model, result in results.items():
        lines[model] = _line(axes, result["atoms"], result["median_ms_per_step"], styles[model])
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
        description=f"Largest system: {_listed(times, 'ms')}.",
    )


def parity(case: Case, results: Results, styles: Styles) -> str:
    """Draw forces and energies against the labels of the frames, the mean offset of the energies removed."""
    figure = new_figure(230 + 7 * len(results))
    forces, energies = figure.subplots(1, 2)
    for axes, title in ((forces, "force components [eV/Å]"), (energies, "energies, aligned [eV/atom]")):
        tidy(axes, "reference", "model")
        axes.set_title(title, loc="left", fontsize=9.5, color=INK)
    for model, result in reversed(list(results.items())):  # the best model on top
        _points(forces, result["force_pairs_ev_per_angstrom"], styles[model])
        offset = (result["energy_offset_mev_per_atom"] or 0.0) / 1000
        _points(energies, [(x, y - offset) for x, y in result["energy_pairs_ev_per_atom"]], styles[model])
    for axes in (forces, energies):
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
        title=f"{case.title}: model against reference, forces and energies",
        description=f"Force RMSE: {_listed(rmse, 'meV/Å')}.",
    )


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
            label, options = _curve_look(reference)
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
        description=f"Lowest frequencies, negative where imaginary: {_listed(lowest, 'THz')}.{left_out}",
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


def migration(case: Case, results: Results, styles: Styles) -> str:
    """Energy along the path of a jumping atom, both drawn to one length."""
    figure = new_figure(260)
    axes = figure.subplots()
    tidy(axes, "path / its length", "energy [eV]")
    lines = {}
    for model, result in results.items():
        place = np.asarray(result["path_angstrom"]) / result["path_angstrom"][-1]
        lines[model] = _line(axes, place, result["path_ev"], styles[model])
    lines |= _reference_curves(axes, case, "path_ev")
    legend_above(figure, list(lines.values()), list(lines))
    barriers = {model: result["barrier_ev"] for model, result in results.items()}
    return to_svg(
        figure,
        name=case.id,
        title=f"{case.title}: energy along the path",
        description=f"Barriers: {_listed(barriers, 'eV')}.",
    )


def nve_drift(case: Case, results: Results, styles: Styles) -> str:
    """Total energy against time."""
    figure = new_figure(240)
    axes = figure.subplots()
    tidy(axes, "time [ps]", "total energy [meV/atom]")
    lines = {}
    for model, result in results.items():
        (lines[model],) = axes.plot(
            result["time_ps"],
            result["total_energy_mev_per_atom"],
            color=styles[model].colour,
            linestyle=styles[model].dashes,
            linewidth=1.2,
        )
    legend_above(figure, list(lines.values()), list(lines))
    drifts = {model: result["drift_mev_per_atom_per_ps"] for model, result in results.items()}
    return to_svg(
        figure,
        name=case.id,
        title=f"{case.title}: total energy against time",
        description=f"Drift: {_listed(drifts, 'meV/atom/ps')}.",
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


@dataclass(frozen=True)
class _Bar:
    name: str
    values: Mapping[str, Any]
    look: Mapping[str, Any]


def bars(case: Case, results: Results, styles: Styles) -> str:
    """Scored values as bars: references first, then measured models, then published ones, hatched."""
    entries = _bars(case, results, styles)
    stems = [split_field(metric)[0] for metric in case.metrics]
    known = list(dict.fromkeys(chain.from_iterable(entry.values for entry in entries)))
    fields = [name for stem in stems for name in known if split_field(name)[0] == stem]
    if not fields:
        return ""
    figure = new_figure(50 + 24 * len(entries))
    panels = figure.subplots(1, len(fields), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, fields, strict=True):
        _bar_panel(axes, case, entries, name)
    labels = ["\n".join(textwrap.wrap(entry.name, 28)) for entry in entries]
    for text in panels[0].set_yticks(range(len(entries)), labels):
        plain(text.label1)
        text.label1.set(fontsize=8.5, linespacing=1.1)
    panels[0].invert_yaxis()
    shown = [
        f"{field_label(name, case)}: {_listed({e.name: e.values.get(name) for e in entries}, '')}" for name in fields
    ]
    return to_svg(
        figure, name=case.id, title=f"{case.title}: values by model and reference", description=f"{'; '.join(shown)}."
    )


def _bars(case: Case, results: Results, styles: Styles) -> list[_Bar]:
    """DFT in ink, the scored one first, experiment in pale ink, models in their colours, published ones hatched."""
    references = sorted((r for r in case.references if r.kind != "published_model"), key=lambda r: not r.scored)
    hatched = {"facecolor": "none", "edgecolor": QUIET, "hatch": "////"}
    return [
        *(_Bar(r.label, r.values, {"color": INK, "alpha": 1.0 if r.kind == "dft" else 0.45}) for r in references),
        *(_Bar(model, result, {"color": styles[model].colour}) for model, result in results.items()),
        *(_Bar(f"{r.label} (published)", r.values, hatched) for r in published_models(case)),
    ]


def _bar_panel(axes: Axes, case: Case, entries: Sequence[_Bar], name: str) -> None:
    unit = split_field(name)[1]
    tidy(axes, f"{field_label(name, case)} [{unit}]" if unit else field_label(name, case), "")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=3)
    for i, entry in enumerate(entries):
        if (value := entry.values.get(name)) is not None:
            axes.barh(i, value, height=0.66, linewidth=0.8, **entry.look)
            # Beside the panel, where neither a bar nor the line of the reference runs through the number.
            edge = axes.get_yaxis_transform()
            axes.text(1.03, i, quantity(name, value), transform=edge, va="center", fontsize=8.5, color=INK)
    scored = case.scored_reference
    if scored and isinstance(target := scored.values.get(name), float):
        axes.axvline(target, color=INK, linestyle=(0, (4, 3)), linewidth=0.8)


def _line(axes: Axes, x: Any, y: Any, style: Style) -> Line2D:  # noqa: ANN401 - any sequence of numbers
    (line,) = axes.plot(
        x, y, color=style.colour, linestyle=style.dashes, marker=style.marker, linewidth=1.6, markersize=4
    )
    return line


def _reference_curves(axes: Axes, case: Case, name: str) -> dict[str, Line2D]:
    """Curves of references over equally spaced displacements from 0 to 1; published models in grey."""
    lines = {}
    for reference in case.references:
        curve = reference.values.get(name)
        if isinstance(curve, list):
            label, options = _curve_look(reference)
            (lines[label],) = axes.plot(np.linspace(0, 1, len(curve)), curve, markersize=7, zorder=3, **options)
    return lines


def _curve_look(reference: Reference) -> tuple[str, dict[str, Any]]:
    if reference.kind == "published_model":
        return f"{reference.label} (published)", {"color": QUIET, "linestyle": "--", "marker": "x"}
    label = f"{reference.label} ({reference.level_of_theory})"
    return label, {"color": INK, "linestyle": "none", "marker": "o", "markerfacecolor": "none"}


def _listed(values: Mapping[str, Any], unit: str) -> str:
    found = ((name, quantity("", value)) for name, value in values.items() if value is not None)
    return ", ".join(f"{name} {text} {unit}".rstrip() for name, text in found)


FIGURES: Mapping[str, FigureFunction] = MappingProxyType(
    {
        "elastic": bars,
        "energy_difference": bars,
        "eos": eos,
        "frame_errors": parity,
        "gsfe": gsfe,
        "nve_drift": nve_drift,
        "phonons": phonons,
        "point_defect": bars,
        "surface": bars,
        "throughput": throughput,
        "vacancy_migration": migration,
    }
)
"""Figure function by property name."""
