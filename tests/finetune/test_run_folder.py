"""The folder of a run belongs to one recipe, one parent, one set of frames and one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from mace_ft_bench.datasets.frames import write_extxyz
from mace_ft_bench.errors import TrainingError
from mace_ft_bench.finetune import run_folder
from mace_ft_bench.finetune.objective import EpochErrors
from mace_ft_bench.finetune.run_folder import claim, load_state, locked, store_state

from .conftest import STAGE_TWO


@pytest.fixture
def parts(frames):
    """Return the frames of a run by the name of their file."""
    return {"train": frames[0], "valid": frames[1]}


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_folder_says_how_to_repeat_the_run(recipe, tmp_path, parts):
    claim(tmp_path, recipe(), parts, "abc")
    run = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert run["recipe"]["optimiser"]["lr"] == 0.02
    assert run["recipe"]["strategy"]["kind"] == "scratch"
    assert run["parent_sha256"] == "abc"
    assert run["frames"] == {"train": {"hot": 18}, "valid": {"hot": 6}}
    assert run["versions"]["mace-torch"]
    assert set(snapshot(tmp_path)) == {"run.json", "train.xyz", "valid.xyz"}
    for name, part in parts.items():
        write_extxyz(part, tmp_path / "again.xyz")
        assert (tmp_path / f"{name}.xyz").read_bytes() == (tmp_path / "again.xyz").read_bytes()
        assert run["sha256"][f"{name}.xyz"] == run_folder.sha256_of(tmp_path / f"{name}.xyz")


def test_the_same_run_is_claimed_again(recipe, tmp_path, parts):
    claim(tmp_path, recipe(), parts, "")
    before = snapshot(tmp_path)
    claim(tmp_path, recipe(), parts, "")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("changes", [{"optimiser": {"lr": 0.01}}, {"stage_two": STAGE_TWO}, {"seed": 8}], ids=str)
def test_a_folder_of_another_recipe_is_refused_untouched(recipe, tmp_path, parts, changes):
    claim(tmp_path, recipe(), parts, "")
    before = snapshot(tmp_path)
    with pytest.raises(TrainingError, match="another recipe") as caught:
        claim(tmp_path, recipe(**changes), {**parts, "train": parts["train"][1:]}, "")
    assert "--out" in caught.value.fix
    assert snapshot(tmp_path) == before


def test_other_frames_and_another_parent_are_refused_untouched(recipe, tmp_path, parts):
    claim(tmp_path, recipe(), parts, "")
    before = snapshot(tmp_path)
    with pytest.raises(TrainingError, match="other frames"):
        claim(tmp_path, recipe(), {**parts, "train": parts["train"][1:]}, "")
    with pytest.raises(TrainingError, match="another parent"):
        claim(tmp_path, recipe(), parts, "abc")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"recipe": {}}'])
def test_a_damaged_run_file_is_a_training_error(recipe, tmp_path, parts, content):
    (tmp_path / "run.json").write_text(content, encoding="utf-8")
    with pytest.raises(TrainingError, match="damaged"):
        claim(tmp_path, recipe(), parts, "")


def test_the_state_comes_back_as_it_was(tmp_path):
    assert load_state(tmp_path) is None
    history = [EpochErrors(-1, 5.0, 1.0, 2.0, None), EpochErrors(0, 4.0, 1.0, 2.0, None)]
    packed = {"epoch": 3, "model": {"weight": torch.arange(3.0)}}
    store_state(tmp_path, packed, history)
    found = load_state(tmp_path)
    assert found["epoch"] == 3
    assert torch.equal(found["model"]["weight"], packed["model"]["weight"])
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [EpochErrors(**line) for line in lines] == history
    assert set(snapshot(tmp_path)) == {"state.pt", "history.jsonl"}


def test_a_full_disk_leaves_the_last_state(tmp_path, monkeypatch):
    store_state(tmp_path, {"epoch": 1}, [])

    def full(_data, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_folder.torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        store_state(tmp_path, {"epoch": 2}, [])
    assert load_state(tmp_path) == {"epoch": 1}


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04"])
def test_a_damaged_state_is_a_training_error(tmp_path, content):
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(TrainingError, match="damaged") as caught:
        load_state(tmp_path)
    assert "start over" in caught.value.fix


def test_a_state_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    torch.save({"epoch": Evil()}, tmp_path / "state.pt")
    with pytest.raises(TrainingError, match="damaged"):
        load_state(tmp_path)
    assert not (tmp_path / "owned").exists()


def test_a_folder_in_use_is_refused(tmp_path):
    with (
        locked(tmp_path / "run"),
        pytest.raises(TrainingError, match=rf"at work.*process {os.getpid()}"),
        locked(tmp_path / "run"),
    ):
        pass
    with locked(tmp_path / "run"):
        pass


def test_a_killed_trainer_leaves_the_folder_free(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom mace_ft_bench.finetune.run_folder import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('in', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(TrainingError, match=rf"process {other.pid}") as caught, locked(tmp_path):
            pass
        assert f"kill {other.pid}" in caught.value.fix
        other.kill()
        other.wait()
    with locked(tmp_path):
        assert (tmp_path / "trainer.pid").read_text(encoding="utf-8") == str(os.getpid())
    assert not (tmp_path / "trainer.pid").exists()


def test_a_polite_kill_unwinds(tmp_path):
    code = (
        "import os, signal, time\n"
        "from mace_ft_bench.cli.signals import ending_on_sigterm\n"
        "try:\n"
        "    with ending_on_sigterm():\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(60)\n"
        "finally:\n"
        f"    open({str(tmp_path / 'unwound')!r}, 'w').close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 128 + 15
    assert (tmp_path / "unwound").exists()


def test_looking_at_a_run_again_keeps_the_versions_that_trained_it(tmp_path, recipe, frames):
    parts = dict(zip(("train", "valid"), frames, strict=True))
    claim(tmp_path, recipe(), parts, "")
    path = tmp_path / "run.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    run["versions"] = {"torch": "1.0"}
    del run["threads"]  # as runs of before it was noted
    path.write_text(json.dumps(run), encoding="utf-8")
    claim(tmp_path, recipe(), parts, "")
    again = json.loads(path.read_text(encoding="utf-8"))
    assert again["versions"] == {"torch": "1.0"}
    assert again["sha256"] == run["sha256"]
