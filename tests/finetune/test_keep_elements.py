"""A run that keeps the parent's elements leaves what it never sees as it was."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ase import Atoms

from mace_ft_bench.calculators.mace import MaceCalculator
from mace_ft_bench.datasets.frames import labelled, write_extxyz
from mace_ft_bench.errors import CardError, TrainingError
from mace_ft_bench.finetune.config import ArchitectureConfig, load_recipe
from mace_ft_bench.finetune.initial import HEAD, derived_model, e0s_of, random_model
from mace_ft_bench.finetune.run_folder import claim
from mace_ft_bench.finetune.train import train
from mace_ft_bench.finetune.unseen_elements import hold_unseen
from mace_ft_bench.zoo.checkpoint import copy_model, save_checkpoint

from .conftest import copper

E0S = {"Cu": -0.1, "Ag": 0.2, "Au": 0.4}
OPTIMISER = {"max_epochs": 3, "batch_size": 3, "weight_decay": 5e-7}
"""With a decay, which is what weights have to be held against."""
DECAYED = "products.0.symmetric_contractions.contractions.0.weights_max"


@pytest.fixture(scope="module")
def parent():
    """Return a random model of three elements and one layer."""
    shape = ArchitectureConfig("4x0e", 3.5, 2, 1, num_interactions=1, num_radial_basis=4, mlp_irreps="4x0e")
    return random_model(shape, E0S, [copper(seed) for seed in range(4)], dtype="float64", seed=0)


def of(symbol, seed=0):
    frame = copper(seed)
    frame.symbols[:] = symbol
    return frame


def energy(model, frame):
    calculator = MaceCalculator(copy_model(model), name="m", device="cpu", dtype=torch.float64, accelerate="off")
    return calculator.evaluate([frame])[0]["energy"]


def run(recipe, parent, folder, strategy, more=(), **data):
    save_checkpoint(parent, folder / "parent.safetensors")
    write_extxyz([*(copper(seed) for seed in range(8)), *more], folder / "frames.xyz")
    data = {"sources": [str(folder / "frames.xyz")], "exclude": []} | data
    strategy = {"parent": str(folder / "parent.safetensors"), "architecture": None} | strategy
    config = recipe(data=data, strategy=strategy, dtype="float64", optimiser=OPTIMISER)
    return train(config, folder / "run")


def test_the_whole_table_leaves_an_untouched_parent_as_it_is(parent):
    shifted = E0S | {"Cu": 7.0}
    kept = derived_model(parent, {HEAD: shifted})
    assert e0s_of(kept) == shifted
    for symbol in ("Ag", "Au"):
        assert energy(kept, of(symbol)) == pytest.approx(energy(parent, of(symbol)), abs=1e-12)
    assert energy(kept, of("Cu")) == pytest.approx(energy(parent, of("Cu")) + 4 * 7.1, abs=1e-12)


STRATEGIES = [
    {"kind": "full"},
    {"kind": "lora", "rank": 2, "alpha": 2.0},
    {"kind": "multihead-replay", "frames": 3},
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy["kind"])
def test_strategies_keep_elements(recipe, parent, tmp_path, strategy):
    if strategy["kind"] == "multihead-replay":
        write_extxyz([of("Ag", seed) for seed in range(4)], tmp_path / "replay.xyz")
        strategy = strategy | {"replay": [str(tmp_path / "replay.xyz")]}
    trained = run(recipe, parent, tmp_path, strategy | {"keep_elements": True})
    model = trained.models["one"]
    assert set(trained.e0s) == set(E0S)
    assert {symbol: e0s_of(model)[symbol] for symbol in ("Ag", "Au")} == {"Ag": 0.2, "Au": 0.4}
    before, after = (dict(item.named_parameters())[DECAYED].detach() for item in (parent, model))
    assert torch.equal(before[2], after[2]), "gold was in no frame"
    assert torch.equal(before[0], after[0]) == (strategy["kind"] == "lora"), "copper is trained"
    assert np.isfinite(energy(model, of("Au")))


def test_an_isolated_atom_teaches_no_interaction(recipe, parent, tmp_path):
    gold = labelled(
        Atoms("Au", cell=[20] * 3, pbc=True), energy=0.4, forces=np.zeros((1, 3)), stress=None, config_type="atom"
    )
    trained = run(recipe, parent, tmp_path, {"kind": "full", "keep_elements": True}, more=[gold])
    before, after = (dict(item.named_parameters())[DECAYED].detach() for item in (parent, trained.models["one"]))
    assert torch.equal(before[2], after[2])
    assert not torch.equal(before[0], after[0])


def test_without_it_the_parent_is_cut(recipe, parent, tmp_path):
    trained = run(recipe, parent, tmp_path, {"kind": "full"})
    assert set(trained.e0s) == {"Cu"}
    assert trained.models["one"].atomic_numbers.tolist() == [29]


def test_weight_decay_alone_would_move_them_by_the_learning_rate(parent):
    """What is mended: with a loss that has no gradient, Adam turns the decay into full steps."""
    moved = {}
    for unseen in ((), ("Ag", "Au")):
        model = copy_model(parent)
        weights = dict(model.named_parameters())[DECAYED]
        start = weights.detach().clone()
        optimiser = torch.optim.Adam([weights], lr=0.01, weight_decay=5e-7)
        hold_unseen(model, optimiser, unseen)
        for _ in range(3):
            optimiser.zero_grad()
            (0.0 * weights.sum()).backward()
            optimiser.step()
        moved[unseen] = (weights.detach() - start).abs().amax(dim=(1, 2)).tolist()
    assert min(moved[()]) > 0.02
    assert moved["Ag", "Au"][0] > 0.02
    assert moved["Ag", "Au"][1:] == [0.0, 0.0]


def test_random_weights_have_no_elements_to_keep(tmp_path):
    (tmp_path / "r.toml").write_text('name = "r"\n[strategy]\nkind = "scratch"\nkeep_elements = true\n')
    with pytest.raises(CardError, match="keep_elements"):
        load_recipe(tmp_path / "r.toml")


def test_a_run_from_before_the_key_is_still_the_same_run(recipe, tmp_path):
    config = recipe(strategy={"kind": "full", "parent": "mo-ft", "architecture": None})
    parts = {"train": [copper(0)], "valid": [copper(1)]}
    claim(tmp_path, config, parts, "abc")
    path = tmp_path / "run.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    del run["recipe"]["strategy"]["keep_elements"]
    path.write_text(json.dumps(run), encoding="utf-8")
    claim(tmp_path, config, parts, "abc")
    run["recipe"]["strategy"]["keep_elements"] = True
    path.write_text(json.dumps(run), encoding="utf-8")
    with pytest.raises(TrainingError, match="another recipe"):
        claim(tmp_path, config, parts, "abc")
