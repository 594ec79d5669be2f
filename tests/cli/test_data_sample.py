"""``mfb data sample``: what it writes, prints and refuses, and going on after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write
from typer.testing import CliRunner

from mace_ft_bench.cli.data import sample as command
from mace_ft_bench.cli.main import app
from mace_ft_bench.datasets import sample as sampler
from mace_ft_bench.datasets.sample_settings import SampleSettings
from mace_ft_bench.errors import CardError, DataError, MaceFtBenchError, StructureError, UnknownNameError

SHORT = ["--temperature", 300, "--steps", 40, "--equilibration", 10, "--model", "emt"]


def invoke(*arguments):
    return CliRunner().invoke(app, ["data", "sample", *map(str, arguments)], env={"COLUMNS": "200"})


def output(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def refusal(*arguments):
    result = invoke(*arguments)
    assert isinstance(result.exception, MaceFtBenchError), (result.exception, result.output)
    return result.exception


@pytest.fixture(autouse=True)
def copper(tmp_path, monkeypatch):
    """Write copper, and answer every model's name with EMT."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "_calculator", lambda *_: EMT())
    write("cu.cif", bulk("Cu", cubic=True))


def test_frames_of_two_temperatures():
    shown = output("cu.cif", "--out", "out.xyz", *SHORT, "--temperature", 500, "--spacing", 10)
    assert "8 frames: out.xyz" in shown
    assert shown.count("short: frames may be") == 2
    frames = read("out.xyz", ":")
    assert [frame.info["config_type"] for frame in frames] == ["nvt-300K"] * 4 + ["nvt-500K"] * 4
    assert {frame.info["sample_model"] for frame in frames} == {"emt"}
    assert [frame.info["sample_step"] for frame in frames] == [20, 30, 40, 50, 70, 80, 90, 100]
    assert sorted(path.name for path in Path().iterdir()) == ["cu.cif", "out.xyz"]


def test_every_option_reaches_the_settings(monkeypatch):
    seen = []
    monkeypatch.setattr(command, "_run", lambda *given: seen.append(given) or sampler.Sampling((), (), "seen"))
    monkeypatch.setattr(command, "_write", lambda *_: None)
    options = {
        "--ensemble": "npt",
        "--steps": 70,
        "--equilibration": 20,
        "--count": 3,
        "--spacing": 7,
        "--timestep": 2.5,
        "--friction": 0.02,
        "--pressure": 1.5,
        "--min-distance": "Cu-Cu=1.9",
        "--seed": 6,
        "--config-type": "hot",
        "--checkpoint-every": 9,
        "--model": "emt",
        "--out": "out.xyz",
    }
    listed = [part for pair in options.items() for part in pair]
    assert invoke("cu.cif", "--temperature", 300, "--temperature", 900, "--ramp", *listed).exit_code == 1
    assert seen[0][2] == SampleSettings(
        ensemble="npt", temperatures_k=(300.0, 900.0), ramp=True, equilibration=20, production=70, frames=3, spacing=7,
        timestep_fs=2.5, friction_per_fs=0.02, pressure_gpa=1.5, min_distances={"Cu-Cu": 1.9}, seed=6,
        checkpoint_every=9, config_type="hot",
    )  # fmt: skip


def test_npt_changes_the_cell_and_json_holds_the_statistics():
    report = json.loads(output("cu.cif", "--out", "out.xyz", *SHORT, "--ensemble", "npt", "--spacing", 20, "--json"))
    assert report["frames"] == 2
    assert report["stopped"] == ""
    (stage,) = report["stages"]
    assert stage["spacing"] == 20
    assert stage["acceptance"] is None
    assert stage["kinetic_temperature_k"] > 0
    volumes = [frame.get_volume() for frame in read("out.xyz", ":")]
    assert abs(volumes[0] - volumes[1]) > 1e-6


def test_a_temperature_off_target_is_said():
    long = ["--timestep", 20, "--friction", 0.2, "--steps", 400, "--equilibration", 100, "--temperature", 300]
    assert "temperature off target: shorten the timestep" in output(
        "cu.cif", "--out", "out.xyz", "--model", "emt", *long
    )


def test_swaps_keep_the_lattice():
    alloy = bulk("Cu", cubic=True) * (2, 1, 1)
    alloy.numbers[:3] = 79
    write("alloy.cif", alloy)
    output("alloy.cif", "--out", "out.xyz", *SHORT, "--ensemble", "swap", "--spacing", 20)
    for frame in read("out.xyz", ":"):
        assert (frame.numbers == 79).sum() == 3
        np.testing.assert_allclose(
            np.sort(frame.get_scaled_positions() % 0.999999, axis=0), np.sort(alloy.get_scaled_positions(), axis=0),
            atol=1e-5,
        )  # fmt: skip


