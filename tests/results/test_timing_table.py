"""The table of timed dynamics with copper and EMT: what is timed, stored, skipped, refused, and never dropped."""

from __future__ import annotations

import os
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from mace_ft_bench.errors import AccelerationError, StoreError, StructureError, UnsupportedElementError
from mace_ft_bench.results import machine, timing_table
from mace_ft_bench.results.model_spec import ModelSpec
from mace_ft_bench.results.store import RecordStore
from mace_ft_bench.results.timing_record import result_of, samples_of
from mace_ft_bench.timing.dynamics import Configuration, Protocol, peak_memory_mb
from mace_ft_bench.timing.steps import Thermostat

MODEL = ModelSpec("copper", "copper", "a" * 64)
PROTOCOL = Protocol(Thermostat(), steps=2)


class Exploding(EMT):
    """Fine at first."""

    calls = 0

    def calculate(self, *arguments, **options):
        super().calculate(*arguments, **options)
        self.calls += 1
        if self.calls > 4:
            self.results["forces"] = self.results["forces"] + 1e4


class Crashing(Exploding):
    def calculate(self, *arguments, **options):
        super().calculate(*arguments, **options)
        if self.calls > 4:
            raise MemoryError


def emt_or_not(configuration):
    if configuration.accelerate == "cueq":
        raise AccelerationError("no Wigner symbols", fix="use another.")
    if configuration.accelerate == "broken":
        raise RuntimeError("somebody else's bug")
    return {"exploding": Exploding, "crashing": Crashing}.get(configuration.accelerate, EMT)()


@pytest.fixture(autouse=True)
def emt(monkeypatch, tmp_path):
    monkeypatch.setenv("MFB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Configuration, "calculator", emt_or_not)
    monkeypatch.setattr(machine, "load_average", lambda: 0.25)
    ase.io.write(tmp_path / "cell.xyz", bulk("Cu", cubic=True))
    monkeypatch.chdir(tmp_path)


def plan(*accelerate, sizes=(4, 32), model=MODEL, protocol=PROTOCOL):
    grid = timing_table.Grid("cell.xyz", sizes, accelerate or ("fused",), ("off",), ("float64",), ("cpu",))
    return timing_table.plan(model, grid, protocol)


def run(tasks, repeats=2, **options):
    return timing_table.run_table(tasks, RecordStore(Path("out")), repeats=repeats, **options)


def test_every_configuration_is_timed_at_every_size():
    tasks = plan("fused", "e3nn", sizes=(32, 4))
    told = []
    records = run(tasks, on_record=lambda record, done, total: told.append((record.case, done, total)))
    found = [(result_of(record).atoms, result_of(record).accelerate, len(samples_of(record))) for record in records]
    assert found == [(4, "fused", 2), (4, "e3nn", 2), (32, "fused", 2), (32, "e3nn", 2)]
    assert all(0 < time < 1000 for record in records for time in samples_of(record))
    assert told[-1] == ("cell-32", 4, 4)
    assert {record.provenance.hardware for record in records} == {machine.hardware("cpu")}
    assert {result_of(record).load_average for record in records} == {0.25}


def test_steps_of_a_sample_are_divided_out(monkeypatch):
    def two_hundred_ms(ways, *, rounds, on_round):
        for _ in range(rounds):
            for way in ways.values():
                way()
            on_round(dict.fromkeys(ways, 200.0))

    monkeypatch.setattr(timing_table, "time_in_turns", two_hundred_ms)
    (record,) = run(plan(sizes=(4,), protocol=Protocol(Thermostat(), steps=50)))
    assert samples_of(record) == (4.0, 4.0)


def test_what_is_stored_is_not_timed_again_and_more_repeats_go_on():
    first = run(plan())
    assert run(plan()) == first
    more = run(plan(), repeats=3)
    for earlier, later in zip(first, more, strict=True):
        assert len(samples_of(later)) == 3
        assert samples_of(later)[:2] == samples_of(earlier)


def test_an_interruption_loses_the_round_it_falls_into():
    def interrupted(record, _done, _total):
        if len(samples_of(record)) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plan(sizes=(4,)), repeats=3, on_record=interrupted)
    store = RecordStore(Path("out"))
    assert [len(samples_of(record)) for record in timing_table.records_of(plan(sizes=(4,)), store)] == [2]
    (record,) = run(plan(sizes=(4,)), repeats=3)
    assert len(samples_of(record)) == 3


