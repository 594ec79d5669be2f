"""``mfb data split``: what it writes, what it shows, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write
from typer.testing import CliRunner

from mace_ft_bench.cli.main import app
from mace_ft_bench.datasets.exact_extxyz import write_exact
from mace_ft_bench.datasets.frames import labelled
from mace_ft_bench.datasets.readers.extxyz import frames_of_extxyz
from mace_ft_bench.errors import DataError, MaceFtBenchError

FILES = ("train.xyz", "valid.xyz", "test.xyz")


def copper(seed, group):
    atoms = bulk("Cu", a=3.6, cubic=True)
    atoms.rattle(0.05, seed=seed)
    atoms.calc = EMT()
    return labelled(
        atoms,
        energy=atoms.get_potential_energy(),
        forces=atoms.get_forces(),
        stress=atoms.get_stress(),
        config_type=group,
    )


def invoke(*arguments):
    return CliRunner().invoke(app, ["data", "split", *map(str, arguments)], env={"COLUMNS": "200"})


def refusal(*arguments):
    result = invoke(*arguments)
    assert isinstance(result.exception, MaceFtBenchError), (result.exception, result.output)
    return result.exception


@pytest.fixture(autouse=True)
def frames(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = [copper(seed, group="abcd"[seed // 10]) for seed in range(40)]
    write_exact(made, Path("all.xyz"))
    return made


def energies(path):
    return [frame.info["REF_energy"] for frame in frames_of_extxyz(Path(path))]


def test_every_frame_is_written_once_with_every_digit(frames):
    result = invoke("all.xyz", "--out", "parts", "--by", "frame", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [len(report["frames"][name]) for name in ("train", "valid", "test")] == [32, 4, 4]
    for name, numbers in report["frames"].items():
        assert energies(f"parts/{name}.xyz") == [frames[index].info["REF_energy"] for index in numbers]
    first = frames_of_extxyz(Path("parts/train.xyz"))[0]
    np.testing.assert_array_equal(first.positions, frames[report["frames"]["train"][0]].positions)


def test_groups_are_whole_and_counted():
    result = invoke("all.xyz", "--out", "parts", "--by", "config_type", "--fractions", 0.5, 0.25, 0.25)
    assert result.exit_code == 0, result.output
    groups = [{frame.info["config_type"] for frame in frames_of_extxyz(Path("parts") / name)} for name in FILES]
    assert sorted(len(found) for found in groups) == [1, 1, 2]
    assert not groups[0] & groups[1]
    assert "│ all   │ 20    │ 10    │ 10   │" in result.output


def test_a_fraction_of_zero_writes_no_file():
    assert invoke("all.xyz", "--out", "parts", "--by", "block:2", "--fractions", 0.8, 0.2, 0).exit_code == 0
    assert not Path("parts/test.xyz").exists()
    assert len(energies("parts/valid.xyz")) == 8


def test_one_frame_in_two_parts_is_an_error(frames):
    write_exact([*frames, *frames], Path("twice.xyz"))
    error = refusal("twice.xyz", "--out", "parts", "--by", "frame")
    assert "nothing is written" in str(error)
    assert not Path("parts").exists()
    result = invoke("twice.xyz", "--out", "parts", "--by", "frame", "--allow-leak")
    assert result.exit_code == 0
    assert "The other set holds these frames, too" in result.output


def test_labels_of_other_names_survive(frames):
    for frame in frames:
        frame.info["energy"] = frame.info.pop("REF_energy")
        frame.arrays["forces"] = frame.arrays.pop("REF_forces")
        frame.info["virial"] = frame.info.pop("REF_stress")[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)
    write("raw.xyz", frames)
    assert invoke("raw.xyz", "--out", "parts", "--by", "frame").exit_code == 0
    read = [frame for name in FILES for frame in frames_of_extxyz(Path("parts") / name)]
    assert len(read) == 40
    expected = sorted(frame.info["energy"] for frame in frames)
    assert sorted(frame.calc.results["energy"] for frame in read) == pytest.approx(expected, abs=1e-8)
    assert all("forces" in frame.calc.results for frame in read)
    assert "virial=" in Path("parts/train.xyz").read_text(encoding="utf-8")


def test_a_source_in_the_folder_is_never_overwritten(frames):
    Path("parts").mkdir()
    write_exact(frames, Path("parts/train.xyz"))
    error = refusal("parts/train.xyz", "--out", "parts", "--overwrite")
    assert "A source lies in parts" in str(error)
    assert len(energies("parts/train.xyz")) == 40


def test_what_is_refused():
    assert isinstance(refusal("all.xyz", "--out", "all.xyz"), DataError)
    assert 'cannot be divided by "group"' in str(refusal("all.xyz", "--out", "parts", "--by", "group"))
    Path("parts").mkdir()
    Path("parts/valid.xyz").touch()
    assert "valid.xyz exists" in str(refusal("all.xyz", "--out", "parts"))
    assert invoke("all.xyz", "--out", "parts", "--overwrite").exit_code == 0
