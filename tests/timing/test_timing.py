"""The comparisons behind ``mfb timing`` and ``mfb doctor``: analysis with fabricated times, and small real runs."""

from __future__ import annotations

import numpy as np
import pytest

from mace_ft_bench.calculators import backends
from mace_ft_bench.errors import AccelerationError, MissingDependencyError
from mace_ft_bench.timing import dispersion, doctor, serving
from mace_ft_bench.timing.interleaved import Times, time_in_turns
from mace_ft_bench.timing.skin import SkinCheck, check_skin


def test_ways_take_turns():
    calls = []
    times = time_in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2, warmup=1)
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert {name: len(samples) for name, samples in times.samples.items()} == {"a": 2, "b": 2}
    assert all(sample >= 0 for samples in times.samples.values() for sample in samples)


def test_ratios_are_taken_round_by_round():
    times = Times({"slow": (2.0, 60.0, 9.0), "fast": (1.0, 20.0, 3.0)})
    assert times.ratio("slow", "fast") == 3.0
    assert times.ratio("fast", "slow") == pytest.approx(1 / 3)
    assert times.median("slow") == 9.0


def test_strained_cells():
    cells = serving.strained_cells(8)
    assert sorted({len(cell) for cell in cells}) == [2, 4, 8, 16]
    assert len({round(cell.get_volume() / len(cell), 6) for cell in cells}) == 8


def test_our_step_beside_mace():
    (found,) = serving.steps_beside_mace("mo-ft", "float64", sizes=(16,), rounds=1)
    assert found.atoms == 16
    assert 0 < found.force_difference < 1e-6
    assert set(found.times.samples) == {serving.OURS, serving.PEER}


def test_a_kept_list_gives_what_a_fresh_one_gives():
    found = check_skin("mo-ft", "NPT", atoms=16, steps=20)
    assert found.frames == 21
    assert 1 <= found.builds < found.frames
    assert found.energy_difference < 1e-9
    assert found.force_difference < 1e-8


def test_ratio_of_lists():
    assert SkinCheck("NVT", 2, 3, 1, 0.0, 0.0, kept_ms=2.0, fresh_ms=9.0).ratio == 4.5


def test_doctor_compares_every_accelerator():
    found = doctor.check_accelerators("mo-ft", repeat=1)
    on_cpu = {(check.name, check.dtype) for check in found if check.device == "cpu"}
    assert on_cpu == {(name, dtype) for name in backends.BUILDERS for dtype in ("float64", "float32")}
    assert {check.name for check in found if check.good} >= {"e3nn", "fused"}
    assert all(check.milliseconds > 0 for check in found if check.good)
    assert all("cannot be used" in check.verdict for check in found if not check.good)


def test_doctor_says_why_something_cannot_be_used(monkeypatch):
    def refuse(_model, _head):
        raise AccelerationError("the moon is full", fix="wait.")

    class Off:
        name = "cueq"

        def __init__(self, plain):
            self.plain = plain

        def evaluate(self, graph):
            output = self.plain.evaluate(graph)
            return backends.Output(
                output.energies + 1e-3 * np.arange(len(output.energies)), output.forces, output.virials
            )

    plain = backends.BUILDERS["e3nn"]
    monkeypatch.setitem(backends.BUILDERS, "fused", refuse)
    monkeypatch.setitem(backends.BUILDERS, "cueq", lambda model, head: Off(plain(model, head)))
    found = {check.name: check for check in doctor.check_accelerators("mo-ft", repeat=1) if check.dtype == "float64"}
    assert found["e3nn"].good
    assert (found["fused"].verdict, found["fused"].milliseconds) == ("the moon is full", None)
    assert found["cueq"].verdict.startswith("differs in energy per atom by 0.001")
    assert not found["cueq"].good

    class Breaking(Off):
        def evaluate(self, graph):
            raise RuntimeError(f"no kernel for {len(graph.sizes)} structures")

    monkeypatch.setitem(backends.BUILDERS, "cueq", lambda model, head: Breaking(plain(model, head)))
    (broken,) = (check for check in doctor.check_accelerators("mo-ft", repeat=1)[:3] if check.name == "cueq")
    assert (broken.good, broken.milliseconds) == (False, None)
    assert broken.verdict == "differs in raising RuntimeError('no kernel for 1 structures')"


def test_packages_and_devices():
    assert doctor.packages()["mace-torch"] == "0.3.16"
    assert doctor.devices()[0].startswith("cpu (")


def test_d3_step_beside_its_peers():
    pytest.importorskip("dftd3")
    (found,) = dispersion.steps_beside_peers(sizes=(32,), rounds=1)
    assert set(found.times.samples) == set(dispersion.CALCULATORS)
    assert 0 < found.force_difference < 1e-6


def test_missing_peer(monkeypatch):
    monkeypatch.setattr(dispersion, "find_spec", lambda _name: None)
    with pytest.raises(MissingDependencyError, match="pip install dftd3"):
        dispersion.steps_beside_peers(sizes=(32,), rounds=1)
