"""The pages of the embedded models: their table is that of their validations, and their recipes those of the cards."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from mace_ft_bench import list_models

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "models"
CARDS = {card.name: card for card in list_models() if card.kind == "mace"}
OF_ANOTHER_CODE = {"si-ood:test", "tutorial-mo:gamma"}
"""Frames whose energies have another zero than those the model was trained on."""
_WHOLE = 100  # from here on without decimals


def validation_of(name):
    return json.loads((PAGES / name / "validation.json").read_text(encoding="utf-8"))


def number(errors, quantity):
    if not errors or not errors.get(quantity):
        return "–"
    value = errors[quantity]["rmse"]
    return f"{value:.0f}" if value >= _WHOLE else f"{value:.3g}"


def rows(name):
    """Return a line per set of frames that the model was not trained on."""
    found = validation_of(name)
    splits = [split for split in found["splits"] if split["role"] != "train"] + found["forgetting"]
    for split in splits:
        all_frames = split["errors"][0]
        own, parents = all_frames["fine_tuned"], all_frames["parent"]
        energy = "energy_relative" if split["name"] in OF_ANOTHER_CODE else "energy"
        cells = [f"{number(own, key)} ({number(parents, key)})" for key in (energy, "forces", "stress")]
        kind = "forgetting" if split["role"] == "forgetting" else split["name"]
        yield f"| {name} | {kind} | {split['frames']} | {' | '.join(cells)} |"


@pytest.mark.parametrize("name", CARDS)
def test_the_table_is_that_of_the_validation(name):
    table = (PAGES / "index.md").read_text(encoding="utf-8").splitlines()
    assert [row for row in rows(name) if row not in table] == []


@pytest.mark.parametrize("name", CARDS)
def test_the_page_is_that_of_the_model_or_of_its_run(name):
    """A model that was cut to its elements has other weights than the run that was validated."""
    recipe = tomllib.loads((ROOT / "recipes" / f"{name}.toml").read_text(encoding="utf-8"))
    assert list(CARDS[name].training.sources) == recipe["data"]["sources"]
    found = validation_of(name)
    ran = found["recipe"]
    if ran is None:
        assert found["model"]["sha256"] == CARDS[name].sha256
        return
    for table in ("weights", "optimiser", "strategy", "stage_two"):
        assert as_written(ran[table], recipe[table]) == recipe[table]
    assert ran["data"]["sources"] == recipe["data"]["sources"]


def as_written(ran, recipe):
    """Return the keys that a recipe has; a run notes defaults, too."""
    return {key: as_written(ran[key], value) if isinstance(value, dict) else ran[key] for key, value in recipe.items()}
