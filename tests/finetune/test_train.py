"""The training process: followed, resumed, and its failures reported; with a shell script in mace's place."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from mace_ft_bench.datasets.frames import write_extxyz
from mace_ft_bench.errors import TrainingError
from mace_ft_bench.finetune import train as module
from mace_ft_bench.finetune.train import read_epochs, train, trained_models

from .conftest import STAGE_TWO


@pytest.fixture(autouse=True)
def quick(monkeypatch, frames):
    """Ask often, and read no dataset."""
    monkeypatch.setattr(module, "_POLL_S", 0.01)
    monkeypatch.setattr(module, "prepare_frames", lambda _data, **_options: frames)


@pytest.fixture
def trainer(monkeypatch, tmp_path):
    """Let a shell script train."""

    def use(script):
        path = tmp_path / "trainer"
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
        monkeypatch.setattr(module.sys, "executable", str(path))

    yield use
    assert sys.executable


def line(epoch, **changes):
    entry = {"mode": "eval", "epoch": epoch, "rmse_e_per_atom": 0.001, "rmse_f": 0.2, "rmse_stress": 0.03, **changes}
    return json.dumps(entry)


def test_a_finished_run_returns_its_models_and_reports_every_epoch(recipe, tmp_path, trainer):
    trainer(
        "mkdir results; cp ../lines results/tiny_run-7_train.txt; touch tiny.model tiny_stagetwo.model; echo $@ > args"
    )
    (tmp_path / "lines").write_text("\n".join([line(None), line(0), line(1)]) + "\n", encoding="utf-8")
    reported = []
    models = train(recipe(), tmp_path / "run", on_epoch=reported.append)
    assert [path.name for path in models] == ["tiny.model", "tiny_stagetwo.model"]
    assert [item.epoch for item in reported] == [0, 1]
    errors = reported[0]
    assert errors.energy_rmse_mev_per_atom == pytest.approx(1.0)
    assert errors.force_rmse_mev_per_a == pytest.approx(200.0)
    assert errors.stress_rmse_mev_per_a3 == pytest.approx(30.0)
    assert (tmp_path / "run" / "args").read_text(encoding="utf-8").startswith("-m mace.cli.run_train --name=tiny ")


def test_a_failed_run_names_its_log_and_its_last_words(recipe, tmp_path, trainer):
    trainer("echo starting; echo 'RuntimeError: boom' >&2; echo; exit 3")
    with pytest.raises(TrainingError, match="status 3: RuntimeError: boom") as caught:
        train(recipe(), tmp_path / "run")
    assert str(tmp_path / "run" / "train.log") in caught.value.fix
    assert "starting" in (tmp_path / "run" / "train.log").read_text(encoding="utf-8")


def test_a_failed_run_without_a_word(recipe, tmp_path, trainer):
    trainer("kill -9 $$")
    with pytest.raises(TrainingError, match=r"status -9: \(no output\)"):
        train(recipe(), tmp_path / "run")


def test_a_run_that_wrote_no_model_is_an_error(recipe, tmp_path, trainer):
    trainer("exit 0")
    with pytest.raises(TrainingError, match="no finished model"):
        train(recipe(), tmp_path / "run")
    with pytest.raises(TrainingError, match="no finished model"):
        trained_models(recipe(), tmp_path)


def test_ctrl_c_ends_the_process(recipe, tmp_path, trainer):
    trainer("mkdir results; cp ../lines results/tiny_run-7_train.txt; exec sleep 60")
    (tmp_path / "lines").write_text(line(0) + "\n", encoding="utf-8")

    def interrupt(_errors):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe(), tmp_path / "run", on_epoch=interrupt)


def test_the_folder_says_how_to_repeat_the_run(recipe, tmp_path, trainer, frames):
    trainer("touch tiny.model")
    train(recipe(), tmp_path)
    run = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert run["recipe"]["optimiser"]["lr"] == 0.02
    assert run["frames"] == {"train": {"hot": 18}, "valid": {"hot": 6}}
    assert run["versions"]["mace-torch"]
    assert run["command"][0] == "mace_run_train"
    assert {path.name for path in tmp_path.iterdir()} == {
        "run.json",
        "train.xyz",
        "valid.xyz",
        "train.log",
        "tiny.model",
        "trainer",
    }
    for name, part in zip(("train.xyz", "valid.xyz"), frames, strict=True):
        write_extxyz(part, tmp_path / "again.xyz")
        assert (tmp_path / name).read_bytes() == (tmp_path / "again.xyz").read_bytes()
        assert run["sha256"][name] == module.sha256_of(tmp_path / name)


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("changes", [{"optimiser": {"lr": 0.01}}, {"stage_two": STAGE_TWO}, {"seed": 8}], ids=str)
def test_a_folder_of_another_recipe_is_refused_untouched(recipe, tmp_path, trainer, frames, changes):
    trainer("touch tiny.model")
    train(recipe(), tmp_path / "run")
    before = snapshot(tmp_path / "run")
    frames[0].pop()  # another recipe has other frames, too
    with pytest.raises(TrainingError, match="another recipe") as caught:
        train(recipe(**changes), tmp_path / "run")
    assert "--out" in caught.value.fix
    assert snapshot(tmp_path / "run") == before


def test_other_frames_under_the_same_recipe_are_refused_untouched(recipe, tmp_path, trainer, frames):
    trainer("touch tiny.model")
    train(recipe(), tmp_path / "run")
    before = snapshot(tmp_path / "run")
    frames[0].pop()
    with pytest.raises(TrainingError, match="other frames"):
        train(recipe(), tmp_path / "run")
    assert snapshot(tmp_path / "run") == before


def test_the_same_recipe_goes_on(recipe, tmp_path, trainer):
    trainer("echo once more; touch tiny.model")
    for _ in range(2):
        train(recipe(), tmp_path / "run")
    assert (tmp_path / "run" / "train.log").read_text(encoding="utf-8") == "once more\n" * 2


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"recipe": {}}'])
def test_a_damaged_run_file_is_a_training_error(recipe, tmp_path, trainer, content):
    trainer("touch tiny.model")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(content, encoding="utf-8")
    with pytest.raises(TrainingError, match="damaged"):
        train(recipe(), tmp_path / "run")


def epochs_of(tmp_path, recipe, text):
    path = tmp_path / "results" / "tiny_run-7_train.txt"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    return [errors.epoch for errors in read_epochs(tmp_path, recipe())]


@pytest.mark.parametrize("kept", [1, 30, 60, -1])
def test_a_torn_last_line_is_left_for_later(tmp_path, recipe, kept):
    text = "\n".join([line(None), line(0), json.dumps({"mode": "opt", "epoch": 1}), line(1)])
    assert epochs_of(tmp_path, recipe, f"{text}\n{line(2)[:kept]}") == [0, 1]


def test_a_run_resumed_behind_a_torn_line_is_read(tmp_path, recipe):
    torn = line(2)[:50]
    assert epochs_of(tmp_path, recipe, f"{line(1)}\n{torn}{line(None)}\n{line(2)}\n{line(3)}\n") == [1, 2, 3]


def test_before_the_first_epoch_there_is_nothing(tmp_path, recipe):
    assert list(read_epochs(tmp_path, recipe())) == []


def test_a_folder_whose_trainer_is_alive_is_refused(recipe, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    command = [sys.executable, "-c", "import time; time.sleep(60)", module._TRAINER]
    with subprocess.Popen(command) as alive:
        (folder / "trainer.pid").write_text(str(alive.pid), encoding="utf-8")
        with pytest.raises(TrainingError, match=rf"still at work.*process {alive.pid}.*kill {alive.pid}"):
            train(recipe(), folder)
        alive.kill()


@pytest.mark.parametrize("pid", ["999999999", str(os.getpid()), "nonsense", ""])
def test_a_stale_process_number_is_ignored(recipe, tmp_path, trainer, pid):
    trainer("touch tiny.model")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "trainer.pid").write_text(pid, encoding="utf-8")
    assert train(recipe(), folder)
    assert not (folder / "trainer.pid").exists()


def test_a_polite_kill_ends_the_trainer_too(tmp_path):
    """SIGTERM during training unwinds: the finally of train() runs."""
    code = (
        "import os, signal, time\n"
        "from mace_ft_bench.cli.finetune import _ending_on_sigterm\n"
        "try:\n"
        "    with _ending_on_sigterm():\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(60)\n"
        "finally:\n"
        f"    open({str(tmp_path / 'unwound')!r}, 'w').close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 128 + 15
    assert (tmp_path / "unwound").exists()
