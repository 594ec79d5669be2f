"""Matplotlib figures as SVG text that can be inlined many times into one page.

Text and axes take the colour of the surrounding text (``currentColor``), model colours are CSS variables ``--m1`` to
``--m6`` with a fallback: the page switches both between light and dark, and the SVG also stands alone.
"""

from __future__ import annotations

import hashlib
import html
import io
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.text import Text

INK = "#010203"
"""Stands for the text colour until the SVG is written."""

QUIET = "#010204"
"""Stands for the colour of grid lines and published values."""

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours (https://jfly.uni-koeln.de/color), told apart by colour-blind readers."""

_MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES = ("-", "--", "-.", ":")
_WIDTH = 400
"""Width of a figure [pt], little more than that of a phone, so that text hardly shrinks there."""

_LONG_NAME = 30
"""Characters beyond which the legend has one column."""

_ROWS, _ROW = 3, 15.0
"""Rows of a legend that a figure has room for, and the height of each further one [pt]."""

_SOME_TICKS, _MANY_DECADES = 4.0, 1000.0
"""Ranges of a logarithmic axis, largest over smallest, from which on fewer of its ticks are labelled."""


@dataclass(frozen=True)
class Style:
    """How one model looks in every figure."""

    colour: str
    marker: str
    dashes: str


Styles = Mapping[str, Style]


def model_styles(models: Iterable[str]) -> dict[str, Style]:
    """Return one style per model in the order given; beyond six models the dashes tell equal colours apart."""
    count = len(PALETTE)
    return {
        model: Style(PALETTE[i % count], _MARKERS[(i + i // count) % count], _DASHES[i // count % len(_DASHES)])
        for i, model in enumerate(models)
    }


def new_figure(height: float) -> Figure:
    """Return an empty transparent figure of the common width and a height [pt]."""
    return Figure(figsize=(_WIDTH / 72, height / 72), layout="constrained", facecolor="none")


def tidy(axes: Axes, xlabel: str, ylabel: str) -> None:
    """Label the axes and leave only what carries information: two spines and a faint grid."""
    axes.set_facecolor("none")
    axes.set_xlabel(xlabel, color=INK, fontsize=10)
    axes.set_ylabel(ylabel, color=INK, fontsize=10)
    axes.tick_params(which="both", color=INK, labelcolor=INK, labelsize=9, length=3)
    axes.tick_params(which="minor", length=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.grid(visible=True, color=QUIET, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def label_logarithmic(axes: Axes, which: Literal["x", "y"] = "y") -> None:
    """Label a logarithmic axis of values in plain numbers, between powers of ten too where few powers are in sight."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter("{x:g}")
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    span = high / low
    if span > _SOME_TICKS:
        axis.set_minor_locator(LogLocator(subs=(2, 5)))
    axis.set_minor_formatter("{x:g}" if span < _MANY_DECADES else "")


def caption_of(svg: str) -> str:
    """Return what a figure shows, from its title: what stands behind the name of the case."""
    found = re.search(r"<title[^>]*>(.*?)</title>", svg, re.DOTALL)
    text = html.unescape(found[1]).rpartition(": ")[2] if found else ""
    return f"{text[:1].upper()}{text[1:]}."


def legend_above(figure: Figure, handles: Sequence[Artist], names: Sequence[str]) -> None:
    """Put a legend above the axes, where it covers no data."""
    columns = 1 if max(map(len, names)) > _LONG_NAME else 2
    rows = math.ceil(len(names) / columns)
    figure.set_figheight(figure.get_figheight() + max(rows - _ROWS, 0) * _ROW / 72)
    # Matplotlib drops entries that begin with an underscore, so the names are written afterwards.
    legend = figure.legend(
        handles,
        [str(i) for i in range(len(names))],
        loc="outside upper left",
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)
        plain(text)


def plain(text: Text) -> None:
    """Keep a name from being read as a formula where it holds dollar signs."""
    text.set_parse_math(False)


def to_svg(figure: Figure, *, name: str, title: str, description: str) -> str:
    """Return the figure as an ``<svg>`` element with an accessible title and description.

    Parameters
    ----------
    figure
        Drawn with :data:`INK`, :data:`QUIET` and :data:`PALETTE`.
    name
        Distinguishes the identifiers of figures on one page.
    title, description
        For readers who do not see the figure; plain text.
    """
    prefix = f"f{hashlib.sha256(name.encode()).hexdigest()[:8]}-"
    body = _themed(_unique_ids(_raw_svg(figure, prefix), prefix))
    width, height = (72 * size for size in figure.get_size_inches())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img"'
        f' aria-labelledby="{prefix}title {prefix}desc">'
        f'<title id="{prefix}title">{html.escape(title)}</title>'
        f'<desc id="{prefix}desc">{html.escape(description)}</desc>{body}</svg>'
    )


def _raw_svg(figure: Figure, salt: str) -> str:
    """Inner part of the SVG that matplotlib writes; text stays text, so that it is small and can be searched."""
    buffer = io.StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}), warnings.catch_warnings():
        # Only the width of a glyph that matplotlib's font lacks is guessed: the reader's browser draws the text.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    return text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]


def _unique_ids(svg: str, prefix: str) -> str:
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}\1)", svg)
    return re.sub(r'\b(?:xlink:)?href="#([^"]+)"', rf'href="#{prefix}\1"', svg)


def _themed(svg: str) -> str:
    for i, colour in enumerate(PALETTE, start=1):
        svg = svg.replace(colour, f"var(--m{i}, {colour})")
    svg = svg.replace(INK, "currentColor").replace(QUIET, "var(--quiet, #808080)")
    svg = re.sub(r"<[^>]+>", lambda found: _in_hundredths(found[0]), svg)  # text between tags is read as it is
    svg = re.sub(r'\bd="([^"]+)"', lambda found: f'd="{_compact(found[1])}"', svg)
    return re.sub(r"font: (?:(\w+) )?([\d.]+px) [^;\"]+", r"font-size: \2; font-family: inherit", svg)


def _in_hundredths(tag: str) -> str:
    """Cut coordinates after hundredths of a point, which takes half of the file away."""
    return re.sub(r"(\d+\.\d\d)\d+", r"\1", tag)


def _compact(path: str) -> str:
    """Leave out of a path what it means without; of dots, which are lines without length, those on top of others.

    Dots are rounded to a tenth of a point: many coincide then, and a stroke covers a place once, whatever its opacity.
    """
    if not re.fullmatch(r"(?:M (\S+) (\S+) \nL \1 \2 \n)+", path):
        return re.sub(r"\s*([A-Za-z])\s*", r"\1", path)
    places = re.findall(r"M (\S+) (\S+)", path)
    dots = dict.fromkeys(f"M{float(x):.1f} {float(y):.1f}h0" for x, y in places)
    return "".join(dots)
