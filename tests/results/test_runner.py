"""The runner: one record per attempt, whatever happens, and no attempt twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT

from mace_ft_bench import paths
from mace_ft_bench.errors import (
    CardError,
    DataError,
    MissingDataError,
    MissingDependencyError,
    PropertyError,
    StructureError,
    TooSlowError,
    UnconvergedError,
    UnknownNameError,
    UnstableError,
    UnsupportedElementError,
)
from mace_ft_bench.properties.base import get_property
from mace_ft_bench.results import model_spec as model_specs
from mace_ft_bench.results import runner
from mace_ft_bench.results import tasks as task_module
from mace_ft_bench.results.case import DatasetStructure, FileStructure
from mace_ft_bench.results.model_spec import model_spec
from mace_ft_bench.results.runner import run
from mace_ft_bench.results.store import RecordStore
from mace_ft_bench.results.tasks import RunOptions, pending, plan
from mace_ft_bench.toml_schema import StrictTable
from mace_ft_bench.zoo import registry
from mace_ft_bench.zoo.environments import install

from ..peers import isolated_card
from .conftest import make_card

CPU = RunOptions(device="cpu")


@dataclass(frozen=True)
class NoSettings(StrictTable):
    """Takes nothing."""


@dataclass(frozen=True)
class Number:
    """A result."""

    value: float


@pytest.fixture
def emt():
    return model_spec("emt")


@pytest.fixture
def lattice_task(emt, cases):
    return lambda: plan([emt], [cases["lattice"]], CPU)


@pytest.fixture
def computing(monkeypatch):
    """Replace the property of every case by one with the given function; the result stands for the error, too."""

    def replace_property(compute, **changes):
        item = replace(
            get_property("relaxation"),
            settings=NoSettings,
            compute=lambda *_arguments: Number(compute()),
            compare=lambda result, _reference: {"value": result.value},
            **changes,
        )
        for module in (runner, task_module):
            monkeypatch.setattr(module, "get_property", lambda _name: item)

    return replace_property


def raising(error):
    def compute():
        raise error

    return compute


def test_every_attempt_is_one_record(emt, cases, store):
    tasks = plan([emt], cases.values(), CPU)
    seen, started = [], []
    records = run(tasks, store, on_start=started.append, on_record=seen.append)
    assert records == seen == store.all()
    assert started == tasks
    assert [(record.case, record.status) for record in records] == [
        ("copper/eos", "ok"),
        ("copper/frames", "missing_data"),
        ("copper/lattice", "ok"),
    ]
    for record, task in zip(records, tasks, strict=True):
        assert record.key == task.key
        assert record.case_hash == task.case.content_hash()
        assert record.model == "emt"
        assert record.wall_s >= 0
        assert (record.result is None) == (record.status != "ok") == bool(record.message)


def test_a_record_holds_the_result_and_its_signed_error(emt, cases, store):
    (record,) = run(plan([emt], [cases["lattice"]], CPU), store)
    assert record.result["a_angstrom"] == pytest.approx(3.59, abs=0.01)
    assert record.errors["a_percent"] == pytest.approx(100 * (record.result["a_angstrom"] / 3.5 - 1))
    origin = record.provenance
    assert (origin.device, origin.dtype, origin.property_version) == ("cpu", "own", get_property("relaxation").version)
    assert origin.hardware
    assert origin.package_versions["ase"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnconvergedError("m.", fix="f."), "unconverged"),
        (UnstableError("m.", fix="f."), "unstable"),
        (UnsupportedElementError("m.", fix="f."), "unsupported"),
        (PropertyNotImplementedError("stress"), "unsupported"),
        (MissingDataError("m.", fix="f."), "missing_data"),
        (TooSlowError("m.", fix="f."), "too_slow"),
        (DataError("m.", fix="f."), "error"),
        (StructureError("m.", fix="f."), "error"),
        (PropertyError("m.", fix="f."), "error"),
        (NotImplementedError("m."), "error"),
        (RuntimeError("CUDA out of memory"), "error"),
        (ZeroDivisionError("division by zero"), "error"),
        (AssertionError(), "error"),
    ],
    ids=repr,
)
def test_every_failure_has_its_status_type_and_message(lattice_task, store, computing, error, status):
    computing(raising(error))
    (record,) = run(lattice_task(), store)
    assert record.status == status
    assert record.message == f"{type(error).__name__}: {error}"
    assert record.result is None
    assert record.errors == {}
    assert store.all() == [record]


def test_a_metric_without_an_error_is_named(emt, cases, store):
    lattice = cases["lattice"]
    misspelt = replace(lattice, metrics={"a_pct": lattice.metrics["a_percent"]})
    (record,) = run(plan([emt], [misspelt], CPU), store)
    assert record.status == "ok"
    assert record.message.startswith("no error called a_pct, which scores zero; there is ")
    assert "a_percent" in record.message


def test_ctrl_c_is_no_failure_of_the_model(emt, cases, store, computing):
    computing(raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run(plan([emt], [cases["lattice"]], CPU), store)
    assert store.all() == []


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1j, object()], ids=["nan", "inf", "complex", "object"])
def test_what_is_no_number_is_an_error_and_no_result(emt, cases, store, computing, number):
    computing(lambda: number)
    (record,) = run(plan([emt], [cases["lattice"]], CPU), store)
    assert record.status == "error"
    assert record.result is None
    assert record.errors == {}
    assert store.all() == [record]


def test_a_model_that_cannot_be_built_is_a_record_of_every_case(cases, store):
    tasks = plan([model_spec("broken"), model_spec("emt")], [cases["eos"], cases["lattice"]], CPU)
    records = run(tasks, store)
    assert [(record.model, record.status) for record in records] == [
        ("broken", "error"),
        ("broken", "error"),
        ("emt", "ok"),
        ("emt", "ok"),
    ]
    assert records[0].message == "RuntimeError: no weights here"


def test_a_calculator_is_built_once_per_model(emt, cases, store, built):
    run(plan([emt], [cases["eos"], cases["lattice"]], CPU), store)
    assert built == [("emt", "cpu", None)]


def test_a_rerun_computes_nothing_until_missing_data_are_there(emt, cases, store, monkeypatch):
    run(plan([emt], cases.values(), CPU), store)
    again = plan([emt], cases.values(), CPU)
    assert pending(again, store) == []
    downloading = plan([emt], cases.values(), replace(CPU, download=True))
    assert [task.case.id for task in pending(downloading, store)] == ["copper/frames"]
    monkeypatch.setattr(task_module, "locate", lambda *_, **__: [])
    assert [task.case.id for task in pending(again, store)] == ["copper/frames"]


def test_damaged_data_are_left_to_the_attempt(emt, cases, store, monkeypatch):
    tasks = plan([emt], [cases["frames"]], CPU)
    run(tasks, store)

    def damaged(*_, **__):
        raise DataError("m.", fix="f.")

    monkeypatch.setattr(task_module, "locate", damaged)
    assert pending(tasks, store) == tasks


def test_without_data_no_calculator_is_built(emt, cases, store, built):
    (record,) = run(plan([emt], [cases["frames"]], CPU), store)
    assert record.status == "missing_data"
    assert built == []


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (UnconvergedError("m.", fix="f."), False),
        (UnstableError("m.", fix="f."), False),
        (UnsupportedElementError("m.", fix="f."), False),
        (TooSlowError("m.", fix="f."), False),
        (MissingDataError("m.", fix="f."), True),
        (RuntimeError("m."), True),
    ],
)
def test_only_errors_and_missing_data_are_tried_again(lattice_task, store, computing, error, again):
    computing(raising(error))
    tasks = lattice_task()
    run(tasks, store)
    assert pending(tasks, store) == (tasks if again else [])
    computing(lambda: 1.0)
    run(pending(tasks, store), store)
    assert len(store.all()) == 1 + again
    assert pending(tasks, store) == []


def test_the_same_weights_under_another_name_are_another_model(emt, cases, store):
    tasks = plan([emt, replace(emt, name="copy")], [cases["eos"], replace(cases["eos"], id="copper/again")], CPU)
    run(tasks[:1], store)
    assert pending(tasks, store) == tasks[1:]


def test_two_models_of_one_name_are_refused(emt, cases):
    with pytest.raises(UnknownNameError, match="rename one"):
        plan([emt, replace(emt, sha256="other")], cases.values(), CPU)
    assert len(plan([emt, replace(emt, name="other", sha256="other")], [cases["eos"]], CPU)) == 2


def key_of(model, case, **options):
    return plan([model], [case], replace(CPU, **options))[0].key


def test_the_key_ignores_what_changes_no_result(emt, cases):
    case = cases["lattice"]
    (reference,) = case.references
    relaxed = {name: replace(metric, tolerance=9.0, label="z") for name, metric in case.metrics.items()}
    same = [
        replace(case, title="another"),
        replace(case, description="another"),
        replace(case, metrics=relaxed),
        replace(case, references=(replace(reference, note="n", source="z"),)),
        replace(case, references=(reference, replace(reference, label="b", scored=False, values={"a_angstrom": 1.0}))),
    ]
    assert {key_of(emt, other) for other in same} == {key_of(emt, case)}
    assert key_of(replace(emt, source="elsewhere"), case) == key_of(emt, case)


def test_the_key_covers_everything_that_changes_a_result(emt, cases, monkeypatch, computing):
    case = cases["lattice"]
    (reference,) = case.references
    keys = [
        key_of(emt, case),
        key_of(emt, replace(case, settings={"fmax": 0.002})),
        key_of(emt, replace(case, references=(replace(reference, values={"a_angstrom": 3.51}),))),
        key_of(emt, replace(case, structure=replace(case.structure, a=3.61))),
        key_of(emt, cases["eos"]),
        key_of(emt, cases["frames"]),
        key_of(replace(emt, sha256="other weights"), case),
        key_of(replace(emt, head="other"), case),
        key_of(replace(emt, fixed_dtype=False), case),
    ]
    version = get_property("relaxation").version
    monkeypatch.setattr(task_module, "resolve_device", lambda device: device)
    keys.append(key_of(emt, case, device="cuda"))
    computing(lambda: 0.0, version=version + 1)
    keys.append(key_of(emt, case))
    assert len(set(keys)) == len(keys)


def test_the_key_of_a_structure_file_follows_its_content(emt, cases, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "reference_data", lambda: tmp_path)
    (tmp_path / "structures").mkdir()
    case = replace(cases["eos"], structure=FileStructure(builder="file", file="cu.xyz"))
    keys = [key_of(emt, case)]
    for text in ("1\n\nCu 0 0 0\n", "1\n\nCu 0 0 1\n"):
        (tmp_path / "structures" / "cu.xyz").write_text(text, encoding="utf-8")
        keys.append(key_of(emt, case))
    assert len(set(keys)) == 3


def test_a_missing_structure_file_is_a_record(emt, cases, store):
    case = replace(cases["eos"], structure=FileStructure(builder="file", file="no.xyz"))
    (record,) = run(plan([emt], [case], CPU), store)
    assert (record.status, record.message.split(":")[0]) == ("error", "StructureError")


def test_a_structure_of_a_dataset_is_one_frame_of_a_split(emt, cases, store, monkeypatch):
    copper = Atoms("Cu", cell=[3.6] * 3, pbc=True, info={"config_type": "one", "REF_energy": 7.0})
    frames = [copper.repeat(2), copper]
    frames[0].info["config_type"] = "eight"
    monkeypatch.setattr(runner, "load_frames", lambda name, split, **_: {("mlearn-mo", "test"): frames}[name, split])
    wanted = DatasetStructure(builder="dataset", dataset="mlearn-mo", split="test", config_type="one")
    case = replace(cases["eos"], structure=wanted)
    seen = []
    item = replace(
        get_property("eos"), compute=lambda atoms, *_: seen.append(atoms) or Number(0.0), compare=lambda *_: {}
    )
    for module in (runner, task_module):
        monkeypatch.setattr(module, "get_property", lambda _name: item)
    (record,) = run(plan([emt], [case], CPU), store)
    assert record.status == "ok", record.message
    assert (len(seen[0]), seen[0].info, seen[0].pbc.all()) == (1, {}, True)
    for name in ("", "two"):
        (record,) = run(plan([emt], [replace(case, structure=replace(wanted, config_type=name))], CPU), store)
        assert record.status == "error"
        assert "there are ['eight', 'one']" in record.message
    keys = {key_of(emt, replace(case, structure=replace(wanted, split=split))) for split in ("test", "train")}
    assert len(keys) == 2


def test_a_timing_depends_on_the_machine_and_a_property_does_not(emt, cases, monkeypatch, computing):
    def keys():
        return key_of(emt, cases["lattice"])

    for timing in (True, False):
        computing(lambda: 0.0, timing=timing)
        before = keys()
        with monkeypatch.context() as context:
            context.setattr(task_module, "thread_count", lambda: 64)
            assert (keys() != before) is timing


def test_settings_are_checked_before_any_work(emt, cases, built):
    bad = replace(cases["lattice"], settings={"fmxa": 0.1})
    with pytest.raises(CardError, match=r'\[settings\] of copper/lattice.*did you mean "fmax"'):
        plan([emt], [cases["eos"], bad], CPU)
    with pytest.raises(UnknownNameError, match="elastic"):
        plan([emt], [replace(bad, property="elastik")], CPU)
    with pytest.raises(UnknownNameError, match='functional "pbee".*did you mean "pbe"'):
        plan([emt], [replace(cases["eos"], dispersion="pbee")], CPU)
    assert built == []


def test_unknown_models_and_files_are_named(tmp_path):
    with pytest.raises(UnknownNameError, match='did you mean "emt"'):
        model_spec("emtt")
    with pytest.raises(UnknownNameError, match="does not exist"):
        model_spec(str(tmp_path / "no.safetensors"))


def test_models_of_other_packages_are_run(cases, store, monkeypatch):
    card = replace(registry._embedded()[0], name="third-party")

    class Entry:
        name, value = "x", "y"

        @staticmethod
        def load():
            return lambda: [card]

    monkeypatch.setattr(registry, "entry_points", lambda **_group: [Entry])
    (record,) = run(plan([model_spec("third-party")], [cases["eos"]], CPU), store)
    assert (record.model, record.status) == ("third-party", "ok")


def outcome(records):
    return sorted((record.key, record.status, str(record.result), str(record.errors)) for record in records)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (("PBE", "none"), "D3(BJ), pbe"),
        (("PBE-D3", "D3(BJ)"), "none"),
        (("PBE", "unknown"), None),
        (("RPBE", "none"), None),
    ],
)
def test_a_case_with_dispersion_adds_it_to_models_without(cases, store, monkeypatch, labels, text):
    plain = cases["lattice"]
    with_d3 = replace(plain, dispersion="pbe", id="copper/with-d3")
    card = replace(make_card(), functional=labels[0], dispersion=labels[1])
    monkeypatch.setattr(registry, "_embedded", lambda: [card])
    (first, second) = run(plan([model_spec("emt")], [plain, with_d3], CPU), store)
    assert first.provenance.dispersion == "none"
    if text is None:
        assert second.status == "unsupported"
        assert "dispersion" in second.message or "D3" in second.message
        return
    assert second.provenance.dispersion == text
    shrinks = first.result["a_angstrom"] - second.result["a_angstrom"]
    assert shrinks > 0.02 if text != "none" else shrinks == 0.0


def test_an_executor_gives_the_same_records(emt, cases, store, tmp_path):
    tasks = plan([emt, model_spec("broken")], cases.values(), CPU)
    serial = run(tasks, RecordStore(tmp_path / "serial"))
    with ThreadPoolExecutor(2) as executor:
        parallel = run(tasks, store, executor=executor)
    assert outcome(parallel) == outcome(serial) == outcome(store.all())
    assert len(parallel) == len(tasks)


class LosingExecutor:
    """Its workers die."""

    def submit(self, *_task):
        """Return a future that has failed."""
        future = Future()
        future.set_exception(BrokenProcessPool("a worker died"))
        return future


def test_a_lost_worker_is_a_record_that_a_rerun_retries(emt, cases, store):
    tasks = plan([emt], [cases["eos"], cases["lattice"]], CPU)
    records = run(tasks, store, executor=LosingExecutor())
    assert [record.status for record in records] == ["error", "error"]
    assert records[0].message == "BrokenProcessPool: a worker died"
    assert pending(tasks, store) == tasks


KILLED = """
import os, signal, sys, types
from pathlib import Path
from ase.calculators.emt import EMT
from mace_ft_bench.results import case, model_spec, runner, store, tasks
from mace_ft_bench.zoo import card, registry
module = types.ModuleType("fake_models")
module.emt = lambda *_: EMT()
sys.modules["fake_models"] = module
emt = card.ModelCard("emt", "factory", "", ("Cu",), "", "none", "", "", factory="fake_models:emt")
registry._embedded = lambda: [emt]
root, out = Path(sys.argv[1]), Path(sys.argv[2])
specs = [model_spec.model_spec("emt")]
planned = tasks.plan(specs, case.select_cases(["*"], root), tasks.RunOptions(device="cpu"))
runner.run(planned, store.RecordStore(out), on_record=lambda record: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_killed_run_resumes_with_the_rest(emt, cases, store, root):
    code = [sys.executable, "-c", KILLED, str(root), str(store.folder)]
    assert subprocess.run(code, check=False).returncode == -signal.SIGKILL
    (first,) = store.all()
    assert (first.case, first.status) == ("copper/eos", "ok")
    rest = pending(plan([emt], cases.values(), CPU), store)
    assert [task.case.id for task in rest] == ["copper/frames", "copper/lattice"]
    run(rest, store)
    assert len(store.all()) == 3


def test_the_caller_can_provide_the_calculator(emt, cases):
    (task,) = plan([emt], [cases["eos"]], CPU)
    asked = []
    record = runner.attempt(task, lambda asked_for: asked.append(asked_for) or EMT())
    assert record.status == "ok"
    assert asked == [task]


def test_a_record_of_an_isolated_model_says_what_its_environment_holds(monkeypatch, tmp_path, cases, store):
    card = isolated_card(tmp_path, "peer", calculator="ase.calculators.emt:EMT", device="")
    monkeypatch.setattr(registry, "_embedded", lambda: [card])
    with pytest.raises(MissingDependencyError, match="mfb models install peer"):
        model_spec("peer")
    found = install(card, environment=Path(sys.prefix))
    (record,) = run(plan([model_spec("peer")], [cases["lattice"]], CPU), store)
    origin = record.provenance
    assert (record.status, origin.dtype, origin.accelerator) == ("ok", "own", "i-PI worker")
    assert record.result["a_angstrom"] == pytest.approx(3.59, abs=0.01)
    assert origin.model_sha256 == found.identity()
    assert origin.package_versions["ase (peer)"] == version("ase")
    assert store.all() == [record]


def test_another_version_in_its_environment_is_another_attempt(monkeypatch, tmp_path, cases):
    card = isolated_card(tmp_path, "peer", calculator="ase.calculators.emt:EMT", device="")
    monkeypatch.setattr(registry, "_embedded", lambda: [card])
    found = install(card, environment=Path(sys.prefix))
    (first,) = plan([model_spec("peer")], [cases["lattice"]], CPU)
    other = replace(found, packages=found.packages | {"ase": "99"})
    monkeypatch.setattr(model_specs, "installation", lambda _card: other)
    (second,) = plan([model_spec("peer")], [cases["lattice"]], CPU)
    assert first.key != second.key
