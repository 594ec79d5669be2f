"""Studies: what is planned, that every run is one record, that an interrupted or failed one goes on."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from mace_ft_bench.datasets.frames import write_extxyz
from mace_ft_bench.errors import CardError, DataError, TrainingError
from mace_ft_bench.finetune import study as studies
from mace_ft_bench.finetune.config import LossWeights
from mace_ft_bench.finetune.prepare import prepare_frames
from mace_ft_bench.finetune.study import StudyConfig, Variant, load_study, plan, run_study
from mace_ft_bench.zoo.checkpoint import save_checkpoint

from .conftest import copper
from .fabricated_run import tiny_parent

STUDY = """
name = "shares"
recipe = "base.toml"
fractions = [0.5, 1.0]
seeds = [1, 2]
steps = 12
tests = ["test.xyz"]
forgetting = ["domain.xyz"]
[variants.full]
[variants.forces-first]
lr = 0.001
weights = { energy = 1.0, forces = 100.0, stress = 1.0 }
"""
BASE = """
name = "base"
[data]
sources = ["frames.xyz"]
valid_fraction = 0.25
[strategy]
kind = "full"
parent = "parent.safetensors"
[e0s]
policy = "least-squares"
[weights]
energy = 1.0
forces = 10.0
stress = 10.0
[optimiser]
lr = 0.01
lr_decay = 0.9
batch_size = 4
max_epochs = 10
[stage_two]
start_epoch = 8
lr = 0.001
weights = { energy = 10.0, forces = 10.0, stress = 10.0 }
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Make a folder with a study, its recipe and its frames the working directory."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("study", STUDY), ("base", BASE)):
        (tmp_path / f"{name}.toml").write_text(text)
    for name, seeds in (("frames", range(16)), ("test", range(16, 20)), ("domain", range(20, 24))):
        write_extxyz([copper(seed) for seed in seeds], tmp_path / f"{name}.xyz")
    save_checkpoint(tiny_parent(), tmp_path / "parent.safetensors")
    return tmp_path


def test_all_runs_take_the_same_number_of_steps(files):
    study, base = load_study(files / "study.toml")
    runs = plan(study, base)
    assert len({run.name for run in runs}) == len(runs) == 8
    assert [run.config.optimiser.max_epochs for run in runs[:4]] == [6, 6, 4, 4]  # of 6 and 12 frames
    assert {run.config.data.share_seed for run in runs} == {1, 2}
    assert {run.config.data.split_seed for run in runs} == {base.data.split_seed}
    assert {run.config.optimiser.batch_size for run in runs} == {base.optimiser.batch_size}
    changed = runs[1].config
    assert changed.weights == changed.stage_two.weights == LossWeights(1.0, 100.0, 1.0)
    assert runs[0].config.stage_two.weights == base.stage_two.weights
    assert changed.optimiser.lr == 0.001
    assert changed.stage_two.lr == pytest.approx(0.0001)
    assert changed.optimiser.lr_decay**changed.optimiser.max_epochs == pytest.approx(0.9**10)


def test_steps_on_replayed_frames_count(files):
    """Twelve training frames and twelve of the parent's, four a step: half as many epochs as without."""
    text = STUDY + '[variants.replay.strategy]\nkind = "multihead-replay"\nparent = "parent.safetensors"\n'
    (files / "study.toml").write_text(text + 'replay = ["domain.xyz"]\nframes = 12\n')
    epochs = {run.name: run.config.optimiser.max_epochs for run in plan(*load_study(files / "study.toml"))}
    assert (epochs["full-1-1"], epochs["replay-1-1"]) == (4, 2)


def test_a_variant_may_take_other_batches_for_as_many_steps(files):
    (files / "study.toml").write_text(STUDY + "[variants.batches]\nbatch_size = 2\n")
    runs = {run.name: run.config.optimiser for run in plan(*load_study(files / "study.toml"))}
    assert (runs["full-1-1"].batch_size, runs["full-1-1"].max_epochs) == (4, 4)
    assert (runs["batches-1-1"].batch_size, runs["batches-1-1"].max_epochs) == (2, 2)
    with pytest.raises(CardError, match="batch_size 0 is below 1"):
        Variant(batch_size=0)


