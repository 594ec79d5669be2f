"""Draw the figures of these pages from records of ``mfb run``: ``python docs/studies/figures.py RESULTS``."""

from __future__ import annotations

import sys
from pathlib import Path

from mace_ft_bench.leaderboard.board import make_board
from mace_ft_bench.leaderboard.figures import draw_figure
from mace_ft_bench.properties.base import all_properties
from mace_ft_bench.results.case import select_cases
from mace_ft_bench.results.selection import consistent_records
from mace_ft_bench.results.store import RecordStore

HERE = Path(__file__).resolve().parent
CASES = (
    "au2-mgo/wetting-undoped",
    "graphene-water/nvt-128",
    "lgps/diatomics",
    "licl-gaf3/forces",
    "molybdenum/gsfe-110-relaxed",
    "silicon/phases",
)
"""One figure a page at most."""
STYLE = "<style>svg{color:#222;font-family:sans-serif}@media(prefers-color-scheme:dark){svg{color:#ddd}}</style>"
"""What the leaderboard gives its figures, for a picture that stands alone."""


def draw(results: Path) -> list[Path]:
    """Draw the cases that a results folder has records of in mode standard; return the files written."""
    versions = {name: item.version for name, item in all_properties().items()}
    records = consistent_records(RecordStore(results).all(), versions=versions)
    written = []
    for case in select_cases(CASES, mode="standard"):
        if svg := draw_figure(case, make_board(records, [case]).results(case)):
            path = HERE / f"{case.id.replace('/', '-')}.svg"
            path.write_text(svg.replace("</desc>", f"</desc>{STYLE}", 1) + "\n", encoding="utf-8")
            written.append(path)
    return written


if __name__ == "__main__":
    for file in draw(Path(sys.argv[1])):
        sys.stdout.write(f"{file}\n")
