"""A table of timed dynamics: sizes by configurations, interleaved, one record each, resumable.

All configurations of a size take turns, and after every round each of them is stored with the samples it has: an
interruption loses one round at most, and a later call goes on, also to more samples. What cannot run here is a record
with its reason.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import platform
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mace_ft_bench.calculators.factory import resolve_device
from mace_ft_bench.calculators.structure_checks import check_structure
from mace_ft_bench.download import cache_folder
from mace_ft_bench.errors import MaceFtBenchError, StoreError, UnsupportedElementError
from mace_ft_bench.exclusive import only_one
from mace_ft_bench.results import machine
from mace_ft_bench.results.record import RETRIED, Provenance, Record, Status
from mace_ft_bench.results.runner import message_of, status_of
from mace_ft_bench.results.timing_record import PROPERTY, VERSION, TimingResult, result_of, samples_of
from mace_ft_bench.timing.dynamics import OWN_DTYPE, Configuration, Protocol, peak_memory_mb
from mace_ft_bench.timing.interleaved import time_in_turns
from mace_ft_bench.timing.systems import build_system, system_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from mace_ft_bench.results.model_spec import ModelSpec
    from mace_ft_bench.results.store import RecordStore

_PACKAGES = ("cuequivariance-torch", "cuequivariance-ops-torch-cu12", "torch-dftd")
"""Packages that change times beside those that change results."""

_log = logging.getLogger("mace_ft_bench")


@dataclass(frozen=True)
class Grid:
    """What a table spans."""

    system: str
    """Name or file, see :func:`mace_ft_bench.timing.systems.build_system`."""
    sizes: tuple[int, ...]
    """Numbers of atoms."""
    accelerate: tuple[str, ...]
    dispersion: tuple[str, ...]
    dtypes: tuple[str, ...]
    devices: tuple[str, ...]


@dataclass(frozen=True)
class TimingTask:
    """One configuration at one size."""

    key: str
    """Content address: a record of the same key is a timing of the same thing on the same machine."""
    atoms: Atoms
    configuration: Configuration
    protocol: Protocol
    blank: Record
    """The record before anything was timed."""


def exclusively() -> AbstractContextManager[None]:
    """Keep other timings of this user off this machine; the context raises :class:`StoreError` where one runs."""

    def refusal(who: str) -> StoreError:
        return StoreError(
            f"Another timing runs on this machine (process {who}); both would measure each other.",
            fix="wait for it, then run the same command again.",
        )

    # By machine: the cache may lie on a disk that many share.
    return only_one(cache_folder("timing") / f"{platform.node()}.lock", refusal)


def plan(model: ModelSpec, grid: Grid, protocol: Protocol) -> list[TimingTask]:
    """Return the tasks of a table, by size; structures are built here, before any work.

    Raises
    ------
    UnknownNameError
        If there is no such system.
    StructureError
        If a system cannot have so many atoms, or has elements that the model has not seen.
    """
    name = system_name(grid.system)
    dtypes = (OWN_DTYPE,) if model.fixed_dtype else grid.dtypes
    ways = itertools.product(grid.devices, dtypes, grid.dispersion, grid.accelerate)
    configurations = [
        Configuration(model.source, accelerate, dispersion, dtype, device, model.head, model.trust)
        for device, dtype, dispersion, accelerate in ways
    ]
    systems = [build_system(grid.system, size) for size in sorted(set(grid.sizes))]
    _refuse_foreign_elements(model, systems[0])
    return [_task(model, name, atoms, item, protocol) for atoms in systems for item in dict.fromkeys(configurations)]


def _refuse_foreign_elements(model: ModelSpec, atoms: Atoms) -> None:
    """Refuse a system that no configuration could run, where the model says what it knows."""
    dtype = OWN_DTYPE if model.fixed_dtype else "float32"
    calculator = Configuration(model.source, "auto", "off", dtype, "cpu", model.head, model.trust).calculator()
    numbers = getattr(calculator, "numbers", None)
    if numbers is None:
        return
    try:
        check_structure(atoms, numbers, model=model.name)
    except UnsupportedElementError as error:
        raise UnsupportedElementError(
            error.message, fix="time another system (--system), or a model that covers the elements."
        ) from error


def _task(model: ModelSpec, system: str, atoms: Atoms, item: Configuration, protocol: Protocol) -> TimingTask:
    result = TimingResult(
        system=system,
        atoms=len(atoms),
        accelerate=item.accelerate,
        dispersion=item.dispersion,
        steps=protocol.steps,
        **asdict(protocol.thermostat),
    )
    provenance = Provenance(
        model_sha256=model.sha256,
        head=model.head or "",
        dtype=item.dtype,
        device=item.device,
        dispersion="none" if item.dispersion == "off" else f"D3, {item.dispersion}",
        property_version=VERSION,
        package_versions=machine.package_versions(*_PACKAGES),
        hardware=_hardware(item.device),
        threads=machine.threads(),
    )
    structure = _checksum([atoms.numbers.tolist(), atoms.positions.tolist(), atoms.cell.tolist(), atoms.pbc.tolist()])
    key = _checksum([structure, asdict(result), asdict(provenance)])
    blank = Record(
        key=key,
        model=model.name,
        case=f"{system}-{len(atoms)}",
        property=PROPERTY,
        case_hash=structure,
        status="ok",
        result=asdict(result),
        provenance=provenance,
    )
    return TimingTask(key, atoms, item, protocol, blank)


def _checksum(content: Any) -> str:  # noqa: ANN401 - plain data
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


def _hardware(device: str) -> str:
    try:
        resolve_device(device)
    except MaceFtBenchError:
        return "none of this kind here"
    return machine.hardware(device)


def records_of(tasks: Iterable[TimingTask], store: RecordStore) -> list[Record]:
    """Return the latest record of every task that has one, in the order of the tasks."""
    latest = {record.key: record for record in store.all()}
    return [latest[task.key] for task in tasks if task.key in latest]


def run_table(
    tasks: Sequence[TimingTask],
    store: RecordStore,
    *,
    repeats: int,
    memory: bool = False,
    on_record: Callable[[Record, int, int], None] | None = None,
) -> list[Record]:
    """Time what the store has not, and return the records of all tasks.

    Parameters
    ----------
    tasks
        Of :func:`plan`.
    store
        Receives a record of every configuration after every round.
    repeats
        Samples of every configuration.
    memory
        Whether the peak memory is measured, too: in a process of its own each, before the timing.
    on_record
        Called after a round, or a failure, with the record, and how many of all tasks are done.

    Raises
    ------
    StoreError
        If the store cannot be written, or another timing runs on this machine.
    """
    store.check_writable()
    load = machine.load_average()
    latest = {record.key: record for record in records_of(tasks, store)}

    def done(record: Record | None) -> bool:
        return _done(record, repeats, memory=memory)

    def keep(record: Record) -> None:
        store.append(record)
        latest[record.key] = record
        if on_record:
            on_record(record, sum(map(done, latest.values())), len(tasks))

    provide = _Calculators()
    with exclusively():
        for atoms in dict.fromkeys(len(task.atoms) for task in tasks):
            todo = [task for task in tasks if len(task.atoms) == atoms and not done(latest.get(task.key))]
            _Size(todo, latest, load, provide, keep).run(repeats, memory=memory)
    return records_of(tasks, store)


def _done(record: Record | None, repeats: int, *, memory: bool) -> bool:
    if record is None or record.status in RETRIED:
        return False
    result = result_of(record)
    return record.status != "ok" or (
        len(result.ms_per_step) >= repeats and (result.peak_memory_mb is not None or not memory)
    )


class _Calculators:
    """Builds every calculator, or finds out why it cannot be built, once: conversions can take a minute."""

    def __init__(self) -> None:
        self._built: dict[Configuration, Calculator | Exception] = {}

    def __call__(self, configuration: Configuration) -> Calculator:
        """Return the calculator of a configuration, or raise what building it raised."""
        if configuration not in self._built:
            try:
                self._built[configuration] = configuration.calculator()
            except Exception as error:  # noqa: BLE001 - of foreign conversions; raised again below
                self._built[configuration] = error
        built = self._built[configuration]
        if isinstance(built, Exception):
            raise built
        return built


class _Size:
    """The configurations of one size, taking turns."""

    def __init__(
        self,
        tasks: Sequence[TimingTask],
        known: Mapping[str, Record],
        load: float | None,
        provide: _Calculators,
        keep: Callable[[Record], None],
    ) -> None:
        self._tasks = {task.key: task for task in tasks}
        self._records = {task.key: _started(task, known.get(task.key), load) for task in tasks}
        self._provide, self._keep = provide, keep
        self._errors: dict[str, Exception] = {}

    def run(self, repeats: int, *, memory: bool) -> None:
        """Time all configurations so often that each has enough samples."""
        ways = {key: self._guarded(key, way) for key in self._tasks if (way := self._way(key, memory=memory))}
        if ways:
            missing = repeats - min(len(samples_of(self._records[key])) for key in ways)
            if missing > 0:
                time_in_turns(ways, rounds=missing, on_round=self._store_round)

    def _way(self, key: str, *, memory: bool) -> Callable[[], None] | None:
        """Return the dynamics of a configuration, evaluated once; None, and a record, where it cannot run."""
        task = self._tasks[key]
        try:
            calculator = self._provide(task.configuration)
        except MaceFtBenchError as error:  # asked of a machine or a model that does not have it
            self._fail(key, "unsupported", error.message)
            return None
        except Exception as error:  # noqa: BLE001 - a configuration that crashes is a record, and the others go on
            self._fail(key, status_of(error), message_of(error))
            return None
        try:
            still = task.atoms.copy()
            still.calc = calculator
            still.get_forces()  # chooses and proves the accelerator
            if memory and result_of(self._records[key]).peak_memory_mb is None:
                self._measure_memory(task)
            way = task.protocol.of(task.atoms, calculator)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(key, status_of(error), message_of(error))
            return None
        provenance = replace(self._records[key].provenance, accelerator=getattr(calculator, "accelerator", "") or "own")
        self._records[key] = replace(self._records[key], provenance=provenance)
        return way

    def _measure_memory(self, task: TimingTask) -> None:
        self._update(task.key, peak_memory_mb=peak_memory_mb(task.atoms, task.configuration, task.protocol))
        if samples_of(self._records[task.key]):  # of an earlier session; otherwise the first round stores it
            self._keep(self._records[task.key])

    def _guarded(self, key: str, way: Callable[[], None]) -> Callable[[], None]:
        def proceed() -> None:
            if key in self._errors:
                return
            try:
                way()
            except Exception as error:  # noqa: BLE001 - as above; the record is written after the round
                _log.debug("a timing failed", exc_info=True)
                self._errors[key] = error

        return proceed

    def _store_round(self, times: Mapping[str, float]) -> None:
        for key, time in times.items():
            if key not in self._errors:
                samples = (*samples_of(self._records[key]), time / self._tasks[key].protocol.steps)
                self._update(key, ms_per_step=samples)
                self._keep(self._records[key])
            elif self._records[key].status == "ok":
                error = self._errors[key]
                self._fail(key, status_of(error), message_of(error))

    def _fail(self, key: str, status: Status, message: str) -> None:
        self._update(key, ms_per_step=())
        self._records[key] = replace(self._records[key], status=status, message=message)
        self._keep(self._records[key])

    def _update(self, key: str, **changes: Any) -> None:  # noqa: ANN401 - fields of the result
        result = replace(result_of(self._records[key]), **changes)
        self._records[key] = replace(self._records[key], result=json.loads(json.dumps(asdict(result))))


def _started(task: TimingTask, known: Record | None, load: float | None) -> Record:
    """Return the record to go on with: that of an earlier session, or a new one."""
    record = known if known is not None and known.status == "ok" else task.blank
    loads = [value for value in (result_of(record).load_average, load) if value is not None]
    result = replace(result_of(record), load_average=max(loads, default=None))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return replace(
        record, result=json.loads(json.dumps(asdict(result))), provenance=replace(record.provenance, started=now)
    )
