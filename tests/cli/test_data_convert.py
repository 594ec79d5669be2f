"""``mfb data convert``: options, summary, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.build import bulk
from typer.testing import CliRunner

from mace_ft_bench.cli.main import app
from mace_ft_bench.datasets.readers.extxyz import frames_of_extxyz
from mace_ft_bench.errors import CardError, DataError, MaceFtBenchError

BLOCK = """begin
lattice 6 0 0
lattice 0 6 0
lattice 0 0 6
atom 0 0 0 Mo 0.5 0 0.1 0.2 0.3
energy -1.5
charge 0.5
end
"""
XYZ = 'Lattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3:forces:R:3 energy={} stress="{}" pbc="T T T"\n'
STRESS = "1 0 0 0 2 0 0 0 3"
ATOMIC = ["--energy-unit", "hartree", "--length-unit", "bohr"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "input.data").write_text(2 * BLOCK)
    (tmp_path / "frames.xyz").write_text(f"1\n{XYZ.format(-1.25, STRESS)}Mo 0 0 0 0.1 0 0\n")
    return tmp_path


def invoke(*arguments):
    return CliRunner().invoke(app, ["data", "convert", *map(str, arguments)], env={"COLUMNS": "200"})


def refusal(*arguments):
    result = invoke(*arguments)
    assert isinstance(result.exception, MaceFtBenchError), (result.exception, result.output)
    return result.exception


def test_a_format_that_is_certain_needs_no_flag(here):
    result = invoke("run", *ATOMIC, "--out", "out.xyz")
    assert result.exit_code == 0, result.output
    assert "2 frames, 2 atoms (n2p2): out.xyz" in result.output
    assert "REF_energy 2/2, REF_forces 2/2, REF_stress 0/2" in result.output
    assert "energy [eV/atom]: -40.8171 to -40.8171" in result.output
    assert "pressure [GPa]: none" in result.output
    first, _ = frames_of_extxyz(here / "out.xyz")
    assert first.info["config_type"] == "run"
    assert first.arrays["REF_charges"].tolist() == [0.5]
    assert first.info["REF_total_charge"] == 0.5


def test_a_stress_in_a_named_convention_and_a_summary_in_json(here):
    arguments = ["--energy-key", "energy", "--forces-key", "forces", "--config-type", "a [bold]group"]
    stress = ["--stress-key", "stress", "--stress-unit", "GPa", "--stress-sign", "compression"]
    result = invoke("frames.xyz", "frames.xyz", "--format", "extxyz", *arguments, *stress, "--out", "out.xyz", "--json")
    report = json.loads(result.output)
    assert report["frames"] == 2
    assert report["groups"] == {"a [bold]group": 2}
    assert report["labels"] == {"REF_energy": 2, "REF_forces": 2, "REF_stress": 2}
    assert report["energy_ev_per_atom"] == [-1.25, -1.25]
    assert report["force_rms_ev_per_a"] == pytest.approx(0.1 / np.sqrt(3))
    assert report["pressure_gpa"] == pytest.approx([2.0, 2.0])
    (first, _) = frames_of_extxyz(here / "out.xyz")
    assert first.info["REF_stress"][:3] == pytest.approx(np.array([-1, -2, -3]) / 160.21766, rel=1e-6)
    assert "a [bold]group" in invoke("frames.xyz", "--format", "extxyz", *arguments, *stress, "--out", "b.xyz").output


def test_six_components_and_several_words(here):
    (here / "frames.xyz").write_text(f"1\n{XYZ.format(-1.25, '1 2 3 4 5 6')}Mo 0 0 0 0.1 0 0\n")
    stress = ["--stress-key", "stress", "--stress-unit", "eV/A^3", "--stress-sign", "tension"]
    keys = ["--energy-key", "energy", "--forces-key", "forces", "--config-type", "a"]
    order = ["--stress-order", "xx yy zz xy yz xz"]
    result = invoke("frames.xyz", "--format", "extxyz", *keys, *stress, *order, "--out", "out.xyz")
    assert result.exit_code == 0, result.output
    (frame,) = frames_of_extxyz(here / "out.xyz")
    assert frame.info["REF_stress"].tolist() == [1, 2, 3, 5, 6, 4]


def test_what_is_not_named_is_refused_before_anything_is_written(here):
    keys = ["--energy-key", "energy", "--forces-key", "forces", "--config-type", "a"]
    for arguments, kind, match in [
        (["frames.xyz"], CardError, "look like extxyz"),
        (["frames.xyz", "--format", "extxyz"], CardError, "needs --energy-key, --forces-key, --config-type-key"),
        (["frames.xyz", "--format", "extxyz", *keys], DataError, "convention is not named"),
        (["run"], CardError, "needs --energy-unit, --length-unit"),
        (["run", *ATOMIC, "--stress-unit", "GPa"], CardError, "takes no --stress-unit"),
        (["run", "frames.xyz", *ATOMIC], CardError, "look like extxyz or n2p2"),
        (["frames.xyz", "--format", "extxz"], CardError, 'did you mean "extxyz"'),
    ]:
        error = refusal(*arguments, "--out", "out.xyz")
        assert isinstance(error, kind)
        assert match in str(error)
    assert not (here / "out.xyz").exists()
    result = invoke("frames.xyz", "--format", "extxyz", *keys, "--ignore-stress", "--out", "out.xyz")
    assert result.exit_code == 0, result.output


def test_an_existing_file_is_kept_unless_overwrite_is_given(here):
    (here / "out.xyz").write_text("mine")
    assert "out.xyz exists" in str(refusal("run", *ATOMIC, "--out", "out.xyz"))
    assert (here / "out.xyz").read_text() == "mine"
    assert invoke("run", *ATOMIC, "--out", "out.xyz", "--overwrite").exit_code == 0
    assert len(frames_of_extxyz(here / "out.xyz")) == 2


def test_a_source_is_never_overwritten(here):
    keys = ["--format", "extxyz", "--energy-key", "energy", "--forces-key", "none", "--config-type", "a"]
    before = (here / "frames.xyz").read_bytes()
    error = refusal("frames.xyz", *keys, "--ignore-stress", "--out", "frames.xyz", "--overwrite")
    assert "frames.xyz is a source" in str(error)
    assert (here / "frames.xyz").read_bytes() == before


def test_frames_without_a_label_are_written_on_request(here):
    text = (here / "frames.xyz").read_text()
    (here / "frames.xyz").write_text(text + text.replace("energy=-1.25", ""))
    keys = ["--format", "extxyz", "--energy-key", "energy", "--forces-key", "forces", "--config-type", "a"]
    arguments = ["frames.xyz", *keys, "--ignore-stress", "--out", "out.xyz"]
    assert 'frame 1 has no label "energy"' in str(refusal(*arguments))
    result = invoke(*arguments, "--allow-missing")
    assert "REF_energy 1/2" in result.output


def test_deepmd_elements_are_words(here):
    atoms = bulk("Mo", cubic=True)
    system = here / "system"
    (system / "set.000").mkdir(parents=True)
    (system / "type.raw").write_text("0 1")
    for name, array in {"coord": atoms.positions, "box": atoms.cell.array, "energy": [1.0]}.items():
        np.save(system / "set.000" / name, np.array(array).reshape(1, -1))
    result = invoke("system", "--type-map", "Nb Mo", "--out", "out.xyz")
    assert result.exit_code == 0, result.output
    assert "force rms [eV/Å]: none" in result.output
    (frame,) = frames_of_extxyz(here / "out.xyz")
    assert frame.get_chemical_symbols() == ["Nb", "Mo"]
