"""Recipes of frames: what they refuse."""

from __future__ import annotations

import pytest

from mace_ft_bench.errors import CardError
from mace_ft_bench.learning.dynamics import DynamicsConfig
from mace_ft_bench.learning.recipe import DistillConfig, FamilyConfig, load_recipe
from mace_ft_bench.paths import PACKAGE

GOOD = """
teacher = "emt"
elements = ["Al"]
energies = "as-they-are"

[family.elements]
frames = 2

[[dynamics]]
parents = ["fcc-*"]
temperatures_k = [300]
"""


def loaded(tmp_path, text):
    path = tmp_path / "tiny.distill.toml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path)


def test_a_recipe_is_read(tmp_path):
    config = loaded(tmp_path, GOOD)
    assert config.family["elements"] == FamilyConfig(frames=2)
    assert config.dynamics == (DynamicsConfig(("fcc-*",), (300.0,)),)


def test_the_recipe_of_the_repository_is_one():
    config = load_recipe(PACKAGE.parent / "recipes" / "mace-nano.distill.toml")
    assert len(config.elements) == 15


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("frames = 2", "frame = 2", 'did you mean "frames"'),
        ("[family.elements]", "[family.elments]", "elments"),
        ('energies = "as-they-are"', 'energies = "any"', "energies"),
        ('teacher = "emt"', "", '"teacher" is missing'),
    ],
)
def test_misspelt_recipes_are_refused(tmp_path, before, after, message):
    with pytest.raises(CardError, match=message):
        loaded(tmp_path, GOOD.replace(before, after))


@pytest.mark.parametrize(
    "wrong",
    [
        {"volumes": (0.0,)},
        {"frames": -1},
        {"relax_steps": -1},
        {"most_parents": -1},
    ],
)
def test_families_refuse_negative_numbers(wrong):
    with pytest.raises(CardError, match="not positive, or a number is negative"):
        FamilyConfig(**wrong)


@pytest.mark.parametrize("wrong", [{"least_atoms": 0}, {"rattle": (0.3, 0.2)}, {"rattle": (0.0, 0.2)}, {"strain": -1}])
def test_families_refuse_what_cannot_be_done(wrong):
    with pytest.raises(CardError, match="least_atoms, rattle or strain is out of range"):
        FamilyConfig(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"parents": ()}, "parents or temperatures_k is empty"),
        ({"temperatures_k": ()}, "parents or temperatures_k is empty"),
        ({"temperatures_k": (0.0,)}, "a temperature is not positive"),
        ({"every": 300}, "out of range"),
        ({"relax_steps": -1}, "out of range"),
        ({"timestep_fs": 0.0}, "timestep of 0.0 fs"),
    ],
)
def test_dynamics_refuse_what_cannot_be_run(wrong, message):
    with pytest.raises(CardError, match=message):
        DynamicsConfig(**({"parents": ("*",), "temperatures_k": (300.0,)} | wrong))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"elements": ()}, "elements is empty"),
        ({"seed": -1}, "seed negative"),
        ({"max_force": 0.0}, "max_force not positive"),
        ({"valid_fraction": 0.0}, "leave nothing"),
        ({"valid_fraction": 0.6, "test_fraction": 0.4}, "leave nothing"),
        ({"templates": ("mptrj-random-1k:all",)}, "belong together"),
        ({"family": {"templates": FamilyConfig(frames=1)}}, "belong together"),
    ],
)
def test_recipes_refuse_what_makes_no_set(wrong, message):
    good = {
        "teacher": "emt",
        "elements": ("Al",),
        "energies": "as-they-are",
        "family": {"elements": FamilyConfig(frames=1)},
    }
    with pytest.raises(CardError, match=message):
        DistillConfig(**(good | wrong))
