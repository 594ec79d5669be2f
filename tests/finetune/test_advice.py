"""A good recipe is not talked about; every warning has a recipe that earns it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from mace_ft_bench.errors import CardError
from mace_ft_bench.finetune.advice import advise
from mace_ft_bench.finetune.config import load_recipe
from mace_ft_bench.finetune.frames_summary import FramesSummary
from mace_ft_bench.paths import PACKAGE

from .conftest import STAGE_TWO

FRAMES = FramesSummary(
    frames=400,
    median_atoms=32,
    groups={"hot": 200, "cold": 200},
    labels={"REF_energy": 400, "REF_forces": 400, "REF_stress": 400},
    elements=("Cu",),
    independent_compositions=1,
    isolated=(),
    largest_energy_ev_per_atom=4.0,
    in_time={},
    weighted={},
)
SETTLED = {"start_epoch": 40, "lr": 0.0005, "weights": {"energy": 400.0, "forces": 20.0, "stress": 60.0}}
GOOD = {
    "optimiser": {"lr": 0.005, "batch_size": 5, "ema_decay": 0.99},
    "strategy": {"architecture": {"r_max": 5.0}},
    "stage_two": SETTLED,
}
PARENT = {"architecture": None, "parent": "mo-ft"}
REPLAY = {"kind": "multihead-replay", "replay": ["a:b"], "frames": 400, **PARENT}


def merged(changes):
    result = {key: dict(value) for key, value in GOOD.items()}
    for key, value in changes.items():
        result[key] = {**result.get(key, {}), **value} if isinstance(value, dict) else value
    return result


def test_good_recipes_pass(recipe):
    assert advise(recipe(**GOOD), FRAMES) == []
    embedded = load_recipe(PACKAGE.parent / "recipes" / "mo-ft.toml")
    molybdenum = replace(FRAMES, frames=229, groups={"Elastic": 61, "AIMD-NVT": 168}, elements=("Mo",))
    (said,) = advise(embedded, molybdenum)  # it was chosen on validation frames in spite of the advice
    assert said.startswith("optimiser.lr 0.02 is outside")


@pytest.mark.parametrize(
    ("changes", "frames", "match"),
    [
        (
            {"weights": {"stress": 0.0}, "stage_two": {"weights": {"energy": 400.0, "forces": 20.0, "stress": 0.0}}},
            {},
            "weights.stress is 0: the labels are not learned",
        ),
        (
            {},
            {"labels": {"REF_energy": 400, "REF_forces": 400, "REF_stress": 0}},
            "weights.stress is 30, and no frame has REF_stress",
        ),
        ({"weights": {"energy": 700.0}, "stage_two": None}, {}, "weights.energy is 35 times weights.forces"),
        ({"weights": {"stress": 1.0}}, {}, "weights.stress .1. is below weights.forces .20."),
        ({"optimiser": {"lr": 0.05}}, {}, "lr 0.05 is outside 0.0001 to 0.01.*diverges"),
        ({"optimiser": {"lr": 5e-5}, "stage_two": {"lr": 2e-5}}, {}, "lr 5e-05 is outside.*nothing is learned"),
        ({"optimiser": {"batch_size": 32}}, {}, "batch_size 32 is above 20"),
        ({"optimiser": {"batch_size": 10, "max_epochs": 79}}, {"frames": 80}, "An epoch of 80 frames has 8 steps"),
        ({"optimiser": {"ema_decay": 0.9}}, {}, "ema_decay 0.9 is outside.*few steps only"),
        ({"optimiser": {"ema_decay": 0.99999, "max_epochs": 80_000}, "stage_two": None}, {}, "lags behind"),
        ({"optimiser": {"ema_decay": 0.9995}}, {}, "reaches back 2000 steps of 4800"),
        ({"eval_interval": 13}, {}, "eval_interval 13 of 60 epochs"),
        ({"stage_two": {"lr": 0.006}}, {}, "stage_two.lr 0.006 is above optimiser.lr"),
        ({"stage_two": {"lr": 1e-6}}, {}, "stage_two.lr 1e-06 is below"),
        ({"stage_two": {"start_epoch": 20}}, {}, "starts at epoch 20 of 60"),
        (
            {"stage_two": {"weights": {"energy": 1.0, "forces": 20.0, "stress": 30.0}}},
            {},
            "weighs energies less against forces",
        ),
        ({"config_type_weights": {"hott": 3.0}}, {}, "config_type_weights names hott"),
        ({"data": {"valid_fraction": 0.01}}, {}, "About 4 frames validate"),
        (
            {"e0s": {"policy": "given", "values_ev": {"Cu": -1.0, "Ag": -2.0}}},
            {},
            r"\[e0s.values_ev\] gives Ag, which no training frame has",
        ),
        ({}, {"weighted": {"config_weight": 3}}, r"have config_weight \(3 frames\): mace multiplies the loss"),
        ({}, {"in_time": {"hot": 200}}, 'Frames of hot follow one another in time.*split_by = "block"'),
        ({}, {"isolated": ("Cu",)}, 'isolated atoms of all elements, and e0s.policy is "least-squares"'),
        ({}, {"largest_energy_ev_per_atom": 13000.0}, "float32 rounds to 0.8 meV/atom"),
        ({"strategy": {"architecture": {"r_max": 3.0}}}, {}, "r_max 3 Å is outside"),
        (
            {"strategy": REPLAY | {"frames": 30}, "optimiser": {"lr": 0.002, "batch_size": 8}},
            {},
            "30 replayed frames beside 400",
        ),
        ({"strategy": REPLAY, "optimiser": {"lr": 0.002}}, {}, "Replay with batches of 5 at optimiser.lr 0.002"),
        ({"strategy": REPLAY, "optimiser": {"batch_size": 8}}, {}, "Replay with batches of 8 at optimiser.lr 0.005"),
    ],
    ids=str,
)
def test_every_warning_has_its_reason_and_comes_alone(recipe, changes, frames, match):
    changes = merged(changes)
    if changes["stage_two"] is None:
        del changes["stage_two"]
    elif "architecture" in changes["strategy"] and changes["strategy"].get("kind") == "multihead-replay":
        changes["strategy"]["architecture"] = None
    found = advise(recipe(**changes), replace(FRAMES, **frames))
    assert len(found) == 1, found
    assert re.search(match, found[0]), found[0]


def test_blocks_answer_the_warning_about_time(recipe):
    in_time = replace(FRAMES, in_time={"hot": 200})
    assert advise(recipe(**GOOD, data={"split_by": "block", "split_block": 10}), in_time) == []
    assert advise(recipe(**GOOD, data={"valid": ["tiny:valid"]}), in_time) == []


def test_the_cutoff_of_a_parent_cannot_be_changed(recipe):
    with pytest.raises(CardError, match='unknown key "strategy.r_max"'):
        recipe(strategy={"kind": "full", "r_max": 6.0, **PARENT})


def test_tests_of_the_loop_use_a_recipe_that_earns_warnings(recipe):
    """The tiny recipe of these tests is no good one, and is told so."""
    assert len(advise(recipe(stage_two=STAGE_TWO), FRAMES)) == 3
