"""``mace_ft_bench.labelling``: frames in, labelled frames out, whatever happens to the processes."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write

from mace_ft_bench.errors import CardError, DataError, LabelError, MissingDependencyError
from mace_ft_bench.labelling import run
from mace_ft_bench.labelling.converge import converge
from mace_ft_bench.labelling.folder import LabelFolder
from mace_ft_bench.labelling.labeller import Labeller
from mace_ft_bench.labelling.settings import GroupSettings, LabelSettings, load_settings
from mace_ft_bench.zoo.registry import find_model

SETTINGS = LabelSettings("copper", "emt", "EMT")


def copper(number=3, atoms=2):
    frames = []
    for seed in range(number):
        frame = bulk("Cu").repeat((atoms, 1, 1))
        frame.rattle(0.1, seed=seed)
        frame.info.update(config_type=f"group-{seed % 2}", sample_seed=seed)
        frames.append(frame)
    return frames


def test_labels_are_those_of_the_calculator_and_keep_what_frames_said(tmp_path):
    frames = copper()
    frames[2].calc = EMT()
    frames[2].get_forces()
    found = run.label(frames, SETTINGS, tmp_path / "out")
    assert (found.labelled, found.failures, found.elsewhere) == (3, [], 0)
    for frame, given in zip(read(found.path, ":"), frames, strict=True):
        given.calc = EMT()
        assert frame.info["REF_energy"] == pytest.approx(given.get_potential_energy(), abs=1e-12)
        np.testing.assert_allclose(frame.arrays["REF_forces"], given.get_forces(), atol=1e-12)
        np.testing.assert_allclose(frame.info["REF_stress"], given.get_stress(), atol=1e-14)
        assert frame.info["config_type"] == given.info["config_type"]
        assert frame.info["sample_seed"] == given.info["sample_seed"]
        assert frame.info["label_code"].startswith("emt (ase ")
        assert frame.info["label_settings"] == SETTINGS.digest[:12]


def test_the_label_is_the_free_energy_whose_derivative_forces_are():
    class Smeared(EMT):
        def calculate(self, *arguments, **keywords):
            super().calculate(*arguments, **keywords)
            self.results["free_energy"] = self.results["energy"] - 0.25

    class WithSmearing(Labeller):
        def _calculator(self, _group):
            return Smeared()

    frame = WithSmearing(SETTINGS, "x").label(copper()[0])
    assert frame.info["label_energy_zero_width"] - frame.info["REF_energy"] == pytest.approx(0.25)


def test_no_stress_without_a_period_or_where_the_settings_say_so(tmp_path):
    frames = copper(4)
    frames[0].pbc = [True, True, False]
    settings = replace(SETTINGS, groups=(GroupSettings(("group-1",), stress=False),))
    labelled = read(run.label(frames, settings, tmp_path / "out", processes=2).path, ":")
    assert ["REF_stress" in frame.info for frame in labelled] == [False, False, True, False]


def test_a_frame_that_fails_is_a_failure_with_its_reason_and_the_others_go_on(tmp_path):
    frames = copper()
    frames[1].numbers[0] = 42
    found = run.label(frames, SETTINGS, tmp_path / "out")
    assert found.labelled == 2
    (failure,) = found.failures
    assert failure.index == 1
    assert "NotImplementedError: No EMT-potential for Mo" in failure.reason
    assert [len(frame) for frame in read(found.path, ":")] == [2, 2]
    again = run.label(frames, SETTINGS, tmp_path / "out")
    assert again.failures == found.failures


DYING = """
import atexit, os, pathlib, signal, subprocess, sys
from mace_ft_bench.labelling.labeller import Labeller

