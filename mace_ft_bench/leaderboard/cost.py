"""Cost beside accuracy: time per step and atom from throughput records, and the front that nobody beats in both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mace_ft_bench.leaderboard import wording
from mace_ft_bench.leaderboard.score import largest_timed
from mace_ft_bench.leaderboard.svg import INK, QUIET, Styles, label_logarithmic, legend_above, new_figure, tidy, to_svg
from mace_ft_bench.leaderboard.wording import NONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes

    from mace_ft_bench.leaderboard.board import Board
    from mace_ft_bench.results.case import Case

_ROOM = 1.6
"""Factor between the outermost time and the edge of the figure."""


@dataclass(frozen=True)
class CostRow:
    """What one step of one model costs in one throughput case."""

    model: str
    case: str
    parameters: str
    score: float | None
    """Of the study of the case; None where the model is not ranked in it."""
    atoms: int | None
    """Atoms of the largest system timed."""
    us_per_atom: float | None
    """Time per step and atom of that system [microseconds]; None where there is no time."""
    machine: str
    """Hardware, device and threads; times of different machines do not compare."""
    reason: str
    """Why there is no time, or why the model is not drawn; empty where it is."""

    @property
    def time_text(self) -> str:
        """Time per step and atom, without unit."""
        return NONE if self.us_per_atom is None else wording.number(self.us_per_atom)

    @property
    def score_text(self) -> str:
        """The score with three decimals."""
        return wording.score(self.score)


def cost_rows(board: Board) -> list[CostRow]:
    """Return one row per throughput case and measured model."""
    timed = [case for case in board.cases if case.property == "throughput"]
    return [_row(board, case, model) for case in timed for model in board.models]


def _row(board: Board, case: Case, model: str) -> CostRow:
    record = board.records.get((model, case.id))
    time = largest_timed([record]) if record else None
    study = next(study for study in board.studies if study.name == case.material)
    cell = study.cell(model, board.records)
    reason = "" if cell.score is not None else f"no score in {case.material}"
    machine = ""
    if record is None or time is None:
        reason = record.status.replace("_", " ") if record else "not run"
    else:
        origin = record.provenance
        machine = f"{origin.hardware}, {wording.plural(origin.threads, 'thread')}, {origin.device}"
    atoms, us_per_atom = time or (None, None)
    parameters = board.fact(model, "parameters")
    return CostRow(model, case.id, parameters, cell.score, atoms, us_per_atom, machine, reason)


def pareto_front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points (cost, score) that no other beats in one without losing in the other, by rising cost."""
    front: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return front


@dataclass(frozen=True)
class CostFigure:
    """A figure of one throughput case on one machine, and what it says in words."""

    svg: str
    caption: str


def cost_figures(board: Board, styles: Styles) -> list[CostFigure]:
    """Return one figure per throughput case and machine: times of different machines do not compare."""
    rows = cost_rows(board)
    drawn = [row for row in rows if row.score is not None and row.us_per_atom is not None]
    groups = dict.fromkeys((row.case, row.machine) for row in drawn)
    titles = {case.id: case.title for case in board.cases}
    return [
        _figure([row for row in drawn if (row.case, row.machine) == key], rows, titles[key[0]], styles)
        for key in groups
    ]


def _figure(drawn: Sequence[CostRow], rows: Sequence[CostRow], title: str, styles: Styles) -> CostFigure:
    figure = new_figure(270)
    axes = figure.subplots()
    axes.set_xscale("log")
    tidy(axes, "time per step and atom [µs]", "score")
    points = {row.model: (row.us_per_atom or 0.0, row.score or 0.0) for row in drawn}
    front = pareto_front(points.values())
    times = [time for time, _ in points.values()]
    axes.set_xlim(min(times) / _ROOM, max(times) * _ROOM)
    axes.set_ylim(-0.03, 1.03)
    _draw_front(axes, front)
    lines = {}
    for model, (time, score) in points.items():
        style = styles[model]
        (lines[model],) = axes.plot(
            [time], [score], color=style.colour, marker=style.marker, markersize=8, linestyle="none", zorder=3
        )
    label_logarithmic(axes, "x")
    legend_above(figure, list(lines.values()), list(lines))
    case = drawn[0].case
    told = ", ".join(f"{row.model} {row.time_text} µs with score {row.score_text}" for row in drawn)
    svg = to_svg(
        figure,
        name=f"cost of {case} on {drawn[0].machine}",
        title=f"{title}: score against time per step and atom",
        description=f"{told}. Not beaten in both: {', '.join(m for m, point in points.items() if point in front)}.",
    )
    return CostFigure(svg, _caption(drawn, rows))


def _draw_front(axes: Axes, front: Sequence[tuple[float, float]]) -> None:
    """Draw the stairs that separate what is reached from what is not."""
    edges = axes.get_xlim()[1]
    times, scores = zip(*front, (edges, front[-1][1]), strict=True)
    axes.step(times, scores, where="post", color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.fill_between(times, scores, -1, step="post", color=QUIET, alpha=0.12, linewidth=0)


def _caption(drawn: Sequence[CostRow], rows: Sequence[CostRow]) -> str:
    case, machine = drawn[0].case, drawn[0].machine
    shown = {row.model for row in drawn}
    left_out = [
        f"{row.model} ({row.reason or 'timed on another machine'})"
        for row in rows
        if row.case == case and row.model not in shown
    ]
    study = case.split("/", maxsplit=1)[0]
    told = f" Not drawn: {', '.join(left_out)}." if left_out else ""
    return (
        f"Score in {study} against time per step and atom of {case}, on {machine}. Better is up and left; "
        f"the dashed line joins the models that none beats in both, and the shade is what they beat.{told}"
    )