def test_other_weights_hardware_threads_or_steps_are_timed_anew(monkeypatch):
    def keys():
        return {task.key for task in plan()}

    before = keys()
    assert keys() == before
    assert not before & {task.key for task in plan(model=ModelSpec("copper", "copper", "b" * 64))}
    assert not before & {task.key for task in plan(protocol=Protocol(Thermostat(), steps=3))}
    assert not before & {task.key for task in plan(protocol=Protocol(Thermostat(600), steps=2))}
    for name, value in (("hardware", "another"), ("threads", 99), ("package_versions", {"torch": "0"})):
        with monkeypatch.context() as patch:
            patch.setattr(machine, name, lambda *_, value=value: value)
            assert not before & keys()


def test_what_cannot_run_is_a_row_with_its_reason():
    ways = ("fused", "cueq", "broken", "exploding", "crashing")
    records = run(plan(*ways, sizes=(32,)))
    found = {result_of(record).accelerate: record for record in records}
    assert {name: record.status for name, record in found.items()} == {
        "fused": "ok",
        "cueq": "unsupported",
        "broken": "error",
        "exploding": "unstable",
        "crashing": "error",
    }
    assert found["cueq"].message == "no Wigner symbols"
    assert "somebody else's bug" in found["broken"].message
    assert "came apart" in found["exploding"].message
    assert len(samples_of(found["fused"])) == 2
    assert not samples_of(found["crashing"])


def test_errors_are_tried_again_and_refusals_are_not(monkeypatch):
    run(plan("cueq", "broken", sizes=(4,)))
    asked = []
    monkeypatch.setattr(Configuration, "calculator", lambda item: asked.append(item.accelerate) or EMT())
    tasks = plan("cueq", "broken", sizes=(4,))
    asked.clear()
    assert [record.status for record in run(tasks)] == ["unsupported", "ok"]
    assert asked == ["broken"]


def test_a_calculator_is_built_once_for_all_sizes(monkeypatch):
    tasks, asked = plan("cueq", "fused"), []
    monkeypatch.setattr(Configuration, "calculator", lambda item: asked.append(item.accelerate) or emt_or_not(item))
    run(tasks)
    assert asked == ["cueq", "fused"]


def test_the_same_configuration_twice_is_one():
    assert len(plan("fused", "fused", sizes=(4, 4))) == 1


def test_a_size_that_cannot_be_built_is_refused_before_any_work():
    with pytest.raises(StructureError, match="8 or 12"):
        plan(sizes=(4, 9))


def test_elements_the_model_lacks_are_refused_before_any_work(monkeypatch):
    class Ignorant(EMT):
        numbers = (1, 6, 8)

    monkeypatch.setattr(Configuration, "calculator", lambda _: Ignorant())
    with pytest.raises(UnsupportedElementError, match="Cu.*--system"):
        plan()


def test_two_timings_do_not_run_together():
    with timing_table.exclusively(), pytest.raises(StoreError, match=f"process {os.getpid()}"):
        run(plan())
    assert run(plan())


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StoreError, match="is not a folder"):
        run(plan())


def test_memory_is_measured_once_also_after_the_times(monkeypatch):
    asked = []
    monkeypatch.setattr(timing_table, "peak_memory_mb", lambda *_: asked.append(1) or 512.0)
    (before,) = run(plan(sizes=(4,)))
    for _ in range(2):
        (record,) = run(plan(sizes=(4,)), memory=True)
        assert result_of(record).peak_memory_mb == 512.0
        assert samples_of(record) == samples_of(before)
    assert asked == [1]


def test_peak_memory_of_a_real_model(monkeypatch):
    monkeypatch.undo()
    from mace_ft_bench.timing.systems import molybdenum

    found = peak_memory_mb(molybdenum(16), Configuration("mo-ft", "fused", "off", "float32", "cpu"), PROTOCOL)
    assert found is None or 100 < found < 8000