class Dying(Labeller):
    def label(self, atoms):
        if atoms.info["sample_seed"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().label(atoms)

class Unreceivable(Labeller):
    def __setstate__(self, _state):
        sys.exit(7)

class DyingAtTheEnd(Labeller):
    def label(self, atoms):
        if atoms.info["sample_seed"] == 2:
            atexit.register(os._exit, 3)
        return super().label(atoms)

class Waiting(Labeller):
    def label(self, atoms):
        program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        pathlib.Path("program.pid").write_text(str(program.pid))
        if atoms.info["sample_seed"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        program.wait()
"""


@pytest.fixture
def dying(tmp_path, monkeypatch):
    """Labellers whose process is killed by the second frame, or cannot receive them; importable by new processes."""
    (tmp_path / "dying_labellers.py").write_text(DYING)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("dying_labellers")
    del sys.modules["dying_labellers"]


def test_a_process_that_dies_costs_its_frame_only_and_retry_labels_it(tmp_path, monkeypatch, dying):
    monkeypatch.setattr(run.Labeller, "of", lambda settings: dying.Dying(settings, "emt"))
    found = run.label(copper(), SETTINGS, tmp_path / "out")
    assert found.labelled == 2
    assert [(one.index, one.reason) for one in found.failures] == [(1, "the process ended with signal SIGKILL")]
    monkeypatch.setattr(run.Labeller, "of", lambda settings: Labeller(settings, "emt"))
    assert run.label(copper(), SETTINGS, tmp_path / "out").labelled == 2
    again = run.label(copper(), SETTINGS, tmp_path / "out", retry=True)
    assert (again.labelled, again.failures) == (3, [])


def test_a_frame_that_failed_is_not_blamed_for_one_that_kills_the_process_later(tmp_path, monkeypatch, dying):
    monkeypatch.setattr(run.Labeller, "of", lambda settings: dying.Dying(settings, "emt"))
    frames = copper()
    frames[0].numbers[0] = 42
    found = run.label(frames, SETTINGS, tmp_path / "out")
    assert [one.index for one in found.failures] == [0, 1]
    assert found.failures[0].reason.startswith("NotImplementedError: No EMT-potential")
    assert found.failures[1].reason == "the process ended with signal SIGKILL"


def test_a_process_that_dies_when_all_is_done_costs_nothing(tmp_path, monkeypatch, dying):
    monkeypatch.setattr(run.Labeller, "of", lambda settings: dying.DyingAtTheEnd(settings, "emt"))
    found = run.label(copper(), SETTINGS, tmp_path / "out")
    assert (found.labelled, found.failures) == (3, [])
    assert len(read(found.path, ":")) == 3


def is_running(pid):
    status = Path(f"/proc/{pid}/status")
    return status.is_file() and "zombie" not in status.read_text()


def wait_until(condition):
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come about")


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads what runs from Linux's /proc")
def test_programs_end_with_the_process_that_started_them(tmp_path, monkeypatch, dying):
    monkeypatch.setattr(run.Labeller, "of", lambda settings: dying.Waiting(settings, "emt"))
    (killed,) = run.label(copper()[1:2], SETTINGS, tmp_path / "killed").failures
    assert "SIGKILL" in killed.reason
    pid = (tmp_path / "killed/outputs/0000/program.pid").read_text()
    wait_until(lambda: not is_running(pid))
    written = tmp_path / "ended/outputs/0000/program.pid"

    def interrupt(_done, _failed):
        if written.is_file() and written.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.label(copper(1), SETTINGS, tmp_path / "ended", on_progress=interrupt)
    wait_until(lambda: not is_running(written.read_text()))


def test_another_structure_in_the_place_of_a_failed_one_is_tried(tmp_path):
    frames = copper()
    frames[1].numbers[0] = 42
    assert run.label(frames, SETTINGS, tmp_path / "out").labelled == 2
    frames[1].numbers[0] = 29
    again = run.label(frames, SETTINGS, tmp_path / "out")
    assert (again.labelled, again.failures) == (3, [])


def test_processes_that_cannot_start_are_an_error_and_not_a_loop(tmp_path, monkeypatch, dying):
    monkeypatch.setattr(run.Labeller, "of", lambda settings: dying.Unreceivable(settings, "emt"))
    with pytest.raises(LabelError, match="exit code 7 before it labelled"):
        run.label(copper(), SETTINGS, tmp_path / "out")


def test_frames_that_are_done_are_not_done_again_and_new_ones_may_follow(tmp_path):
    run.label(copper(2), SETTINGS, tmp_path / "out")
    first = (tmp_path / "out/frames/0000.xyz").stat().st_mtime_ns
    assert run.label(copper(4), SETTINGS, tmp_path / "out", processes=2).labelled == 4
    assert (tmp_path / "out/frames/0000.xyz").stat().st_mtime_ns == first


def test_a_folder_of_other_settings_another_program_or_other_frames_is_refused(tmp_path):
    run.label(copper(), SETTINGS, tmp_path / "out")
    with pytest.raises(DataError, match=r"other settings \(arguments: \{\} there, \{'asap_cutoff': True\} here\)"):
        run.label(copper(), replace(SETTINGS, arguments={"asap_cutoff": True}), tmp_path / "out")
    with pytest.raises(DataError, match=r"labelled by emt \(ase .*\), this is gpaw 1"):
        LabelFolder(tmp_path / "out").claim(copper(), Labeller(SETTINGS, "gpaw 1"))
    with pytest.raises(DataError, match="Frame 0 in .* is another structure"):
        run.label(copper()[1:], SETTINGS, tmp_path / "out")
    renamed = replace(SETTINGS, name="other", level_of_theory="better said")
    assert run.label(copper(), renamed, tmp_path / "out").labelled == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.arrays.update(REF_forces=np.zeros((2, 3))), "Frame 1 has labels"),
        (lambda frame: frame.positions.fill(np.nan), "Frame 1 is empty, or has positions that are not finite"),
        (lambda frame: frame.__delitem__(slice(None)), "Frame 1 is empty"),
    ],
)
def test_unusable_frames_are_refused_before_any_work(tmp_path, change, message):
    frames = copper()
    change(frames[1])
    with pytest.raises(DataError, match=message):
        run.label(frames, SETTINGS, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="no frames"):
        run.label([], SETTINGS, tmp_path / "out")


def test_calculators_that_do_not_exist_or_are_not_installed_are_named():
    with pytest.raises(CardError, match='no calculator "gpwa"'):
        Labeller.of(replace(SETTINGS, calculator="gpwa"))
    with pytest.raises(MissingDependencyError, match='"asap" cannot be imported'):
        Labeller.of(replace(SETTINGS, calculator="asap"))


def test_a_model_of_ours_labels_and_one_of_other_weights_is_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy_of(find_model("mo-ft"), Path("mine.safetensors"))
    frame = bulk("Mo", cubic=True)
    frame.rattle(0.05, seed=1)
    settings = replace(SETTINGS, calculator="model:mine.safetensors")  # the process that labels works elsewhere
    found = run.label([frame], settings, tmp_path / "out")
    labelled = read(found.path)
    assert found.failures == []
    assert labelled.info["config_type"] == "unnamed"
    assert labelled.info["label_code"].startswith("model:mine.safetensors (mace")
    copy_of(find_model("si-ft"), Path("mine.safetensors"))
    with pytest.raises(DataError, match=r"labelled by model:mine.* weights .*, this is model:mine"):
        run.label([frame], settings, tmp_path / "out")


def copy_of(card, path):
    path.write_bytes(card.verified_path().read_bytes())


def test_killed_at_any_moment_and_run_again_no_frame_is_lost_or_repeated(tmp_path):
    write(tmp_path / "frames.xyz", copper(40, atoms=12), format="extxyz")
    (tmp_path / "emt.toml").write_text('name = "cu"\ncalculator = "emt"\nlevel_of_theory = "EMT"\n')
    command = [sys.executable, "-m", "mace_ft_bench.cli.main", "label", "frames.xyz", "--settings", "emt.toml"]
    command += ["--out", "out", "--processes", "2"]
    frames = tmp_path / "out/frames"
    times: dict[str, int] = {}
    for least in (1, 12):
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(frames.glob("[0-9]*.xyz"))) < least:
            time.sleep(0.002)
        process.kill()
        process.wait()
        found = {path.name: path.stat().st_mtime_ns for path in frames.glob("[0-9]*.xyz")}
        assert {name: found[name] for name in times} == times
        times = found
    again = subprocess.run([*command, "--json"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert json.loads(again.stdout)["labelled"] == 40
    assert {name: (frames / name).stat().st_mtime_ns for name in times} == times
    assert [frame.info["sample_seed"] for frame in read(tmp_path / "out/labelled.xyz", ":")] == list(range(40))


def test_settings_are_read_strictly_and_groups_change_arguments_key_by_key(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text("""
name = "s"
calculator = "gpaw"
level_of_theory = "PBE"
arguments = { mode = { name = "pw", ecut = 600 }, xc = "PBE" }

[[groups]]
config_types = ["atom"]
stress = false
arguments = { mode = { ecut = 800 }, hund = true }
""")
    settings = load_settings(path)
    assert settings.arguments_of("bulk") == {"mode": {"name": "pw", "ecut": 600}, "xc": "PBE"}
    assert settings.arguments_of("atom") == {"mode": {"name": "pw", "ecut": 800}, "xc": "PBE", "hund": True}
    assert (settings.has_stress("bulk"), settings.has_stress("atom")) == (True, False)
    varied = settings.with_argument("mode.ecut", 400)
    assert varied.arguments_of("bulk")["mode"] == {"name": "pw", "ecut": 400}
    assert varied.digest != settings.digest
    for key in ("mode.cutoff", "kpts", "xc.name"):
        with pytest.raises(CardError, match="none of the arguments"):
            settings.with_argument(key, 1)
    with pytest.raises(CardError, match="in two groups"):
        replace(settings, groups=settings.groups * 2)
    path.write_text('name = "s"\ncalculator = "emt"\nlevel = "EMT"\n')
    with pytest.raises(CardError, match='unknown key "level", did you mean "level_of_theory"'):
        load_settings(path)


def test_convergence_compares_with_the_last_value(tmp_path):
    settings = replace(SETTINGS, arguments={"asap_cutoff": False})
    frames = copper()
    (coarse,) = converge(frames, settings, "asap_cutoff", [True, False], tmp_path)
    energies, forces = [], []
    for frame in frames:
        values = []
        for cutoff in (True, False):
            frame.calc = EMT(asap_cutoff=cutoff)
            values.append((frame.get_potential_energy() / len(frame), frame.get_forces()))
        energies.append(values[0][0] - values[1][0])
        forces.append(values[0][1] - values[1][1])
    assert coarse.energy_mev_per_atom == pytest.approx(1000 * np.std(energies))
    assert coarse.force_mev_per_a == pytest.approx(1000 * np.sqrt(np.mean(np.square(forces))))
    assert coarse.force_mev_per_a > 0.1
    gold = [frame.copy() for frame in frames]
    for frame in gold:
        frame.numbers[:] = 79
        frame.set_cell(frame.cell * 1.13, scale_atoms=True)
    (both,) = converge([*frames, *gold], settings, "asap_cutoff", [True, False], tmp_path / "both")
    (alone,) = converge(gold, settings, "asap_cutoff", [True, False], tmp_path / "gold")
    of_each = np.sqrt((coarse.energy_mev_per_atom**2 + alone.energy_mev_per_atom**2) / 2)
    assert both.energy_mev_per_atom == pytest.approx(of_each)  # though the zeros of the two metals differ
    with pytest.raises(CardError, match="two or more"):
        converge(frames, settings, "asap_cutoff", [True], tmp_path)
    frames[0].numbers[0] = 42
    with pytest.raises(DataError, match="frames are missing: NotImplementedError"):
        converge(frames, settings, "asap_cutoff", [True, False], tmp_path / "other")
