"""``mfb data subtract-d3``: the labels that are left, and what is refused before any work."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write
from typer.testing import CliRunner

from mace_ft_bench.calculators.dispersion import ORIGINAL_CUTOFF, D3Calculator
from mace_ft_bench.cli.main import app
from mace_ft_bench.datasets.frames import labelled
from mace_ft_bench.errors import CardError, DataError, MaceFtBenchError, StructureError, UnknownNameError

SHORT = ["--cutoff", 10]


def invoke(*arguments):
    return CliRunner().invoke(app, ["data", "subtract-d3", *map(str, arguments)], env={"COLUMNS": "200"})


def refusal(*arguments):
    result = invoke(*arguments)
    assert isinstance(result.exception, MaceFtBenchError), (result.exception, result.output)
    return result.exception


def frame(cutoff=10.0, *, functional="pbe"):
    """Return silicon whose labels are numbers that are known, plus D3."""
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = D3Calculator(functional, cutoff=cutoff)
    stress = 0.25 + atoms.get_stress()
    energy, forces = -3.0 + atoms.get_potential_energy(), 0.5 + atoms.get_forces()
    return labelled(atoms, energy=energy, forces=forces, stress=stress, config_type="test")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_what_was_added_is_taken_out():
    write("in.xyz", [frame(), frame()])
    result = invoke("in.xyz", "--out", "out.xyz", *SHORT)
    assert result.exit_code == 0, result.output
    assert "2 frames without D3(bj)-pbe, cutoff 10.00 A: out.xyz" in result.output
    for rest in read("out.xyz", ":"):
        assert rest.info["REF_energy"] == pytest.approx(-3.0, abs=1e-7)  # positions in files have eight digits
        np.testing.assert_allclose(rest.arrays["REF_forces"], 0.5, atol=1e-7)
        np.testing.assert_allclose(rest.info["REF_stress"], 0.25, atol=1e-8)
        assert rest.info["REF_subtracted"] == "D3(bj)-pbe, cutoff 10.00 A"
        assert rest.info["config_type"] == "test"


def test_the_default_cutoff_is_the_original_one_and_json_says_so():
    write("in.xyz", frame(ORIGINAL_CUTOFF))
    report = json.loads(invoke("in.xyz", "--out", "out.xyz", "--json").output)
    assert report == {"out": "out.xyz", "frames": 1, "subtracted": "D3(bj)-pbe, cutoff 50.27 A"}
    assert read("out.xyz").info["REF_energy"] == pytest.approx(-3.0, abs=1e-7)


def test_another_functional_leaves_another_rest():
    write("in.xyz", frame(functional="b3-lyp"))
    assert invoke("in.xyz", "--out", "pbe.xyz", *SHORT).exit_code == 0
    assert invoke("in.xyz", "--out", "b3lyp.xyz", "--functional", "b3-lyp", *SHORT).exit_code == 0
    assert abs(read("pbe.xyz").info["REF_energy"] + 3.0) > 0.01
    assert read("b3lyp.xyz").info["REF_energy"] == pytest.approx(-3.0, abs=1e-7)


def test_frames_without_stress_are_refused_unless_partial_is_passed():
    bare = frame()
    del bare.info["REF_stress"]
    write("in.xyz", [frame(), bare])
    error = refusal("in.xyz", "--out", "out.xyz", *SHORT)
    assert "Frame 1 has no REF_stress. To fix: pass --partial" in str(error)
    assert not Path("out.xyz").exists()
    assert invoke("in.xyz", "--out", "out.xyz", "--partial", *SHORT).exit_code == 0
    rest = read("out.xyz", ":")
    assert [("REF_stress" in one.info) for one in rest] == [True, False]
    np.testing.assert_allclose(rest[1].arrays["REF_forces"], 0.5, atol=1e-7)


def without(key):
    made = frame()
    (made.info if key in made.info else made.arrays).pop(key)
    return made


def molecule_with_stress():
    made = frame()
    made.set_cell(None)
    made.pbc = False
    return made


def clash():
    made = frame()
    made.positions[1] = made.positions[0]
    return made


def subtracted():
    made = frame()
    made.info["REF_subtracted"] = "D3"
    return made


@pytest.mark.parametrize(
    ("made", "kind", "message"),
    [
        (lambda: without("REF_energy"), DataError, "Frame 1 has no REF_energy. To fix: label it"),
        (lambda: without("REF_forces"), DataError, "Frame 1 has no REF_forces"),
        (molecule_with_stress, DataError, "Frame 1 has a REF_stress but no volume"),
        (subtracted, DataError, "D3 has been taken out of frame 1 before"),
        (clash, StructureError, "Frame 1: Atoms 0 and 1"),
    ],
)
def test_frames_that_cannot_be_corrected_are_named(made, kind, message):
    write("in.xyz", [frame(), made()])
    error = refusal("in.xyz", "--out", "out.xyz", *SHORT)
    assert isinstance(error, kind)
    assert message in str(error)
    assert not Path("out.xyz").exists()


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (["--damping", "bjj"], UnknownNameError, 'did you mean "bj'),
        (["--functional", "pbee"], UnknownNameError, "pbe"),
        (["--cutoff", math.nan], CardError, "cutoff = nan Å is no cutoff. To fix: pass a positive length"),
        (["--cutoff", -1], CardError, "cutoff = -1.0 Å is no cutoff"),
        (["--out", "in.xyz"], DataError, "in.xyz is a source"),
    ],
)
def test_wrong_options_are_refused(options, kind, message):
    write("in.xyz", frame())
    error = refusal("in.xyz", "--out", "out.xyz", *options)
    assert isinstance(error, kind)
    assert message in str(error)
    assert not Path("out.xyz").exists()


def test_an_empty_file_is_refused():
    Path("empty.xyz").touch()
    assert "empty.xyz is empty" in str(refusal("empty.xyz", "--out", "out.xyz"))
    write("bare.xyz", Atoms("Si"))
    assert "Frame 0 has no REF_energy" in str(refusal("bare.xyz", "--out", "out.xyz"))
