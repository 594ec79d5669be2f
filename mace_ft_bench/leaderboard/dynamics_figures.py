"""Molecular dynamics as figures: conserved energy; temperature, structure and displacements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mace_ft_bench.leaderboard.curves import listed, plain_line
from mace_ft_bench.leaderboard.svg import INK, legend_above, new_figure, tidy, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    from mace_ft_bench.leaderboard.curves import Results
    from mace_ft_bench.leaderboard.svg import Styles
    from mace_ft_bench.results.case import Case

_MARK: dict[str, Any] = {"color": INK, "linestyle": (0, (4, 3)), "linewidth": 0.8}
"""Of a line that is a target or a limit."""


def nve_drift(case: Case, results: Results, styles: Styles) -> str:
    """Total energy against time."""
    figure = new_figure(240)
    axes = figure.subplots()
    tidy(axes, "time [ps]", "total energy [meV/atom]")
    lines = {}
    for model, result in results.items():
        lines[model] = plain_line(axes, result["time_ps"], result["total_energy_mev_per_atom"], styles[model])
    legend_above(figure, list(lines.values()), list(lines))
    drifts = {model: result["drift_mev_per_atom_per_ps"] for model, result in results.items()}
    return to_svg(
        figure,
        name=case.id,
        title=f"{case.title}: total energy against time",
        description=f"Drift: {listed(drifts, 'meV/atom/ps')}.",
    )


def molecular_dynamics(case: Case, results: Results, styles: Styles) -> str:
    """Temperature against time, density profile and radial distribution where there are any, and displacements."""
    profile, rdf = (any(result[field] for result in results.values()) for field in ("profile_per_angstrom3", "rdf"))
    figure = new_figure(400)
    right = "rdf" if profile and rdf else "temperature"
    left = "profile" if profile else "rdf" if rdf else "motion"
    panels = figure.subplot_mosaic([["temperature", right], [left, "motion"]])
    handles = _draw_temperature(panels["temperature"], case, results, styles)
    if profile:
        _draw_profile(panels["profile"], case, results, styles)
    if rdf:
        _draw_rdf(panels["rdf"], case, results, styles)
    _draw_motion(panels["motion"], case, results, styles)
    legend_above(figure, list(handles.values()), list(handles))
    means = {model: result["mean_temperature_k"] for model, result in results.items()}
    return to_svg(
        figure,
        name=case.id,
        title=f"{case.title}: temperature, structure and displacements",
        description=f"Mean temperatures: {listed(means, 'K')}.",
    )


def _draw_temperature(axes: Axes, case: Case, results: Results, styles: Styles) -> dict[str, Line2D]:
    tidy(axes, "time [ps]", "temperature [K]")
    axes.axvline(next(iter(results.values()))["equilibration_ps"], **_MARK)
    if "temperature" in case.settings:
        axes.axhline(case.settings["temperature"], **_MARK)
    return {
        model: plain_line(axes, result["time_ps"], result["temperature_k"], styles[model])
        for model, result in results.items()
    }


def _draw_profile(axes: Axes, case: Case, results: Results, styles: Styles) -> None:
    tidy(axes, "height [nm]", f"{case.settings.get('profile', {}).get('species', '')} density [1/Å³]".strip())
    end = 0.0
    for model, result in results.items():
        height = np.asarray(result["profile_height_angstrom"]) / 10
        density = np.asarray(result["profile_per_angstrom3"])
        end = max(end, height[density > 0].max(initial=0.0))
        plain_line(axes, height, density, styles[model])
    axes.set(xlim=(0, end or None), ylim=(0, None))
    _mark_peak(axes, case, "profile_first_peak_nm")


def _draw_rdf(axes: Axes, case: Case, results: Results, styles: Styles) -> None:
    tidy(axes, "distance [Å]", f"g(r) {'–'.join(case.settings.get('rdf', ()))}".strip())
    for model, result in results.items():
        plain_line(axes, result["rdf_r_angstrom"], result["rdf"], styles[model])
    axes.set(xlim=(0, None), ylim=(0, None))
    _mark_peak(axes, case, "rdf_first_peak_angstrom")


def _mark_peak(axes: Axes, case: Case, field: str) -> None:
    if case.scored_reference and isinstance(peak := case.scored_reference.values.get(field), float):
        axes.axvline(peak, **_MARK)


def _draw_motion(axes: Axes, case: Case, results: Results, styles: Styles) -> None:
    element = _moving_element(case, results)
    tidy(axes, "time [ps]", f"{element}: displacement² [Å²]")
    for model, result in results.items():
        plain_line(axes, result["msd_time_ps"], result["msd_angstrom2"][element], styles[model])
    axes.set_ylim(bottom=0)


def _moving_element(case: Case, results: Results) -> str:
    elements = list(next(iter(results.values()))["msd_angstrom2"])
    wanted = str(case.settings.get("diffusing"))
    return wanted if wanted in elements else str(elements[0])
