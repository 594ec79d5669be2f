"""One real training of a tiny model on EMT copper: interrupted, resumed, exported, loaded and run (about 25 s)."""

from __future__ import annotations

import ast
import json
import re

import numpy as np
import pytest
import torch

from mace_ft_bench import get_calculator
from mace_ft_bench.finetune import export as exporter
from mace_ft_bench.finetune import train as module
from mace_ft_bench.zoo.card import load_card
from mace_ft_bench.zoo.checkpoint import load_checkpoint, load_mace_model


@pytest.fixture
def run(recipe, tmp_path, monkeypatch, frames):
    """Interrupt a training after a few epochs, and resume it."""
    monkeypatch.setattr(module, "_POLL_S", 0.05)
    monkeypatch.setattr(module, "prepare_frames", lambda _data, **_options: frames)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    config, folder = recipe(), tmp_path / "run"

    def interrupt(errors):
        if errors.epoch >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        module.train(config, folder, on_epoch=interrupt)
    log = next((folder / "results").glob("*_train.txt"))
    before = log.read_text(encoding="utf-8")
    seen = []
    models = module.train(config, folder, on_epoch=seen.append)
    return {
        "config": config,
        "folder": folder,
        "models": models,
        "seen": seen,
        "before": before,
        "after": log.read_text(encoding="utf-8")[len(before) :],
    }


def epochs(text):
    return [entry["epoch"] for entry in map(json.loads, text.splitlines()) if entry["mode"] == "opt"]


def check_resumed(run):
    first, second = epochs(run["before"]), epochs(run["after"])
    assert first[0] == 0
    assert max(first) < 59, "the first run finished before it was interrupted"
    assert second[0] > 0, "the resumed run started over"
    assert second[0] <= max(first) + 1
    assert second[-1] == 59
    assert run["seen"][-1].epoch == 59
    assert run["seen"][-1].force_rmse_mev_per_a < run["seen"][0].force_rmse_mev_per_a


def check_effective_options(run):
    text = next((run["folder"] / "logs").glob("*_debug.log")).read_text(encoding="utf-8")
    (options, *_) = re.findall(r"Configuration: Namespace\((.*)\)", text)
    for name, value in {"lr": 0.02, "batch_size": 6, "ema_decay": 0.9, "max_num_epochs": 60, "seed": 7}.items():
        found = re.search(rf"\b{name}=([^,]+)", options)
        assert ast.literal_eval(found.group(1)) == value


def check_export(run, frames):
    exported = exporter.export(run["config"], run["models"], run["folder"])
    assert [stage.stage for stage in exported.stages] == ["tiny"]
    assert exported.chosen is exported.stages[0]
    last = run["seen"][-1]
    assert exported.chosen.force_rmse_mev_per_a <= 1.2 * last.force_rmse_mev_per_a
    assert json.loads((run["folder"] / "validation.json").read_text(encoding="utf-8"))["chosen"] == "tiny"

    card = load_card(exported.card)
    assert card.verified_path() == exported.weights
    assert card.elements == ("Cu",)
    assert card.training.sources == ("tiny:train",)
    mean = np.mean([frame.info["REF_energy"] / len(frame) for frame in frames[0]])
    assert card.e0s_ev == {"Cu": pytest.approx(mean, rel=1e-5)}
    model = load_checkpoint(exported.weights)
    assert card.parameters == sum(parameter.numel() for parameter in model.parameters())
    trained = load_mace_model(run["models"][0], trust=True).state_dict()
    assert set(trained) == set(model.state_dict())
    assert all(torch.equal(tensor, trained[name]) for name, tensor in model.state_dict().items())
    return exported


def check_calculator(exported, frame):
    atoms = frame.copy()
    atoms.calc = get_calculator(exported.weights, device="cpu")
    assert atoms.get_potential_energy() == pytest.approx(frame.info["REF_energy"], abs=1.0)
    assert np.isfinite(atoms.get_forces()).all()
    assert np.isfinite(atoms.get_stress()).all()


def test_train_interrupt_resume_export_and_serve(run, frames):
    check_resumed(run)
    check_effective_options(run)
    check_calculator(check_export(run, frames), frames[1][0])