def test_a_variant_may_decay_its_weights(files):
    (files / "study.toml").write_text(STUDY + "[variants.decaying]\nweight_decay = 5e-7\n")
    runs = {run.name: run.config.optimiser.weight_decay for run in plan(*load_study(files / "study.toml"))}
    assert (runs["full-1-1"], runs["decaying-1-1"]) == (0.0, 5e-7)
    with pytest.raises(CardError, match="weight_decay -1 is negative"):
        Variant(weight_decay=-1)


def test_other_seeds_draw_other_shares_beside_the_same_validation_frames(files):
    study, base = load_study(files / "study.toml")
    halves = [run for run in plan(study, base) if run.fraction == 0.5 and run.variant == "full"]
    (first, valid), (second, again) = (prepare_frames(run.config.data) for run in halves)
    assert [frame.info["REF_energy"] for frame in valid] == [frame.info["REF_energy"] for frame in again]
    assert {f.info["REF_energy"] for f in first} != {f.info["REF_energy"] for f in second}


@pytest.fixture
def small(files):
    """Return a study of two runs and its base recipe."""
    study, base = load_study(files / "study.toml")
    return replace(study, fractions=(0.5,), seeds=(1,)), base


def _fails(config, *_, **__):
    raise TrainingError(f"{config.name} diverged.", fix="lower it.")


def test_every_run_is_a_record_and_none_is_made_twice(files, small, monkeypatch):
    study, base = small
    seen = []
    records = run_study(study, base, files / "out", on_record=lambda record, *_: seen.append(record["name"]))
    assert seen == [record["name"] for record in records]
    assert all(record["status"] == "ok" for record in records)
    assert {entry["name"] for entry in records[0]["report"]["splits"]} == {"train", "valid", "test.xyz"}
    assert records[0]["report"]["forgetting"][0]["frames"] == 4
    assert [entry["steps"] for entry in records[0]["history"]] == [0, 2, 4, 6, 8, 10, 12]
    assert all(entry["forces"] > 0 for entry in records[0]["history"])
    monkeypatch.setattr(studies, "train", None)  # would fail if it were called
    assert run_study(study, base, files / "out") == records


def test_a_failed_run_is_a_record_and_is_tried_again(files, small, monkeypatch):
    study, base = small
    study = replace(study, variants={"full": Variant()}, forgetting=())

    real = studies.train
    monkeypatch.setattr(studies, "train", _fails)
    failed = run_study(study, base, files / "out")
    assert [record["status"] for record in failed] == ["failed"]
    assert "diverged" in failed[0]["message"]
    monkeypatch.setattr(studies, "train", real)
    assert run_study(study, base, files / "out")[0]["status"] == "ok"


def test_a_crash_of_one_run_does_not_end_the_others(files, small, monkeypatch):
    study, base = small
    study = replace(study, variants={"full": Variant(), "other": Variant(lr=0.001)}, forgetting=())

    def crashes(config, *_, **__):
        raise ValueError(config.name)

    monkeypatch.setattr(studies, "train", crashes)
    records = run_study(study, base, files / "out")
    assert [record["message"] for record in records] == [f"ValueError: {record['name']}" for record in records]
    assert len(records) == 2


def test_a_base_that_would_falsify_the_axes_is_refused(files):
    text = (files / "base.toml").read_text(encoding="utf-8")
    for key, table in (("patience = 3", "[optimiser]"), ('group_fractions = { "*" = 0.5 }', "[data]")):
        (files / "base.toml").write_text(text.replace(table, f"{table}\n{key}"), encoding="utf-8")
        with pytest.raises(CardError, match="group_fractions or a patience"):
            load_study(files / "study.toml")


