"""The templates of the pages: every page is made by the same rules."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Template


def template(name: str) -> Template:
    """Return a template; text in it is escaped, and a name that it lacks is an error."""
    return _environment().get_template(name)


def markup(text: str) -> Markup:
    """Return a figure or a script of ours as what templates leave as it is."""
    return Markup(text)  # noqa: S704 - text in figures is escaped where it is drawn


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("mace_ft_bench.leaderboard", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
