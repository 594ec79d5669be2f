"""``mfb data perturb``: what it writes and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write
from typer.testing import CliRunner

from mace_ft_bench.cli.main import app
from mace_ft_bench.datasets.structure_files import read_structures
from mace_ft_bench.errors import CardError, DataError, MaceFtBenchError, StructureError, UnknownNameError


def invoke(*arguments):
    return CliRunner().invoke(app, ["data", "perturb", *map(str, arguments)], env={"COLUMNS": "200"})


def refusal(*arguments):
    result = invoke(*arguments)
    assert isinstance(result.exception, MaceFtBenchError), (result.exception, result.output)
    return result.exception


@pytest.fixture
def crystal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("mo.cif", bulk("Mo", cubic=True))
    return "mo.cif"


def test_frames_of_several_structures(crystal):
    write("cu.xyz", [bulk("Cu", cubic=True), bulk("Cu", cubic=True) * 2])
    options = [
        "--count",
        3,
        "--rattle",
        "0.01:0.2",
        "--strain",
        0.02,
        "--min-distance",
        "Mo-Mo=2.0",
        "--out",
        "out.xyz",
    ]
    result = invoke(crystal, "cu.xyz", *options)
    assert result.exit_code == 0, result.output
    assert "9 frames: out.xyz" in result.output
    frames = read("out.xyz", ":")
    assert [len(frame) for frame in frames] == [2] * 3 + [4] * 3 + [32] * 3
    assert [frame.info["perturb_parent"] for frame in frames] == [0] * 3 + [1] * 3 + [2] * 3
    assert len({frame.info["perturb_rattle"] for frame in frames}) == 9


def test_the_same_seed_gives_the_same_frames_and_json_says_where(crystal):
    first = invoke(crystal, "--out", "a.xyz", "--json")
    assert json.loads(first.output) == {"out": "a.xyz", "frames": 10}
    assert invoke(crystal, "--out", "b.xyz", "--count", 12).exit_code == 0
    assert invoke(crystal, "--out", "c.xyz", "--seed", 1).exit_code == 0
    a, b, c = (read(f"{name}.xyz", ":10") for name in "abc")
    for one, two, three in zip(a, b, c, strict=True):
        np.testing.assert_array_equal(one.positions, two.positions)
        assert np.abs(one.positions - three.positions).max() > 1e-3


def test_an_existing_file_is_kept_unless_overwrite_is_given(crystal):
    (out := read_path("out.xyz")).write_text("mine")
    error = refusal(crystal, "--out", "out.xyz")
    assert isinstance(error, DataError)
    assert "out.xyz exists. To fix: choose another name, or pass --overwrite" in str(error)
    assert out.read_text() == "mine"
    assert invoke(crystal, "--out", "out.xyz", "--overwrite").exit_code == 0
    assert len(read(out, ":")) == 10


def read_path(name):
    from pathlib import Path

    return Path(name)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (["--rattle", "-0.1"], CardError, "A rattle of -0.1 Å makes no sense"),
        (["--rattle", "nan"], CardError, "A rattle of nan Å makes no sense"),
        (["--rattle", "a:b"], CardError, '"a:b" is neither a number nor a range'),
        (["--rattle", "0.1:0.2:0.3"], CardError, '"0.1:0.2:0.3" is neither a number nor a range'),
        (["--count", "0"], CardError, "count = 0 makes no sense"),
        (["--strain-kind", "sheer"], UnknownNameError, 'did you mean "shear"'),
        (["--min-distance", "Mo=2"], CardError, '"Mo" is no pair of elements'),
        (["--min-distance", "Mo-Mo=3.5"], StructureError, "Mo-Mo may not come closer than 3.3 Å"),
        (["--out", "out.db"], DataError, "out.db would hold extended XYZ"),
        (["--out", "none/out.xyz"], DataError, "The folder none does not exist"),
    ],
)
def test_options_that_are_refused_leave_no_file(crystal, tmp_path, options, kind, message):
    error = refusal(crystal, "--out", "out.xyz", *options)
    assert isinstance(error, kind)
    assert message in str(error)
    assert "To fix:" in str(error)
    assert [path.name for path in tmp_path.iterdir()] == ["mo.cif"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("empty.xyz", "", "empty.xyz is empty"),
        ("blank.xyz", "\n", "holds no structure|cannot read"),
        ("bad.cif", "nonsense", "ASE cannot read bad.cif"),
        ("bad.xyz", "2\n\nMo 0 0", "ASE cannot read bad.xyz"),
        ("what.ever", "nonsense", "ASE cannot read what.ever"),
    ],
)
def test_files_that_hold_no_structure_are_refused(crystal, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=f"{message}.*To fix"):
        read_structures([tmp_path / crystal, read_path(name)])


def test_a_missing_file_is_refused(crystal):
    assert "none.cif does not exist" in str(refusal(crystal, "none.cif", "--out", "out.xyz"))


def test_frames_behind_an_empty_line_are_not_lost_in_silence(tmp_path):
    path = tmp_path / "two.xyz"
    path.write_text("1\n\nMo 0 0 0\n\n1\n\nMo 0 0 0\n")
    with pytest.raises(DataError, match="goes on after an empty line behind 1 frames"):
        read_structures([path])
