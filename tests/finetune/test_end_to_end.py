"""`mfb finetune` on EMT copper: killed, resumed, exported, served, and fine-tuned further by every strategy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from ase.io import read

from mace_ft_bench import get_calculator
from mace_ft_bench.datasets.frames import is_same_frame, write_extxyz
from mace_ft_bench.errors import DataError, TrainingError, UnsupportedElementError, UntrustedFileError
from mace_ft_bench.finetune import train as train_module
from mace_ft_bench.finetune.export import StageErrors, export
from mace_ft_bench.finetune.parent import load_parent
from mace_ft_bench.finetune.prepare import replay_frames
from mace_ft_bench.finetune.train import train
from mace_ft_bench.zoo.card import load_card
from mace_ft_bench.zoo.checkpoint import load_checkpoint, save_mace_model

from .conftest import copper

RECIPE = """
name = "tiny"
seed = 7
eval_interval = 2
[data]
sources = ["frames.xyz"]
valid_fraction = 0.25
[strategy]
kind = "scratch"
[strategy.architecture]
hidden_irreps = "4x0e"
r_max = 3.5
correlation = 2
max_ell = 1
num_radial_basis = 4
mlp_irreps = "4x0e"
[e0s]
policy = "least-squares"
[weights]
energy = 10.0
forces = 20.0
stress = 30.0
[optimiser]
lr = 0.02
batch_size = 6
max_epochs = 41
ema_decay = 0.9
[stage_two]
start_epoch = 31
lr = 0.003
weights = { energy = 40.0, forces = 50.0, stress = 60.0 }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with frames, a recipe, a run without a break and one that was killed with signal 9."""
    path = tmp_path_factory.mktemp("finetune")
    write_extxyz([copper(seed) for seed in range(24)], path / "frames.xyz")
    (path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    whole = start(path, "whole")
    broken = start(path, "broken")
    wait_for_history(path / "broken", 4, broken)
    broken.send_signal(signal.SIGKILL)
    broken.wait()
    assert whole.wait() == 0
    assert (path / "broken" / "trainer.pid").exists(), "the run was over before it was killed"
    assert len(history(path / "broken")) < len(history(path / "whole"))
    assert start(path, "broken").wait() == 0
    return path


def start(folder, out):
    command = [sys.executable, "-m", "mace_ft_bench.cli.main", "finetune", "recipe.toml", "--out", out]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)


def wait_for_history(run, entries, process):
    deadline = time.monotonic() + 120
    while len(history(run)) < entries:
        assert process.poll() is None, "training ended early"
        assert time.monotonic() < deadline, "training does not get on"
        time.sleep(0.02)


def history(run):
    path = run / "history.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def test_a_killed_run_ends_as_one_that_was_not(folder):
    whole, broken = history(folder / "whole"), history(folder / "broken")
    assert [entry["epoch"] for entry in whole] == [-1, *range(0, 41, 2)]
    assert broken == whole
    first, second = (load_checkpoint(folder / run / "tiny.safetensors").state_dict() for run in ("whole", "broken"))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_the_model_is_served_with_its_card(folder):
    card = load_card(folder / "whole" / "tiny.toml")
    assert card.verified_path() == folder / "whole" / "tiny.safetensors"
    assert card.elements == ("Cu",)
    assert (card.training.strategy, card.training.frames_train, card.training.frames_valid) == ("scratch", 18, 6)
    frames = [copper(seed) for seed in range(24)]
    trained = read(folder / "whole" / "train.xyz", ":")
    mean = np.mean([frame.info["REF_energy"] / len(frame) for frame in trained])
    assert card.e0s_ev == {"Cu": pytest.approx(mean, rel=1e-5)}
    atoms = frames[0].copy()
    atoms.calc = get_calculator(folder / "whole" / "tiny.safetensors", device="cpu")
    assert atoms.get_potential_energy() == pytest.approx(frames[0].info["REF_energy"], abs=0.5)
    report = json.loads((folder / "whole" / "validation.json").read_text(encoding="utf-8"))
    assert {stage["stage"] for stage in report["stages"]} == {"stage one", "stage two"}
    last = history(folder / "whole")[-1]
    assert report["stages"][1]["force_rmse_mev_per_a"] == pytest.approx(last["force_rmse_mev_per_a"], rel=0.2)


def fine_tune(recipe, folder, out, strategy, **changes):
    data = {"sources": [str(folder / "frames.xyz")], "exclude": [], "valid_fraction": 0.25}
    removed = {"architecture": None}
    config = recipe(data=data, strategy=strategy | removed, optimiser={"max_epochs": 3, "lr": 0.002}, **changes)
    trained = train(config, folder / out)
    return trained, export(config, trained, folder / out)


STRATEGIES = [
    {"kind": "full"},
    {"kind": "freeze", "parts": ["embedding", "interaction-1"]},
    {"kind": "lora", "rank": 2, "alpha": 2.0},
    {"kind": "multihead-replay", "frames": 5},
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy["kind"])
def test_every_strategy_goes_on_from_the_parent(recipe, folder, strategy):
    parent = folder / "whole" / "tiny.safetensors"
    strategy = strategy | {"parent": str(parent)}
    if strategy["kind"] == "multihead-replay":
        write_extxyz([copper(seed) for seed in range(50, 60)], folder / "replay.xyz")
        strategy["replay"] = [str(folder / "replay.xyz")]
    trained, exported = fine_tune(recipe, folder, f"run-{strategy['kind']}", strategy)
    assert trained.history[0].epoch == -1
    known = json.loads((folder / "whole" / "validation.json").read_text(encoding="utf-8"))
    chosen = next(stage for stage in known["stages"] if stage["stage"] == known["chosen"])
    assert trained.history[0].force_rmse_mev_per_a < 2 * chosen["force_rmse_mev_per_a"]
    card = load_card(exported.card)
    assert card.parent == str(parent)
    assert card.training.strategy == strategy["kind"]
    atoms = copper(3)
    atoms.calc = get_calculator(exported.weights, device="cpu")
    assert np.isfinite(atoms.get_potential_energy())
    effective = json.loads((folder / f"run-{strategy['kind']}" / "effective.json").read_text(encoding="utf-8"))
    frozen = strategy.get("parts", ["embedding"] if strategy["kind"] == "lora" else [])
    assert all((count == 0) == (part in frozen) for part, count in effective["trained_parameters"].items())


def test_kept_features_train_as_the_whole_model_does(recipe, folder):
    parts = ["embedding", "interaction-1", "interaction-2", "products"]
    strategy = {"kind": "freeze", "parts": parts, "parent": str(folder / "whole" / "tiny.safetensors")}
    counted, histories = [], {}
    for engine in ("fused", "cached"):
        config = recipe(
            data={"sources": [str(folder / "frames.xyz")], "exclude": [], "valid_fraction": 0.25},
            strategy=strategy | {"architecture": None},
            optimiser={"max_epochs": 3, "lr": 0.01},
            engine=engine,
        )
        train(config, folder / f"run-{engine}", on_kept=lambda done, total: counted.append((done, total)))
        histories[engine] = history(folder / f"run-{engine}")
    assert counted == [(done, 24) for done in range(1, 25)]
    for name in ("loss", "force_rmse_mev_per_a", "stress_rmse_mev_per_a3"):
        fused, cached = ([entry[name] for entry in histories[engine]] for engine in ("fused", "cached"))
        assert cached == pytest.approx(fused, rel=1e-5)
        assert abs(cached[-1] - cached[0]) > 1e-3 * cached[0]


def test_labels_of_replayed_frames_have_weights_of_their_own(recipe, folder, tmp_path, monkeypatch):
    write_extxyz([copper(seed) for seed in range(12)], tmp_path / "frames.xyz")
    write_extxyz([copper(seed) for seed in range(50, 58)], tmp_path / "replay.xyz")
    replay = {"kind": "multihead-replay", "replay": [str(tmp_path / "replay.xyz")], "frames": 5, "weight": 0.5}
    replay |= {"parent": str(folder / "whole" / "tiny.safetensors")}
    factors = {"energy": 0.1, "forces": 2.0, "stress": 0.0}
    seen = []

    def look(_config, _model, training, *_others):
        seen.extend(training)
        raise TrainingError("seen", fix="nothing")

    monkeypatch.setattr(train_module, "Trainer", look)
    with pytest.raises(TrainingError, match="seen"):
        fine_tune(recipe, tmp_path, "run", replay | {"label_weights": factors})
    for label, factor in factors.items():
        found = {(int(graph.head), float(graph.weight), round(float(graph[f"{label}_weight"]), 6)) for graph in seen}
        assert found == {(0, 0.5, factor), (1, 1.0, 1.0)}, "the parent's head is the first"


def test_replayed_frames_are_chosen_as_asked(recipe, folder, tmp_path):
    """Farthest-point sampling takes the one compressed frame, and differs from a random choice."""
    frames = [copper(seed) for seed in range(50, 58)]
    frames[4].set_cell(0.9 * frames[4].cell, scale_atoms=True)
    write_extxyz(frames, tmp_path / "replay.xyz")
    parent = load_parent(str(folder / "whole" / "tiny.safetensors"), "", dtype=torch.float32)
    chosen = {}
    for selection in ("random", "farthest-point"):
        strategy = {"kind": "multihead-replay", "parent": "p", "replay": [str(tmp_path / "replay.xyz")], "frames": 2}
        config = recipe(strategy=strategy | {"selection": selection, "architecture": None})
        chosen[selection] = replay_frames(config.strategy, parent, seed=1)
        assert len(chosen[selection]) == 2
    assert any(is_same_frame(frame, frames[4]) for frame in chosen["farthest-point"])
    assert not all(map(is_same_frame, chosen["random"], chosen["farthest-point"]))


def test_frames_of_other_e0s_start_from_the_parent_all_the_same(recipe, folder):
    """Labels shifted by 5 eV an atom: a fit on top of the parent's interaction energy takes the shift up."""
    shifted = [copper(seed) for seed in range(24)]
    for frame in shifted:
        frame.info["REF_energy"] += 5.0 * len(frame)
    write_extxyz(shifted, folder / "shifted.xyz")
    strategy = {"kind": "full", "parent": str(folder / "whole" / "tiny.safetensors"), "architecture": None}
    data = {"sources": [str(folder / "shifted.xyz")], "exclude": [], "valid_fraction": 0.25}
    config = recipe(data=data, strategy=strategy, optimiser={"max_epochs": 1})
    trained = train(config, folder / "run-shifted")
    assert trained.history[0].energy_rmse_mev_per_atom < 50.0


