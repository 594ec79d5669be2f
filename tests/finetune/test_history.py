"""Validations by stage, and which of them a stage keeps."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from mace_ft_bench.datasets.frames import write_extxyz
from mace_ft_bench.errors import TrainingError
from mace_ft_bench.finetune.export import export, untrained_warning
from mace_ft_bench.finetune.history import best_of, read_history, stages
from mace_ft_bench.finetune.objective import EpochErrors
from mace_ft_bench.finetune.train import train

from .conftest import STAGE_TWO, copper

LOSSES = [3.0, 2.0, 1.0, 1.0, 9.0, 8.0]
HISTORY = [EpochErrors(epoch, loss, loss, None, None) for epoch, loss in zip(range(-1, 5), LOSSES, strict=True)]


def test_stages_split_where_the_loss_changes():
    assert stages(HISTORY, None) == {"one": tuple(HISTORY)}
    found = stages(HISTORY, 4)
    assert [errors.epoch for errors in found["two"]] == [3, 4]
    assert best_of(found["one"]).epoch == 2, "the last of two equal ones, as the loop keeps it"
    assert best_of(found["two"]).epoch == 4


def test_a_history_is_read_as_it_was_written(tmp_path):
    with pytest.raises(TrainingError, match="has no validated epoch"):
        read_history(tmp_path)
    path = tmp_path / "history.jsonl"
    path.write_text("".join(json.dumps(asdict(errors)) + "\n" for errors in HISTORY), encoding="utf-8")
    assert read_history(tmp_path) == HISTORY
    path.write_text('{"epoch": 1}\n', encoding="utf-8")
    with pytest.raises(TrainingError, match="history.jsonl is damaged"):
        read_history(tmp_path)


def test_a_run_that_never_beats_its_start_says_so(recipe, tmp_path):
    write_extxyz([copper(seed) for seed in range(8)], tmp_path / "frames.xyz")
    data = {"sources": [str(tmp_path / "frames.xyz")], "exclude": []}
    one_layer = {"architecture": {"num_interactions": 1}}
    second = STAGE_TWO | {"start_epoch": 2}
    config = recipe(data=data, strategy=one_layer, optimiser={"max_epochs": 4}, stage_two=second)
    trained = train(config, tmp_path / "run")
    assert [errors.epoch for errors in trained.history] == [-1, 0, 1, 2, 3]
    losses = [errors.loss for errors in trained.history]
    best = {"one": losses.index(min(losses[:3])) - 1, "two": losses.index(min(losses[3:])) - 1}
    assert trained.best_epochs == best
    assert best["one"] >= 0, "a step from random weights helps"
    assert export(config, trained, tmp_path / "run").warning == ""
    exported = export(config, replace(trained, best_epochs={"one": -1, "two": -1}), tmp_path / "run")
    assert "No epoch was better than the start" in exported.warning
    assert "random weights" in exported.warning
    fine = recipe(strategy={"kind": "full", "parent": "mo-ft", "architecture": None})
    assert "those of the parent mo-ft" in untrained_warning(fine, -1)
    assert untrained_warning(fine, 0) == ""
