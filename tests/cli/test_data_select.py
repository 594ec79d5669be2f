"""``mfb data select``: what it writes, what it prints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write
from typer.testing import CliRunner

from mace_ft_bench.cli.main import app
from mace_ft_bench.errors import CardError, DataError, MaceFtBenchError, UnknownNameError, UnsupportedElementError


def invoke(*arguments):
    return CliRunner().invoke(app, ["data", "select", *map(str, arguments)], env={"COLUMNS": "200"})


def refusal(*arguments):
    result = invoke(*arguments)
    assert isinstance(result.exception, MaceFtBenchError), (result.exception, result.output)
    return result.exception


@pytest.fixture(autouse=True)
def eight_frames(tmp_path, monkeypatch):
    """Write 8 frames: 7 alike, and number 5 stretched."""
    monkeypatch.chdir(tmp_path)
    made = []
    for number in range(8):
        atoms = bulk("Mo", a=3.5 if number == 5 else 3.15, cubic=True)
        atoms.rattle(0.02, seed=number)
        atoms.info = {"REF_energy": float(number), "config_type": "elastic" if number < 6 else "vacancy"}
        atoms.arrays["REF_forces"] = np.full((2, 3), float(number))
        made.append(atoms)
    write("all.xyz", made)


def chosen(name="out.xyz"):
    return [int(frame.info["REF_energy"]) for frame in read(name, ":")]


def test_farthest_points_find_the_outlier_and_print_the_coverage(tiny_file):
    options = ["--count", 3, "--model", tiny_file, "--start", 0, "--out", "out.xyz"]
    result = invoke("all.xyz", *options, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert {0, 5} < set(report["chosen"])
    assert chosen() == report["chosen"] == sorted(report["chosen"])
    assert report["frames"] == 8
    assert 0 < report["mean"] <= report["largest"]
    assert report["farthest"] not in report["chosen"]
    np.testing.assert_array_equal(read("out.xyz", "-1").arrays["REF_forces"], report["chosen"][-1])
    again = invoke("all.xyz", *options, "--overwrite")
    assert f"(frame {report['farthest']})" in again.output
    assert "3 of 8 frames: out.xyz" in again.output


def test_more_frames_cover_more(tiny_file):
    largest = []
    for count in (2, 4, 6):
        out = f"{count}.xyz"
        report = invoke("all.xyz", "--count", count, "--model", tiny_file, "--out", out, "--json")
        largest.append(json.loads(report.output)["largest"])
    assert largest[0] > largest[1] > largest[2] > 0
    assert "No frame is left" in invoke("all.xyz", "--count", 8, "--model", tiny_file, "--out", "all8.xyz").output


def test_random_and_stratified_need_no_model():
    result = invoke("all.xyz", "--count", 4, "--method", "stratified", "--out", "out.xyz")
    assert result.exit_code == 0, result.output
    assert "Give --model" in result.output
    assert {6, 7} < set(chosen())
    bins = ["--by", "energy", "--bins", 4, "--count", 4, "--method", "stratified", "--out", "bins.xyz"]
    assert invoke("all.xyz", *bins).exit_code == 0
    assert [number // 2 for number in chosen("bins.xyz")] == [0, 1, 2, 3]
    assert invoke("all.xyz", "--count", 4, "--method", "random", "--seed", 1, "--out", "random.xyz").exit_code == 0
    assert len(set(chosen("random.xyz"))) == 4


def test_random_frames_are_compared_when_a_model_is_named(tiny_file):
    options = ["--count", 4, "--method", "random", "--model", tiny_file, "--out", "out.xyz", "--json"]
    assert json.loads(invoke("all.xyz", *options).output)["largest"] > 0


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (["--count", 9, "--method", "random"], CardError, "9 of 8 frames cannot be chosen. To fix: ask for 1 to 8"),
        (["--count", 0, "--method", "random"], CardError, "0 of 8 frames cannot be chosen"),
        (["--count", 2], CardError, "needs descriptors. To fix: name a MACE model with --model"),
        (["--count", 2, "--model", "mo-fd"], UnknownNameError, 'did you mean "mo-ft"'),
        (["--count", 2, "--method", "farthest"], UnknownNameError, 'did you mean "farthest-point"'),
        (
            ["--count", 2, "--method", "stratified", "--by", "size"],
            UnknownNameError,
            'No stratification is called "size"',
        ),
        (["--count", 2, "--method", "random", "--out", "all.xyz"], DataError, "all.xyz is a source. To fix"),
    ],
)
def test_wrong_options_are_refused_and_write_nothing(options, kind, message):
    error = refusal("all.xyz", "--out", "out.xyz", *options)
    assert isinstance(error, kind)
    assert message in str(error)
    assert not Path("out.xyz").exists()


def test_a_start_that_is_no_frame_is_refused(tiny_file):
    error = refusal("all.xyz", "--count", 2, "--model", tiny_file, "--start", 8, "--out", "out.xyz")
    assert "no frame 8 to start from" in str(error)


def test_an_element_the_model_does_not_know_is_refused(tiny_file):
    write("cu.xyz", bulk("Cu"))
    error = refusal("all.xyz", "cu.xyz", "--count", 2, "--model", tiny_file, "--out", "out.xyz")
    assert isinstance(error, UnsupportedElementError)


def test_an_empty_file_is_refused():
    Path("empty.xyz").touch()
    assert "empty.xyz is empty" in str(refusal("empty.xyz", "--count", 2, "--method", "random", "--out", "out.xyz"))


def test_frames_without_groups_are_refused():
    write("bare.xyz", [bulk("Mo")] * 3)
    error = refusal("bare.xyz", "--count", 2, "--method", "stratified", "--out", "out.xyz")
    assert "Frame 0 has no config_type. To fix: stratify by energy or volume" in str(error)


def test_an_element_that_is_not_chosen_is_infinitely_far_which_json_says_as_null(tiny_file):
    write("si.xyz", bulk("Si"))
    options = ["--count", 2, "--model", tiny_file, "--method", "random", "--seed", 0, "--out", "out.xyz", "--json"]
    report = json.loads(invoke("all.xyz", "si.xyz", *options).output)
    assert 8 not in report["chosen"]
    assert report["largest"] is None
    assert report["farthest"] == 8
