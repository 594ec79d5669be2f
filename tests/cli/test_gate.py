"""``mfb gate``: exit codes, and the tables people and machines read."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from mace_ft_bench.cli.main import app
from mace_ft_bench.errors import UnknownNameError
from mace_ft_bench.results.store import RecordStore


@pytest.fixture(autouse=True)
def bare_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MFB_MIRROR", raising=False)
    monkeypatch.setenv("MFB_CACHE", str(tmp_path / "cache"))


def gate(*arguments):
    options = ("--device", "cpu", "--cases", "molybdenum/lattice,molybdenum/forces-mlearn")
    return CliRunner().invoke(app, ["gate", *options, *arguments], env={"COLUMNS": "200"})


def test_the_fine_tuned_model_passes_and_its_parent_in_its_place_does_not(tmp_path):
    passed = gate("--model", "mo-ft", "--parent", "mace-nano")
    assert passed.exit_code == 0, passed.output
    assert "1 better, 1 not compared" in passed.output  # the frames are not here
    assert "mfb data fetch" in passed.output
    swapped = gate("--model", "mace-nano", "--parent", "mo-ft", "--json")
    assert swapped.exit_code == 1
    found = json.loads(swapped.stdout)
    assert found["passed"] is False
    outcomes = {case["case"]: case["outcome"] for case in found["cases"]}
    assert outcomes == {"molybdenum/lattice": "worse", "molybdenum/forces-mlearn": "not compared"}
    records = RecordStore(tmp_path / "results").all()  # what the first gate computed is not computed again
    assert sum(record.case == "molybdenum/lattice" for record in records) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "mace-nano"), "parent of mace-nano is not known"),
        (("--model", "mo-ft", "--parent", "mo-ft"), "compared with itself"),
        (("--model", "mo-fft", "--parent", "mace-nano"), "mo-fft"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments, words, tmp_path):
    error = gate(*arguments).exception
    assert isinstance(error, UnknownNameError)
    assert words in error.message
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("swapped", [False, True])
def test_each_model_has_a_head_of_its_own(two_heads_file, tmp_path, swapped):
    """A case that needs no sensible model: random weights have energies of dimers, too."""
    models, heads = ("mace-nano", two_heads_file), ("--parent-head", "r2scan")
    if swapped:
        models, heads = models[::-1], ("--head", "r2scan")
    arguments = ("--cases", "molybdenum/diatomics", "--model", str(models[0]), "--parent", str(models[1]))
    for wrong in ((), (*heads[:1], "nothing")):
        error = gate(*arguments, *wrong).exception
        assert isinstance(error, UnknownNameError)
        assert "r2scan" in error.fix
        assert not (tmp_path / "results").exists()
    result = gate(*arguments, *heads, "--json")
    assert result.exit_code in {0, 1}, result.output
    assert [case["case"] for case in json.loads(result.stdout)["cases"]] == ["molybdenum/diatomics"]
    records = RecordStore(tmp_path / "results").all()
    assert {record.model: record.provenance.head for record in records} == {
        "mace-nano": "Default",
        two_heads_file.as_posix(): "r2scan",
    }