def test_less_than_two_epochs_are_refused(small):
    study, base = small
    with pytest.raises(CardError, match="less than two epochs of share 0.5"):
        plan(replace(study, steps=1), base)


def test_a_study_that_cannot_be_planned_claims_no_folder(small, tmp_path):
    study, base = small
    with pytest.raises(CardError, match="less than two epochs"):
        run_study(replace(study, steps=1), base, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_learning_rate_of_zero_is_no_default():
    with pytest.raises(CardError, match="not positive"):
        Variant(lr=0.0)


def test_records_of_other_weights_of_the_parent_are_not_reused(files, small, monkeypatch):
    study, base = small
    study = replace(study, variants={"full": Variant()}, forgetting=())
    run_study(study, base, files / "out")
    changed = tiny_parent()
    with torch.no_grad():
        next(changed.parameters()).mul_(2.0)
    (files / "parent.safetensors").unlink()
    save_checkpoint(changed, files / "parent.safetensors")
    monkeypatch.setattr(studies, "train", None)  # no record is made either
    with pytest.raises(DataError, match="records of another parent.safetensors"):
        run_study(study, base, files / "out")


def test_another_study_is_refused(files, small, monkeypatch):
    study, base = small
    study = replace(study, variants={"full": Variant(lr=0.001)}, forgetting=())
    monkeypatch.setattr(studies, "train", _fails)
    run_study(study, base, files / "out")
    others = {
        "steps": (replace(study, steps=24), base),
        "base.toml: loss": (study, replace(base, loss="universal")),
        "variants.full": (replace(study, variants={"full": Variant(lr=0.002)}), base),
    }
    for changed, (other, other_base) in others.items():
        with pytest.raises(DataError, match=f"another study; what differs: {changed}\\."):
            run_study(other, other_base, files / "out")


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_a_damaged_folder_is_refused(files, small, text):
    (files / "out").mkdir()
    (files / "out" / "study.json").write_text(text)
    with pytest.raises(DataError, match="is damaged"):
        run_study(*small, files / "out")


def test_a_study_may_grow_and_shrink(files, small, monkeypatch):
    """Runs that the folder has are not made again, and a variant left out for a while is not forgotten."""
    study, base = small
    study = replace(study, variants={"full": Variant(lr=0.001)}, forgetting=())
    first = run_study(study, base, files / "out")
    made = []
    monkeypatch.setattr(studies, "train", lambda config, *_, **__: made.append(config.name) or _fails(config))
    grown = run_study(replace(study, seeds=(1, 2), variants=study.variants | {"more": Variant()}), base, files / "out")
    assert made == ["more-0.5-1", "full-0.5-2", "more-0.5-2"]
    assert grown[0] == first[0]
    run_study(replace(study, variants={"more": Variant()}), base, files / "out")
    with pytest.raises(DataError, match="what differs: variants.full"):
        run_study(replace(study, variants={"full": Variant()}), base, files / "out")


def test_a_folder_of_a_release_that_knew_fewer_keys_goes_on(files, small, monkeypatch):
    study, base = small
    study = replace(study, variants={"full": Variant(lr=0.001)}, forgetting=())
    first = run_study(study, base, files / "out")
    stored = json.loads((files / "out" / "study.json").read_text())
    del stored["study"]["variants"]["full"]["weight_decay"], stored["parents"]
    (files / "out" / "study.json").write_text(json.dumps(stored))
    monkeypatch.setattr(studies, "train", None)
    assert run_study(study, base, files / "out") == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fractions": (0.0,)}, "out of range"),
        ({"fractions": (0.5, 0.5)}, "twice"),
        ({"seeds": ()}, "empty"),
        ({"steps": 0}, "out of range"),
    ],
)
def test_what_makes_no_study(changes, message):
    options = {"name": "x", "recipe": "y.toml", "variants": {"full": Variant()}} | changes
    with pytest.raises(CardError, match=message):
        StudyConfig(**options)
