"""Draw the figures of these pages from records of ``mfb run``: ``python docs/studies/figures.py RESULTS``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_ft_bench.leaderboard.board import make_board
from mace_ft_bench.leaderboard.figures import draw_figure
from mace_ft_bench.properties.base import all_properties
from mace_ft_bench.results.case import select_cases
from mace_ft_bench.results.selection import consistent_records
from mace_ft_bench.results.store import RecordStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mace_ft_bench.results.case import Case
    from mace_ft_bench.results.record import Record

HERE = Path(__file__).resolve().parent
CASES = (
    "au2-mgo/wetting-undoped",
    "lgps/diatomics",
    "licl-gaf3/forces",
    "molybdenum/gsfe-110-relaxed",
    "silicon/phases",
)
"""In mode standard, one figure a page at most."""
LONG = ("graphene-water/nvt-372",)
"""In mode full."""
DISPERSION = {"with D3": "graphene-water/nvt-128", "without D3": "graphene-water/nvt-128-without-d3"}
"""Cases that stand in one figure, of one model."""
DISPERSION_MODEL = "graphene-water-ft"
STYLE = "<style>svg{color:#222;font-family:sans-serif}@media(prefers-color-scheme:dark){svg{color:#ddd}}</style>"
"""What the leaderboard gives its figures, for a picture that stands alone."""


def draw(results: Path) -> list[Path]:
    """Draw the cases that a results folder has records of in their mode; return the files written."""
    versions = {name: item.version for name, item in all_properties().items()}
    records = consistent_records(RecordStore(results).all(), versions=versions)
    written = []
    for case in [*select_cases(CASES, mode="standard"), *select_cases(LONG, mode="full")]:
        written += _write(draw_figure(case, _results(records, case)), case.id.replace("/", "-"))
    cases = {label: select_cases([name], mode="standard")[0] for label, name in DISPERSION.items()}
    found = {label: _results(records, case).get(DISPERSION_MODEL) for label, case in cases.items()}
    both = {label: result for label, result in found.items() if result is not None}
    if len(both) == len(cases):
        written += _write(draw_figure(next(iter(cases.values())), both), "graphene-water-dispersion")
    return written


def _results(records: Sequence[Record], case: Case) -> dict[str, Mapping[str, Any]]:
    return make_board(records, [case]).results(case)


def _write(svg: str, name: str) -> list[Path]:
    if not svg:
        return []
    path = HERE / f"{name}.svg"
    path.write_text(svg.replace("</desc>", f"</desc>{STYLE}", 1) + "\n", encoding="utf-8")
    return [path]


if __name__ == "__main__":
    for file in draw(Path(sys.argv[1])):
        sys.stdout.write(f"{file}\n")
