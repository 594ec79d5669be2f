"""``mfb data lint``: exit codes, the table, JSON, and repairs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write
from typer.testing import CliRunner

from mace_ft_bench.cli.main import app
from mace_ft_bench.datasets import fetch as fetcher
from mace_ft_bench.datasets.exact_extxyz import write_exact
from mace_ft_bench.datasets.frames import labelled
from mace_ft_bench.datasets.readers.extxyz import frames_of_extxyz
from mace_ft_bench.errors import DataError, MaceFtBenchError, UnknownNameError


def copper(seed):
    atoms = bulk("Cu", a=3.6, cubic=True)
    atoms.rattle(0.05, seed=seed)
    atoms.calc = EMT()
    return labelled(
        atoms,
        energy=atoms.get_potential_energy(),
        forces=atoms.get_forces(),
        stress=atoms.get_stress(),
        config_type="rattled",
    )


def invoke(*arguments):
    return CliRunner().invoke(app, ["data", "lint", *map(str, arguments)], env={"COLUMNS": "200"})


def refusal(*arguments):
    result = invoke(*arguments)
    assert isinstance(result.exception, MaceFtBenchError), (result.exception, result.output)
    return result.exception


@pytest.fixture(autouse=True)
def frames(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(fetcher.MIRROR_VARIABLE, raising=False)
    made = [copper(seed) for seed in range(12)]
    write_exact(made, Path("good.xyz"))
    return made


def test_clean_frames_exit_with_zero():
    result = invoke("good.xyz", "--strict")
    assert result.exit_code == 0, result.output
    assert "12 frames; errors: 0, warnings: 0" in result.output


def test_warnings_count_when_strict_and_errors_always(frames):
    write_exact([*frames, frames[3]], Path("twice.xyz"))
    assert invoke("twice.xyz").exit_code == 0
    result = invoke("twice.xyz", "--strict")
    assert result.exit_code == 1
    assert "duplicates" in result.output
    assert "1: 12" in result.output
    frames[2].info["REF_energy"] = np.nan
    write_exact(frames, Path("nan.xyz"))
    result = invoke("nan.xyz", "--json")
    assert result.exit_code == 2
    report = json.loads(result.stdout)
    assert [(found["check"], found["severity"], found["names"]) for found in report["findings"]] == [
        ("not-finite", "error", ["2"])
    ]
    assert report["frames"] == 12


def test_the_other_set_is_compared(frames):
    write_exact(frames[:4], Path("test.xyz"))
    result = invoke("good.xyz", "--against", "test.xyz", "--json")
    assert result.exit_code == 2
    leak = next(found for found in json.loads(result.stdout)["findings"] if found["check"] == "leak")
    assert leak["frames"] == [0, 1, 2, 3]


def test_several_sources_are_one_set_with_names(frames):
    write_exact(frames[:1], Path("again.xyz"))
    report = json.loads(invoke("good.xyz", "again.xyz", "--json").stdout)
    assert report["findings"][0]["names"] == ["again.xyz:0"]


def test_safe_repairs_are_written_and_told(frames):
    foreign = []
    for frame in [*frames, frames[3]]:
        copy = frame.copy()
        copy.info["dft_energy"] = copy.info.pop("REF_energy")
        copy.arrays["dft_force"] = copy.arrays.pop("REF_forces")
        copy.info["virial"] = np.diag(copy.info.pop("REF_stress")[:3])
        foreign.append(copy)
    foreign[5].info["dft_energy"] = np.nan
    foreign[6].arrays["dft_force"][:] = 0
    write_exact(foreign, Path("raw.xyz"))
    before = Path("raw.xyz").read_bytes()
    result = invoke("raw.xyz", "--fix", "--out", "fixed.xyz")
    assert Path("raw.xyz").read_bytes() == before
    assert "dropped: it holds NaN or infinity: 1 (5)" in result.output
    assert "dropped: it repeats an earlier frame exactly: 1 (12)" in result.output
    assert "dft_energy renamed to REF_energy: 11 (0, 1, 2, 3, 4 and 6 more)" in result.output
    assert "REF_forces removed: all zero: 1 (6)" in result.output
    assert "11 of 13 frames written to fixed.xyz" in result.output
    assert "virial stays as it is" in result.output
    fixed = frames_of_extxyz(Path("fixed.xyz"))
    kept = [frame for index, frame in enumerate(frames) if index != 5]
    assert [frame.info["REF_energy"] for frame in fixed] == [frame.info["REF_energy"] for frame in kept]
    assert ["REF_forces" in frame.arrays for frame in fixed] == [index != 5 for index in range(11)]
    np.testing.assert_array_equal(fixed[0].arrays["REF_forces"], kept[0].arrays["REF_forces"])
    np.testing.assert_array_equal(fixed[0].positions, kept[0].positions)
    assert {"dft_energy", "dft_force"}.isdisjoint({*fixed[0].info, *fixed[0].arrays})
    assert "virial" in Path("fixed.xyz").read_text(encoding="utf-8")
    again = json.loads(invoke("fixed.xyz", "--json").stdout)
    assert {found["check"] for found in again["findings"] if found["severity"] == "error"} == set()


def test_a_repair_leaves_labels_of_a_wrong_shape_alone(frames):
    for frame in frames:
        frame.info["dft_energy"] = frame.info.pop("REF_energy")
    frames[3].info["dft_energy"] = np.array([1.0, 2.0, 3.0])
    write_exact(frames, Path("raw.xyz"))
    result = invoke("raw.xyz", "--fix", "--out", "fixed.xyz")
    assert result.exit_code == 2, result.exception
    assert "wrong-shape" in result.output
    fixed = frames_of_extxyz(Path("fixed.xyz"))
    assert ["REF_energy" in frame.info for frame in fixed] == [index != 3 for index in range(12)]


def test_what_belongs_to_a_frame_stays_with_it_and_fixed_atoms_stay_fixed():
    water = molecule("H2O", vacuum=3.0, pbc=True)
    water.set_constraint(FixAtoms([1]))
    water.calc = SinglePointCalculator(
        water, energy=-1.0, forces=np.full((3, 3), 0.1), dipole=np.array([0.1, 0.2, 0.3]), charges=np.arange(3.0)
    )
    write("water.xyz", water, format="extxyz", columns=["symbols", "positions", "move_mask"])
    assert invoke("water.xyz", "--fix", "--out", "fixed.xyz").exit_code < 2
    (fixed,) = frames_of_extxyz(Path("fixed.xyz"))
    assert "dipole" not in fixed.arrays
    assert fixed.constraints[0].index.tolist() == [1]
    text = Path("fixed.xyz").read_text(encoding="utf-8")
    assert 'dipole="0.1 0.2 0.3"' in text


def test_a_source_is_never_overwritten():
    before = Path("good.xyz").read_bytes()
    assert "is a source" in str(refusal("good.xyz", "--fix", "--out", "good.xyz", "--overwrite"))
    assert Path("good.xyz").read_bytes() == before


def test_labels_that_ase_swallows_are_brought_back(frames):
    for frame in frames:
        frame.info["energy"] = frame.info.pop("REF_energy")
        frame.arrays["forces"] = frame.arrays.pop("REF_forces")
    write("raw.xyz", frames)
    assert invoke("raw.xyz", "--fix", "--out", "fixed.xyz").exit_code == 0
    fixed = frames_of_extxyz(Path("fixed.xyz"))
    assert fixed[1].info["REF_energy"] == pytest.approx(frames[1].info["energy"], abs=1e-8)
    assert fixed[1].calc is None
    assert fixed[1].arrays["REF_forces"] == pytest.approx(frames[1].arrays["forces"], abs=1e-7)


def test_names_that_change_are_not_guessed(frames):
    for index, frame in enumerate(frames):
        frame.info["dft_energy" if index % 2 else "qm_energy"] = frame.info.pop("REF_energy")
    write_exact(frames, Path("raw.xyz"))
    result = invoke("raw.xyz", "--fix", "--out", "fixed.xyz", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["changes"] == {}
    assert all("REF_energy" not in frame.info for frame in frames_of_extxyz(Path("fixed.xyz")))


def test_what_is_refused(frames):
    assert "belong together" in str(refusal("good.xyz", "--fix"))
    assert "belong together" in str(refusal("good.xyz", "--out", "fixed.xyz"))
    write_exact(frames, Path("fixed.xyz"))
    assert "exists" in str(refusal("good.xyz", "--fix", "--out", "fixed.xyz"))
    assert "does not exist" in str(refusal("other.xyz"))
    Path("frames.db").touch()
    other = refusal("frames.db")
    assert isinstance(other, DataError)
    assert "no extended XYZ" in str(other)
    unknown = refusal("mlearn-mu")
    assert isinstance(unknown, UnknownNameError)
    assert 'did you mean "mlearn-mo"' in str(unknown)
    assert 'no split "tset"' in str(refusal("mlearn-mo:tset"))