def test_frames_without_stress_train(recipe, folder, tmp_path):
    frames = [copper(seed) for seed in range(12)]
    for frame in frames:
        del frame.info["REF_stress"]
    write_extxyz(frames, tmp_path / "frames.xyz")
    trained, exported = fine_tune(
        recipe, tmp_path, "run", {"kind": "full", "parent": str(folder / "whole" / "tiny.safetensors")}
    )
    assert {errors.stress_rmse_mev_per_a3 for errors in trained.history} == {None}
    assert exported.chosen.stress_rmse_gpa is None


def test_bad_input_is_refused_before_anything_is_trained(recipe, folder, tmp_path):
    parent = {"parent": str(folder / "whole" / "tiny.safetensors")}
    write_extxyz([copper(seed) for seed in range(12)], tmp_path / "frames.xyz")
    with pytest.raises(TrainingError, match="chgnet is no MACE model"):
        fine_tune(recipe, tmp_path, "a", {"kind": "full", "parent": "chgnet"})
    save_mace_model(load_checkpoint(folder / "whole" / "tiny.safetensors"), tmp_path / "mine.model")
    with pytest.raises(UntrustedFileError, match="is a pickle"):
        fine_tune(recipe, tmp_path, "b", {"kind": "full", "parent": str(tmp_path / "mine.model")})
    write_extxyz([copper(seed) for seed in range(50, 53)], tmp_path / "replay.xyz")
    replay = {"kind": "multihead-replay", "replay": [str(tmp_path / "replay.xyz")], "frames": 5}
    with pytest.raises(DataError, match="5 replay frames are asked for, 3 of 3"):
        fine_tune(recipe, tmp_path, "c", replay | parent)
    bare = copper(9)
    del bare.arrays["REF_forces"]
    write_extxyz([bare], tmp_path / "replay.xyz")
    with pytest.raises(DataError, match="Replay frame 0 .* has no energy or no forces"):
        fine_tune(recipe, tmp_path, "d", replay | parent)
    silver = copper(1)
    silver.symbols[:] = "Ag"
    write_extxyz([*(copper(seed) for seed in range(6)), silver], tmp_path / "frames.xyz")
    with pytest.raises(UnsupportedElementError, match=r"The frames have Ag, which .*tiny.safetensors does not know"):
        fine_tune(recipe, tmp_path, "e", {"kind": "full"} | parent)


def test_elements_that_only_validation_has(recipe, tmp_path):
    silver = copper(1)
    silver.symbols[:] = "Ag"
    write_extxyz([copper(seed) for seed in range(6)], tmp_path / "frames.xyz")
    write_extxyz([silver], tmp_path / "valid.xyz")
    data = {"sources": [str(tmp_path / "frames.xyz")], "exclude": [], "valid": [str(tmp_path / "valid.xyz")]}
    with pytest.raises(DataError, match="Validation frames have Ag, which no training frame has"):
        train(recipe(data=data), tmp_path / "run")


def test_one_frame_leaves_nothing_to_validate(recipe, tmp_path):
    write_extxyz([copper(0)], tmp_path / "frames.xyz")
    data = {"sources": [str(tmp_path / "frames.xyz")], "exclude": []}
    with pytest.raises(DataError, match="No frame is left to validate"):
        train(recipe(data=data), tmp_path / "run")


def test_stages_are_compared_by_what_both_have():
    first = StageErrors("one", 2.0, 100.0, None)
    assert StageErrors("two", 1.0, 100.0, None).relative_to(first) == 0.75
    assert first.relative_to(first) == 1.0
