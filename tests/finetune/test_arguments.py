"""What the recipe asks for is what mace's own parser understands: requested against effective."""

from __future__ import annotations

import ast
import copy
from dataclasses import asdict

from mace_ft_bench.finetune.train import mace_arguments
from mace_ft_bench.torch_env import mace_environment

from .conftest import STAGE_TWO

with mace_environment():
    from mace.tools.arg_parser import build_default_arg_parser
    from mace.tools.arg_parser_tools import check_args

UNUSUAL = {
    "loss": "universal",
    "config_type_weights": {"hot": 2.5},
    "dtype": "float64",
    "eval_interval": 3,
    "optimiser": {"weight_decay": 1e-9, "clip_grad": 3.25},
    "stage_two": STAGE_TWO,
}
EXPECTED = {
    "name": "tiny",
    "model": "ScaleShiftMACE",
    "train_file": "train.xyz",
    "valid_file": "valid.xyz",
    "energy_key": "REF_energy",
    "forces_key": "REF_forces",
    "stress_key": "REF_stress",
    "E0s": "average",
    "hidden_irreps": "4x0e",
    "MLP_irreps": "4x0e",
    "r_max": 3.5,
    "correlation": 1,
    "max_ell": 1,
    "num_interactions": 2,
    "num_radial_basis": 4,
    "loss": "universal",
    "energy_weight": 10.0,
    "forces_weight": 20.0,
    "stress_weight": 30.0,
    "compute_stress": True,
    "error_table": "PerAtomRMSEstressvirials",
    "lr": 0.02,
    "scheduler": "ExponentialLR",
    "lr_scheduler_gamma": 0.9,
    "batch_size": 6,
    "valid_batch_size": 6,
    "max_num_epochs": 60,
    "ema": True,
    "ema_decay": 0.9,
    "amsgrad": True,
    "weight_decay": 1e-9,
    "clip_grad": 3.25,
    "eval_interval": 3,
    "patience": 60,
    "default_dtype": "float64",
    "device": "cpu",
    "seed": 7,
    "num_workers": 0,
    "plot": False,
    "restart_latest": True,
    "save_cpu": True,
    "swa": True,
    "start_swa": 50,
    "swa_lr": 0.003,
    "swa_energy_weight": 40.0,
    "swa_forces_weight": 50.0,
    "swa_stress_weight": 60.0,
    "foundation_model": None,
    "lora": False,
    "test_file": None,
}


def effective(config):
    """Return the options after mace parsed them and its own corrections."""
    parser = build_default_arg_parser()
    arguments = mace_arguments(config)
    known = {option for action in parser._actions for option in action.option_strings}
    assert {argument.partition("=")[0] for argument in arguments} <= known, "an option works only as an abbreviation"
    parsed, messages = check_args(parser.parse_args(arguments))
    return vars(parsed), messages


def test_every_option_arrives_with_exactly_its_value(recipe):
    options, _ = effective(recipe(**UNUSUAL))
    assert {name: options[name] for name in EXPECTED} == EXPECTED
    assert all(type(options[name]) is type(value) for name, value in EXPECTED.items())
    assert ast.literal_eval(options["config_type_weights"]) == {"Default": 1.0, "hot": 2.5}
    assert len(mace_arguments(recipe(**UNUSUAL))) == len(EXPECTED) - len(["foundation_model", "lora", "test_file"]) + 1


def test_no_option_is_given_twice(recipe):
    names = [argument.partition("=")[0] for argument in mace_arguments(recipe(**UNUSUAL))]
    assert len(names) == len(set(names))


def test_without_stage_two_there_is_none(recipe):
    options, _ = effective(recipe())
    assert options["swa"] is False
    assert options["start_swa"] is None


def leaves(table, path=()):
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


NOT_OPTIONS = {
    ("strategy",),
    ("e0s",),
    *[("data", key) for key in ("sources", "exclude", "valid_fraction", "split_seed")],
}
OTHER = {"loss": "stress", "dtype": "float32", "device": "cuda", "hidden_irreps": "8x0e", "mlp_irreps": "8x0e"}


def test_every_value_of_a_recipe_reaches_the_command_line(recipe):
    before = recipe(**UNUSUAL)
    paths = set(leaves(asdict(before))) - NOT_OPTIONS
    assert len(paths) > 30 - len(NOT_OPTIONS)
    for path in sorted(paths):
        changes = copy.deepcopy(UNUSUAL)
        table, value = changes, asdict(before)
        for key in path[:-1]:
            table, value = table.setdefault(key, {}), value[key]
        old = value[path[-1]]
        table[path[-1]] = OTHER.get(path[-1]) or (
            "other" if isinstance(old, str) else old + 1 if isinstance(old, int) else 0.9 * old
        )
        after = recipe(**changes)
        assert asdict(after) != asdict(before), path
        assert mace_arguments(after) != mace_arguments(before), path
