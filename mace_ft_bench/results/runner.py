"""Attempt tasks: one record per (model, case), whatever happens."""

from __future__ import annotations

import logging
import time
from concurrent.futures import as_completed
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from mace_ft_bench.calculators.factory import get_calculator
from mace_ft_bench.datasets.fetch import load_frames
from mace_ft_bench.errors import (
    DispersionError,
    MissingDataError,
    TooSlowError,
    UnconvergedError,
    UnstableError,
    UnsupportedElementError,
)
from mace_ft_bench.properties.base import get_property
from mace_ft_bench.properties.frame_selection import only
from mace_ft_bench.properties.structures import build
from mace_ft_bench.results import machine
from mace_ft_bench.results.case import DatasetStructure
from mace_ft_bench.results.record import Provenance, Record, Status
from mace_ft_bench.results.tasks import ACCELERATE, dispersion_of, dtype_of, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Executor

    from ase.calculators.calculator import Calculator

    from mace_ft_bench.results.model_spec import ModelSpec
    from mace_ft_bench.results.store import RecordStore
    from mace_ft_bench.results.tasks import RunOptions, Task

_log = logging.getLogger("mace_ft_bench")

_STATUS_OF: tuple[tuple[type[Exception], Status], ...] = (
    (UnconvergedError, "unconverged"),
    (UnstableError, "unstable"),
    (UnsupportedElementError, "unsupported"),
    (DispersionError, "unsupported"),
    (PropertyNotImplementedError, "unsupported"),
    (MissingDataError, "missing_data"),
    (TooSlowError, "too_slow"),
)


def run(  # noqa: PLR0913 - one per thing a caller may want to watch or replace
    tasks: list[Task],
    store: RecordStore,
    *,
    executor: Executor | None = None,
    provide: Callable[[Task], Calculator] | None = None,
    on_start: Callable[[Task], None] | None = None,
    on_record: Callable[[Record], None] | None = None,
) -> list[Record]:
    """Attempt tasks and store one record each, as soon as it is there.

    Parameters
    ----------
    tasks
        What to attempt; see :func:`mace_ft_bench.results.tasks.pending`.
    store
        Where records go.
    executor
        Any :class:`concurrent.futures.Executor`; without one, tasks run one after the other in this process.
    provide
        Returns the calculator of a task (only without an executor); by default every calculator is built once.
    on_start
        Called before a task (only without an executor).
    on_record
        Called after a record was stored.
    """
    records = _parallel(tasks, executor) if executor else _serial(tasks, provide or Calculators(), on_start)
    collected = []
    for record in records:
        store.append(record)
        collected.append(record)
        if on_record:
            on_record(record)
    return collected


def attempt(task: Task, provide: Callable[[Task], Calculator] | None = None) -> Record:
    """Compute one case on one model; whatever happens becomes exactly one record.

    Parameters
    ----------
    task
        What to attempt.
    provide
        Returns the calculator of a task; by default a new one is built.
    """
    item = get_property(task.case.property)
    record = blank_record(task)
    began = time.perf_counter()
    try:
        target = _target(task)  # first: without data no calculator is needed
        calculator = (provide or _calculator)(task)
        result = item.compute(target, calculator, settings_of(task.case))
        reference = task.case.scored_reference
        errors = item.compare(result, reference.values if reference else {})
        used = getattr(calculator, "accelerator", "") or Provenance.accelerator
        provenance = replace(record.provenance, accelerator=used)
        record = replace(record, result=asdict(result), errors=errors, message=_missing_errors(task, errors))
        record = replace(record, provenance=provenance)
        record = Record.from_json(record.to_json())  # NaN or infinity is a failure; tuples become lists, as stored
    except Exception as error:  # noqa: BLE001 - a failed case is a record, never a crash of the run
        _log.debug("%s on %s failed", task.case.id, task.model.name, exc_info=True)
        record = replace(record, status=status_of(error), message=message_of(error), result=None, errors={})
    return replace(record, wall_s=round(time.perf_counter() - began, 3))


