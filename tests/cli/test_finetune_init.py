"""``mfb finetune init`` beside ``mfb finetune RECIPE``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from typer.testing import CliRunner

from mace_ft_bench.cli.main import app
from mace_ft_bench.datasets.frames import labelled, write_extxyz
from mace_ft_bench.errors import CardError, DataError, UnknownNameError


def invoke(*arguments):
    return CliRunner().invoke(app, ["finetune", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture(autouse=True)
def frames(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = []
    for seed in range(30):
        atoms = bulk("Si", cubic=True)
        generator = np.random.default_rng(seed)
        atoms.rattle(0.05, rng=generator)
        forces = generator.normal(size=(8, 3))
        made.append(labelled(atoms, energy=-43 + seed / 30, forces=forces, stress=None, config_type="rattled"))
    write_extxyz(made, Path("mine.xyz"))


def test_a_recipe_is_written_and_trains(tiny_file):
    result = invoke("init", "mine.xyz", "--parent", tiny_file, "--out", "my-si.toml")
    assert result.exit_code == 0, result.output
    assert "mfb finetune my-si.toml" in result.output
    assert "warning" not in result.output
    text = Path("my-si.toml").read_text(encoding="utf-8")
    short = text.replace("max_epochs = 267", "max_epochs = 3").replace("start_epoch = 178", "start_epoch = 2")
    assert short != text
    Path("my-si.toml").write_text(short.replace("ema_decay = 0.99 ", "ema_decay = 0.9 "), encoding="utf-8")
    trained = invoke("my-si.toml")  # the command of earlier releases
    assert trained.exit_code == 0, trained.output
    assert "warning: optimiser.ema_decay 0.9 is outside" in trained.output
    assert trained.output.index("warning") < trained.output.index("epoch start")
    assert Path("runs/my-si/my-si.safetensors").exists()


def test_the_first_word_may_be_an_option_or_the_command():
    Path("bad.toml").write_text("colour = 1\n", encoding="utf-8")
    for words in (["bad.toml"], ["--trust", "bad.toml"], ["train", "bad.toml"]):
        assert isinstance(invoke(*words).exception, CardError)
    assert "init" in invoke("--help").output
    assert invoke("missing.toml").exit_code == 2
    assert "missing.toml" in invoke("missing.toml").output


def test_what_is_refused(tiny_file):
    options = ["--parent", tiny_file, "--out"]
    wrong = invoke("init", "mine.xyz", *options, "mine.txt").exception
    assert isinstance(wrong, DataError)
    assert "would hold a recipe" in str(wrong)
    assert "does not exist" in str(invoke("init", "mine.xyz", *options, "no/mine.toml").exception)
    Path("mine.toml").touch()
    assert "mine.toml exists" in str(invoke("init", "mine.xyz", *options, "mine.toml").exception)
    assert invoke("init", "mine.xyz", *options, "mine.toml", "--overwrite").exit_code == 0
    assert "does not exist" in str(invoke("init", "other.xyz", *options, "new.toml").exception)
    unknown = invoke("init", "mine.xyz", "--parent", "mo-fd", "--out", "new.toml").exception
    assert isinstance(unknown, UnknownNameError)
    assert not Path("new.toml").exists()
