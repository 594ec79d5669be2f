"""A run folder as `mfb finetune` leaves it, without the training."""

from __future__ import annotations

import json
from dataclasses import asdict

from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.finetune.config import ArchitectureConfig, FinetuneConfig
from mace_ft_bench.finetune.initial import HEAD, derived_model, random_model
from mace_ft_bench.finetune.objective import EpochErrors
from mace_ft_bench.finetune.run_folder import claim, store_state, write_json
from mace_ft_bench.toml_schema import parse
from mace_ft_bench.zoo.checkpoint import save_checkpoint

from .conftest import copper

E0S = {"Cu": -0.1, "Ag": 0.2}
RECIPE = {
    "name": "mine",
    "data": {"sources": ["frames.xyz"]},
    "strategy": {"kind": "full", "parent": "parent.safetensors"},
    "e0s": {"policy": "least-squares"},
    "weights": {"energy": 1.0, "forces": 10.0, "stress": 100.0},
    "optimiser": {"max_epochs": 5},
    "stage_two": {"start_epoch": 3, "lr": 0.001, "weights": {"energy": 9.0, "forces": 10.0, "stress": 900.0}},
}
HISTORY = [
    EpochErrors(-1, 9.0, 90.0, 900.0, 9.0),
    EpochErrors(0, 7.0, 50.0, 700.0, 8.0),
    EpochErrors(2, 8.0, 60.0, 800.0, 7.0),
    EpochErrors(3, 99.0, 40.0, 600.0, 6.0),
    EpochErrors(4, 88.0, 30.0, 500.0, 5.0),
]


def metal(seed, config_type="hot", symbol="Cu"):
    """Return hot copper, or another metal with its labels."""
    frame = copper(seed, config_type)
    frame.symbols[:] = symbol
    return frame


def tiny_parent():
    """Return a random model of copper and silver."""
    shape = ArchitectureConfig("4x0e", 3.5, 1, 1, num_interactions=1, num_radial_basis=4, mlp_irreps="4x0e")
    return random_model(shape, E0S, [metal(seed) for seed in range(3)], dtype="float64", seed=0)


def cut(parent, e0s):
    """Return the parent with these elements and E0s [eV]."""
    return derived_model(parent, {HEAD: e0s})


def write_run(folder, model, parent, frames=None, **changes):
    """Write a run folder whose exported weights are those of the last epoch; the parent's weights lie beside it."""
    folder.mkdir(parents=True)
    weights = folder.parent / "parent.safetensors"
    save_checkpoint(parent, weights)
    strategy = {"kind": "full", "parent": str(weights)}
    config = parse(RECIPE | {"strategy": strategy} | changes, FinetuneConfig, where="recipe")
    frames = frames or {
        "train": [metal(seed, ("hot", "cold")[seed % 2]) for seed in range(8)],
        "valid": [metal(seed, ("hot", "cold")[seed % 2]) for seed in range(8, 12)],
    }
    claim(folder, config, frames, sha256_of(weights))
    store_state(folder, {"stage": "two", "first_of_stage": 3}, HISTORY)
    save_checkpoint(model, folder / "mine.safetensors")
    write_json(folder / "validation.json", {"chosen": "stage two", "stages": []})
    return folder


def lines_of(history):
    """Return a history as its file has it."""
    return "".join(json.dumps(asdict(errors)) + "\n" for errors in history)