def test_a_killed_run_goes_on(monkeypatch):
    options = ["cu.cif", *SHORT, "--spacing", 10, "--checkpoint-every", 15]
    output(*options, "--out", "whole.xyz")
    advance, steps = sampler._Run.advance, []

    def counted(self):
        steps.append(self.total)
        if len(steps) == 37:
            raise KeyboardInterrupt
        advance(self)

    monkeypatch.setattr(sampler._Run, "advance", counted)
    assert invoke(*options, "--out", "out.xyz").exit_code != 0
    assert not Path("out.xyz").exists()
    assert Path("out.xyz.checkpoint.npz").exists()
    output(*options, "--out", "out.xyz")
    assert steps[37] == 30
    assert not Path("out.xyz.checkpoint.npz").exists()
    for one, other in zip(read("out.xyz", ":"), read("whole.xyz", ":"), strict=True):
        np.testing.assert_allclose(one.positions, other.positions, atol=1e-6)
        assert one.info["sample_step"] == other.info["sample_step"]


def test_the_checkpoint_of_another_run_is_refused(monkeypatch):
    def kill(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sampler._Run, "result", kill)
        assert invoke("cu.cif", "--out", "out.xyz", *SHORT).exit_code != 0
    error = refusal("cu.cif", "--out", "out.xyz", *SHORT, "--seed", 1)
    assert "out.xyz.checkpoint.npz is the checkpoint of another structure or other settings" in str(error)


class Exploding(EMT):
    """EMT whose energy is not a number from call number ``last`` on."""

    last = 45
    calls = 0

    def calculate(self, *given, **named):
        super().calculate(*given, **named)
        self.calls += 1
        if self.calls > self.last:
            self.results["energy"] = np.nan


def test_an_explosion_is_said_and_keeps_what_came_before(monkeypatch):
    monkeypatch.setattr(command, "_calculator", lambda *_: Exploding())
    result = invoke("cu.cif", "--out", "out.xyz", *SHORT, "--spacing", 10)
    assert result.exit_code == 1
    assert "Stopped: step 45, 300 K: the energy is not finite. What came before is kept." in result.output
    assert [frame.info["sample_step"] for frame in read("out.xyz", ":")] == [20, 30, 40]
    monkeypatch.setattr(Exploding, "last", 5)
    error = refusal("cu.cif", "--out", "none.xyz", *SHORT)
    assert isinstance(error, StructureError)
    assert "ended before the first frame: step 5, 300 K: the energy is not finite. To fix: lower" in str(error)
    assert not list(Path().glob("none.xyz*"))


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (["--temperature", "nan"], CardError, "A temperature of nan K makes no sense"),
        (["--temperature", "-5"], CardError, "A temperature of -5.0 K makes no sense"),
        (["--ramp"], CardError, "A list of 1 temperatures makes no sense. To fix: it has to be 2 or more"),
        (["--ensemble", "nvtt"], UnknownNameError, 'did you mean "nvt"'),
        (["--ensemble", "swap"], CardError, "no unlike atoms to swap"),
        (["--steps", "3"], CardError, "A production of 3 steps makes no sense"),
        (["--min-distance", "Cu-Cu"], CardError, '"Cu-Cu" is no minimum distance'),
        (["--min-distance", "Cu-Cu=2.6"], StructureError, "Cu-Cu may not come closer than 2.6 Å"),
        (["--out", "cu.cif"], DataError, "cu.cif would hold extended XYZ"),
    ],
)
def test_wrong_options_are_refused_and_write_nothing(options, kind, message):
    error = refusal("cu.cif", "--out", "out.xyz", *SHORT, *options) if "--temperature" not in options else refusal(
        "cu.cif", "--out", "out.xyz", "--model", "emt", *options
    )  # fmt: skip
    assert isinstance(error, kind)
    assert message in str(error)
    assert [path.name for path in Path().iterdir()] == ["cu.cif"]


def test_an_existing_file_several_structures_and_an_empty_file_are_refused():
    Path("out.xyz").write_text("mine")
    assert "out.xyz exists" in str(refusal("cu.cif", "--out", "out.xyz", *SHORT))
    write("two.xyz", [bulk("Cu"), bulk("Cu")])
    assert "two.xyz holds 2 structures" in str(refusal("two.xyz", "--out", "new.xyz", *SHORT))
    Path("empty.xyz").touch()
    assert "empty.xyz is empty" in str(refusal("empty.xyz", "--out", "new.xyz", *SHORT))


def test_an_unknown_model_is_refused_and_a_known_one_runs(monkeypatch, tiny_file):
    monkeypatch.undo()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tiny_file.parent)
        write("mo.cif", bulk("Mo", cubic=True))
        short = ["--temperature", 300, "--steps", 10, "--equilibration", 0, "--out", "out.xyz", "--overwrite"]
        assert 'did you mean "mo-ft"' in str(refusal("mo.cif", "--model", "mo-fd", *short))
        output("mo.cif", "--model", tiny_file, *short)
        assert len(read("out.xyz", ":")) == 1
