"""Scored values as bars."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from mace_ft_bench.leaderboard.curves import listed
from mace_ft_bench.leaderboard.published import published_models
from mace_ft_bench.leaderboard.svg import INK, QUIET, new_figure, plain, tidy, to_svg
from mace_ft_bench.leaderboard.wording import field_label, quantity, split_field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from mace_ft_bench.leaderboard.curves import Results
    from mace_ft_bench.leaderboard.svg import Styles
    from mace_ft_bench.results.case import Case


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
        f"{field_label(name, case)}: {listed({e.name: e.values.get(name) for e in entries}, '')}" for name in fields
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
