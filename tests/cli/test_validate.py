"""``mfb validate``: files, options, and what it prints."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from mace_ft_bench.cli.main import app
from mace_ft_bench.datasets.frames import write_extxyz
from mace_ft_bench.errors import DataError, MaceFtBenchError, TrainingError, UnknownNameError
from mace_ft_bench.leaderboard import validation_page

from ..finetune.fabricated_run import cut, metal, tiny_parent, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a run folder whose model is its parent, with other E0s."""
    parent = tiny_parent()
    return write_run(tmp_path_factory.mktemp("cli") / "run", cut(parent, {"Cu": 7.0}), parent)


def invoke(*arguments):
    return CliRunner().invoke(app, ["validate", *map(str, arguments)], env={"COLUMNS": "250"})


def output(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refusal(*arguments):
    result = invoke(*arguments)
    assert isinstance(result.exception, MaceFtBenchError), (result.exception, result.output)
    return result.exception


def test_three_files_are_written_into_the_run_and_again(run, tmp_path, monkeypatch):
    write_extxyz([metal(30), metal(31)], tmp_path / "test.xyz")
    write_extxyz([metal(40), metal(41), metal(42, symbol="Ag")], tmp_path / "domain.xyz")
    arguments = (run, "--test", tmp_path / "test.xyz", "--forgetting", tmp_path / "domain.xyz")
    printed = output(*arguments)
    assert "too few to say what is forgotten" in printed
    assert "keep_elements" in printed
    assert str(run / "validation" / "validation.html") in printed
    files = {path.name for path in (run / "validation").iterdir()}
    assert files == {"validation.html", "validation.md", "validation.json"}
    numbers = json.loads((run / "validation" / "validation.json").read_text(encoding="utf-8"))
    assert [split["role"] for split in numbers["splits"]] == ["train", "valid", "test"]
    assert numbers["forgetting"][0]["frames"] == 2
    monkeypatch.setattr(validation_page, "to_html", lambda *_: "another page")
    first = (run / "validation" / "validation.json").read_bytes()
    output(*arguments)
    assert (run / "validation" / "validation.json").read_bytes() == first, "a validation is reproducible"


def test_out_parent_and_overwrite(run, tmp_path, monkeypatch):
    monkeypatch.setattr(validation_page, "to_html", lambda *_: "page")
    assert "no parent to compare with" in output(run, "--parent", "none", "--out", tmp_path / "here")
    (tmp_path / "here" / "validation.json").write_text("{}", encoding="utf-8")
    assert isinstance(refusal(run, "--parent", "none", "--out", tmp_path / "here"), DataError)
    output(run, "--parent", "none", "--out", tmp_path / "here", "--overwrite")
    assert isinstance(refusal(run, "--out", run, "--overwrite"), DataError)


def test_a_folder_that_is_no_run(tmp_path):
    assert isinstance(refusal(tmp_path), TrainingError)
    assert isinstance(refusal(tmp_path / "nowhere"), UnknownNameError)


def test_a_model_without_its_run(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_extxyz([metal(30), metal(31)], tmp_path / "test.xyz")
    assert "name some with --test" in refusal(run / "mine.safetensors").fix
    printed = output(run / "mine.safetensors", "--test", "test.xyz", "--parent", run.parent / "parent.safetensors")
    assert str(tmp_path / "validation-mine" / "validation.html") in printed
    numbers = json.loads((tmp_path / "validation-mine" / "validation.json").read_text(encoding="utf-8"))
    assert numbers["model"]["file"] == "mine.safetensors"
    assert numbers["parent"]["name"] == "parent"