def _missing_errors(task: Task, errors: Mapping[str, float]) -> str:
    """Return what to say of metrics that have no error; they score zero, also where their name is misspelt."""
    missing = [name for name in task.case.metrics if name not in errors]
    known = ", ".join(errors) or "nothing"
    return f"no error called {', '.join(missing)}, which scores zero; there is {known}" if missing else ""


class Calculators:
    """Builds every calculator of a run once; call it with a task before the run to find out what cannot be built."""

    def __init__(self) -> None:
        self._built: dict[tuple[ModelSpec, str | None, str], Calculator] = {}

    def __call__(self, task: Task) -> Calculator:
        """Return the calculator of a task."""
        dtype = dtype_of(task.model, get_property(task.case.property))
        key = (task.model, dtype, dispersion_of(task.model, task.case))
        if key not in self._built:
            self._built[key] = _calculator(task)
        return self._built[key]


def _serial(
    tasks: list[Task], provide: Callable[[Task], Calculator], on_start: Callable[[Task], None] | None
) -> Iterator[Record]:
    for task in tasks:
        if on_start:
            on_start(task)
        yield attempt(task, provide)


def _parallel(tasks: list[Task], executor: Executor) -> Iterator[Record]:
    futures = {executor.submit(attempt, task): task for task in tasks}
    for future in as_completed(futures):
        error = future.exception()  # attempt() raises nothing: a worker was lost, or something did not pickle
        if error is None:
            yield future.result()
        elif isinstance(error, Exception):
            yield _failed(futures[future], error)
        else:
            raise error


def _calculator(task: Task) -> Calculator:
    return get_calculator(
        task.model.source,
        device=task.options.device,
        dtype=dtype_of(task.model, get_property(task.case.property)),
        head=task.model.head,
        accelerate=ACCELERATE,
        dispersion=dispersion_of(task.model, task.case) or None,
        trust=task.model.trust,
    )


def _target(task: Task) -> Any:  # noqa: ANN401 - Atoms, or a list of them
    case, options = task.case, task.options
    if case.frames is not None:
        return load_frames(case.frames.dataset, case.frames.split, mirror=options.mirror, download=options.download)
    if case.structure is None:
        raise AssertionError(case.id)  # excluded when the card was read
    if isinstance(case.structure, DatasetStructure):
        return _frame(case.structure, options)
    return build(case.structure)


def _frame(wanted: DatasetStructure, options: RunOptions) -> Atoms:
    frames = load_frames(wanted.dataset, wanted.split, mirror=options.mirror, download=options.download)
    found = frames[0] if len(frames) == 1 and not wanted.config_type else only(frames, wanted.config_type)
    return Atoms(found.numbers, found.positions, cell=found.cell, pbc=found.pbc)


def blank_record(task: Task) -> Record:
    """Return the record of a task before anything was computed."""
    item = get_property(task.case.property)
    dtype = dtype_of(task.model, item)
    provenance = Provenance(
        model_sha256=task.model.sha256,
        head=task.model.head or "",
        dtype=dtype or "own",
        dispersion=_dispersion_text(task),
        device=task.options.device,
        property_version=item.version,
        package_versions=machine.package_versions()
        | {f"{name} ({task.model.name})": version for name, version in task.model.packages},
        hardware=machine.hardware(task.options.device),
        threads=machine.threads(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return Record(
        key=task.key,
        model=task.model.name,
        case=task.case.id,
        property=task.case.property,
        case_hash=task.case.content_hash(),
        status="ok",
        mode=task.case.mode,
        provenance=provenance,
    )


def _dispersion_text(task: Task) -> str:
    functional = dispersion_of(task.model, task.case)
    return f"D3(BJ), {functional}" if functional else Provenance.dispersion


def _failed(task: Task, error: Exception) -> Record:
    return replace(blank_record(task), status=status_of(error), message=message_of(error))


def status_of(error: Exception) -> Status:
    """Return the status of an attempt that ended in this error."""
    return next((status for kind, status in _STATUS_OF if isinstance(error, kind)), "error")


def message_of(error: Exception) -> str:
    """Return what a record says about an error."""
    return f"{type(error).__name__}: {error}"
