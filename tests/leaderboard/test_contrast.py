"""Text keeps a contrast of 4.5 : 1 on whatever it stands on, in light and dark (WCAG 2.2, success criterion 1.4.3)."""

from __future__ import annotations

import re
from importlib import resources

import pytest

TEMPLATES = resources.files("mace_ft_bench.leaderboard").joinpath("templates")
CSS = {name: TEMPLATES.joinpath(name).read_text(encoding="utf-8") for name in ("leaderboard.css", "validation.css")}
TEXT, PART = 4.5, 3.0
"""Least contrast of text, and of what marks a control (success criterion 1.4.11)."""

GROUNDS = ("page", "surface")
INK_ON_HEAT = 45
"""Percent of the tint at a score of one, as the style sheet mixes it."""


def variables(dark):
    light, _, rest = CSS["leaderboard.css"].partition("@media (prefers-color-scheme: dark)")
    found = dict(re.findall(r"--([\w]+): (#[0-9a-f]{6})", light.partition("}")[0]))
    if dark:
        found |= dict(re.findall(r"--([\w]+): (#[0-9a-f]{6})", rest.partition("}")[0]))
    return {name: tuple(int(value[i : i + 2], 16) for i in (1, 3, 5)) for name, value in found.items()}


def luminance(colour):
    parts = [value / 255 for value in colour]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, two):
    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


def mix(one, two, share):
    return tuple(share * a + (1 - share) * b for a, b in zip(one, two, strict=True))


def text_colours():
    """Return the variables that a style sheet gives to text."""
    return sorted({name for css in CSS.values() for name in re.findall(r"[{;\s]color: var\(--(\w+)\)", css)})


def test_black_on_white_is_the_largest_contrast():
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((0x77,) * 3, (255,) * 3) == pytest.approx(4.48, abs=0.01)


def test_the_reader_of_style_sheets_sees_the_colours():
    assert {"ink", "soft", "accent", "bad"} <= set(text_colours())
    assert variables(dark=True)["ink"] != variables(dark=False)["ink"]
    assert set(re.findall(r"color-mix\([^;]*", CSS["leaderboard.css"])) == {
        f"color-mix(in srgb, var(--tint) calc(var(--v) * {INK_ON_HEAT}%), transparent)",
        "color-mix(in srgb, var(--ink) 6%, var(--surface))",
    }


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", text_colours())
def test_text_can_be_read(name, dark):
    colours = variables(dark)
    reference = mix(colours["ink"], colours["surface"], 0.06)  # the row that is scored against
    for ground in (*(colours[place] for place in GROUNDS), reference):
        assert contrast(colours[name], ground) >= TEXT


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_scores_can_be_read_on_their_colour(dark):
    colours = variables(dark)
    for score in range(101):
        ground = mix(colours["tint"], colours["surface"], score / 100 * INK_ON_HEAT / 100)
        assert contrast(colours["ink"], ground) >= TEXT


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["accent", "quiet", "tint", "m1", "m2", "m3", "m4", "m6", "m5"])
def test_focus_controls_bars_and_curves_can_be_seen(name, dark):
    colours = variables(dark)
    for ground in GROUNDS:
        assert contrast(colours[name], colours[ground]) >= PART
