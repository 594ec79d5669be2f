"""Recipes are strict."""

from __future__ import annotations

import pytest

from mace_ft_bench.datasets.card import find_dataset
from mace_ft_bench.errors import CardError
from mace_ft_bench.finetune.config import StageTwoConfig, load_recipe
from mace_ft_bench.finetune.study import load_study
from mace_ft_bench.paths import PACKAGE

from .conftest import STAGE_TWO

_NO_ARCHITECTURE = {"architecture": None, "parent": "mo-ft"}
LORA = {"kind": "lora", **_NO_ARCHITECTURE}
FREEZE = {"kind": "freeze", "parts": ["embedding"], **_NO_ARCHITECTURE}
REPLAY = {"kind": "multihead-replay", "replay": ["a:b"], "frames": 3, **_NO_ARCHITECTURE}

_RECIPES = PACKAGE.parent / "recipes"
_FILES = sorted(_RECIPES.glob("*.toml"))
_OTHERS = (".distill.toml", ".study.toml")  # those are of `mfb distill` and `mfb study`
RECIPES = [path for path in _FILES if not path.name.endswith(_OTHERS)]
STUDIES = [path for path in _FILES if path.name.endswith(".study.toml")]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_parses_and_names_its_model(path):
    assert load_recipe(path).name == path.stem


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_parses_and_names_itself(path):
    assert load_study(path)[0].name == path.name.removesuffix(".study.toml")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_embedded_models_never_see_their_test_frames(path):
    data = load_recipe(path).data
    for name in (source.removesuffix(":train") for source in data.sources if source.endswith(":train")):
        others = {file.split for file in find_dataset(name).files} - {"train", "atoms"}
        assert others
        assert {f"{name}:{split}" for split in others} <= set(data.exclude)
    assert not set(data.sources) & set(data.exclude)


def test_a_good_recipe(recipe):
    assert recipe(stage_two=STAGE_TWO).stage_two == StageTwoConfig(
        start_epoch=50, lr=0.003, weights=recipe(weights=STAGE_TWO["weights"]).weights
    )


@pytest.mark.parametrize("strategy", [LORA, FREEZE, REPLAY], ids=lambda strategy: strategy["kind"])
def test_strategies_are_told_apart_by_their_kind(recipe, strategy):
    assert recipe(strategy=strategy).strategy.kind == strategy["kind"]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"optimizer": {}}, 'unknown key "optimizer", did you mean "optimiser"'),
        ({"optimiser": {"learning_rate": 0.1}}, 'unknown key "optimiser.learning_rate"'),
        ({"optimiser": {"batchsize": 2}}, 'did you mean "batch_size"'),
        ({"weights": {"force": 1.0}}, 'did you mean "forces"'),
        ({"stage_two": {**STAGE_TWO, "start": 3}}, 'did you mean "start_epoch"'),
        ({"weights": {"stress": None}}, '"weights.stress" is missing'),
        ({"stage_two": {**STAGE_TWO, "start_epoch": 60}}, "Stage two starts at epoch 60 of 60"),
        ({"stage_two": {**STAGE_TWO, "start_epoch": 61}}, "Stage two starts at epoch 61 of 60"),
        ({"stage_two": {**STAGE_TWO, "start_epoch": 0}}, "Stage two starts at epoch 0"),
        ({"stage_two": {**STAGE_TWO, "lr": 0.0}}, "stage_two.*lr 0.0 is not positive"),
        ({"stage_two": {**STAGE_TWO, "weights": {"energy": -1, "forces": 1, "stress": 1}}}, "weight is negative"),
        ({"weights": {"forces": -1.0}}, "loss weight is negative"),
        ({"optimiser": {"lr": 0}}, "lr 0.0"),
        ({"optimiser": {"lr": "0.01"}}, "optimiser.lr.*number"),
        ({"optimiser": {"lr": True}}, "optimiser.lr.*number"),
        ({"optimiser": {"lr": float("nan")}}, "optimiser.lr.*finite"),
        ({"optimiser": {"lr_decay": 1.1}}, "out of range"),
        ({"optimiser": {"ema_decay": 1.0}}, "out of range"),
        ({"optimiser": {"max_epochs": 0}}, "at least 1"),
        ({"optimiser": {"batch_size": 2.5}}, "batch_size.*integer"),
        ({"optimiser": {"weight_decay": -1e-7}}, "weight_decay"),
        ({"optimiser": {"clip_grad": 0}}, "clip_grad"),
        ({"strategy": {"architecture": {"r_max": 0}}}, "r_max"),
        ({"strategy": {"architecture": {"correlation": 0}}}, "correlation"),
        ({"data": {"valid_fraction": 0}}, "valid_fraction"),
        ({"data": {"sources": []}}, "sources is empty"),
        ({"data": {"split_by": "block"}}, "split_block is the number"),
        ({"data": {"split_block": 5}}, "split_block is the number"),
        ({"data": {"split_by": "block", "split_block": -5}}, "split_block is the number"),
        ({"data": {"split_by": "time"}}, "split_by"),
        ({"data": {"split_by": "config_type", "valid": ["b:c"]}}, "split_by splits nothing"),
        ({"data": {"sources": "tiny:train"}}, "data.sources.*array"),
        ({"strategy": "lora"}, "strategy"),
        ({"strategy": {"kind": "lore"}}, "strategy.kind"),
        ({"strategy": {"kind": "lora"}}, "parent"),
        ({"strategy": LORA | {"rank": 0}}, "rank is below 1"),
        ({"strategy": FREEZE | {"parts": []}}, "parts names nothing"),
        ({"strategy": FREEZE | {"parts": ["radial"]}}, "strategy.parts"),
        ({"strategy": REPLAY | {"frames": 0}}, "frames is below 1"),
        ({"strategy": REPLAY | {"weight": 0.5}, "loss": "universal"}, "ignores weights of frames"),
        (
            {
                "strategy": REPLAY | {"label_weights": {"energy": 0.1, "forces": 1.0, "stress": 1.0}},
                "loss": "universal",
            },
            "ignores weights of frames",
        ),
        ({"config_type_weights": {"hot": 2.0}, "loss": "universal"}, "ignores weights of frames"),
        ({"e0s": {"policy": "average"}}, "e0s.policy"),
        ({"e0s": {"policy": "given"}}, "values_ev belongs"),
        ({"e0s": {"policy": "parent", "values_ev": {"Cu": 0.0}}}, "values_ev belongs"),
        ({"data": {"train_fraction": 0.0}}, "train_fraction"),
        ({"data": {"group_fractions": {"hot": 1.5}}}, "group fraction"),
        ({"optimiser": {"patience": -1}}, "patience"),
        ({"dtype": "float16"}, "dtype"),
        ({"eval_interval": 0}, "eval_interval"),
        ({"config_type_weights": {"hot": -1}}, "config_type_weights"),
        ({"name": "../elsewhere"}, "cannot name files"),
        ({"name": ""}, "cannot name files"),
    ],
    ids=str,
)
def test_nonsense_is_a_card_error_with_a_fix(recipe, changes, match):
    with pytest.raises(CardError, match=match) as caught:
        recipe(**changes)
    assert caught.value.fix == "edit recipe.toml."


def test_a_missing_recipe_is_a_card_error(tmp_path):
    with pytest.raises(CardError, match="does not exist"):
        load_recipe(tmp_path / "no.toml")
