"""Run cases on models: tasks in, one record per attempted (model, case) out."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from mace_ft_bench import paths
from mace_ft_bench.calculators.factory import get_calculator, is_path, resolve_device
from mace_ft_bench.calculators.heads import choose_head
from mace_ft_bench.calculators.threads import thread_count
from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.datasets.card import find_dataset
from mace_ft_bench.datasets.fetch import load_frames, locate
from mace_ft_bench.errors import (
    MaceFtBenchError,
    MissingDataError,
    TooSlowError,
    UnconvergedError,
    UnknownNameError,
    UnstableError,
    UnsupportedElementError,
)
from mace_ft_bench.properties.base import Property, get_property
from mace_ft_bench.properties.frame_selection import only
from mace_ft_bench.properties.structures import build
from mace_ft_bench.results import machine
from mace_ft_bench.results.case import Case, DatasetStructure, FileStructure, FramesInput
from mace_ft_bench.results.record import RETRIED, Provenance, Record, Status
from mace_ft_bench.results.selection import Identity
from mace_ft_bench.toml_schema import parse
from mace_ft_bench.zoo.environments import installation
from mace_ft_bench.zoo.registry import find_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor

    from ase.calculators.calculator import Calculator

    from mace_ft_bench.results.store import RecordStore

_ACCELERATE = "auto"
"""How calculators choose their accelerator; whichever it is has reproduced the plain path, and the record names it."""

_log = logging.getLogger("mace_ft_bench")

_STATUS_OF: tuple[tuple[type[Exception], Status], ...] = (
    (UnconvergedError, "unconverged"),
    (UnstableError, "unstable"),
    (UnsupportedElementError, "unsupported"),
    (PropertyNotImplementedError, "unsupported"),
    (MissingDataError, "missing_data"),
    (TooSlowError, "too_slow"),
)


@dataclass(frozen=True)
class ModelSpec:
    """A model as the runner calls it."""

    name: str
    """Name in the tables."""
    source: str
    """Name or path for get_calculator."""
    sha256: str
    """Checksum of the weights, or the version of the package that ships them, or both."""
    fixed_dtype: bool = False
    """Whether the model has one dtype of its own."""
    head: str | None = None
    trust: bool = False
    packages: tuple[tuple[str, str], ...] = ()
    """Packages of an environment of its own, with their versions."""


@dataclass(frozen=True)
class RunOptions:
    """What holds for a whole run."""

    device: str = "auto"
    mirror: Path | None = None
    download: bool = False
    """Whether missing datasets may be downloaded."""


@dataclass(frozen=True)
class Task:
    """One case on one model."""

    model: ModelSpec
    case: Case
    options: RunOptions
    key: str


def model_spec(source: str, *, head: str | None = None, trust: bool = False) -> ModelSpec:
    """Describe a model given by name or path, without loading it.

    Raises
    ------
    UnknownNameError
        If there is no such model or file.
    MissingWeightsError
        If a foundation model has not been fetched.
    ChecksumError
        If weights differ from their card.
    MissingDependencyError
        If the environment of an isolated model has not been made.
    """
    if is_path(source):
        path = Path(source)
        if not path.is_file():
            raise UnknownNameError(f"{path} does not exist.", fix="check the path; names are listed by `mfb models`.")
        # The path is the name: a file called mo-ft.safetensors is not the embedded mo-ft.
        return ModelSpec(path.as_posix(), source, sha256_of(path), head=_head_of_file(path, head), trust=trust)
    card = find_model(source)
    if card.kind == "isolated":
        installed = installation(card)
        chosen = choose_head(card.heads, head, model=card.name)
        packages = tuple(installed.pinned().items())
        return ModelSpec(card.name, source, installed.identity(), fixed_dtype=True, head=chosen, packages=packages)
    if card.kind == "factory":
        chosen = choose_head(card.heads, head, model=card.name)
        return ModelSpec(card.name, source, _shipped_version(card.factory), fixed_dtype=True, head=chosen)
    weights = card.verified_path()  # before the head: the heads of a foundation model are known from its weights
    return ModelSpec(card.name, source, sha256_of(weights), head=choose_head(card.heads, head, model=card.name))


def _head_of_file(path: Path, head: str | None) -> str | None:
    if path.suffix != ".safetensors":
        return head
    from mace_ft_bench.zoo.checkpoint import read_config  # noqa: PLC0415 - imports torch and mace

    return choose_head(read_config(path)["heads"], head, model=path.as_posix())


def _shipped_version(factory: str) -> str:
    """Return the factory with the versions of the distribution that provides it and of the peers it may wrap."""
    distributions = packages_distributions().get(factory.partition(".")[0].partition(":")[0], [])
    versions = {name: version(name) for name in distributions} | machine.package_versions()
    return f"{factory}@{json.dumps(versions, sort_keys=True)}"


def plan(models: Iterable[ModelSpec], cases: Iterable[Case], options: RunOptions) -> list[Task]:
    """Return the tasks of a run, model by model; settings of every case are checked here, before any work.

    Raises
    ------
    CardError
        If a case has settings its property does not take.
    UnknownNameError
        If a case names an unknown property, or two different models share a name.
    """
    chosen = list(cases)
    options = replace(options, device=resolve_device(options.device))
    if options.mirror is not None and not options.mirror.is_dir():
        raise MissingDataError(f"The mirror folder {options.mirror} does not exist.", fix="correct --mirror.")
    specs = list(dict.fromkeys(models))
    _refuse_namesakes(specs)
    for case in chosen:
        _settings(case, get_property(case.property))
    return [Task(model, case, options, _key(model, case, options)) for model in specs for case in chosen]


def pending(tasks: Iterable[Task], store: RecordStore) -> list[Task]:
    """Return the tasks without a final record; data that were missing and still are end a task, too."""
    latest = {(record.key, record.model, record.case): record.status for record in store.all()}
    return [task for task in tasks if _is_open(task, latest.get((task.key, task.model.name, task.case.id)))]


def _is_open(task: Task, status: Status | None) -> bool:
    if status == "missing_data":
        return not _lacks_data(task)
    return status is None or status in RETRIED


def _lacks_data(task: Task) -> bool:
    data, options = _dataset_of(task.case), task.options
    if data is None or options.download:
        return False
    try:
        locate(data.dataset, data.split, mirror=options.mirror)
    except MaceFtBenchError as error:
        return isinstance(error, MissingDataError)  # of a damaged file the attempt makes a record
    return False


def _dataset_of(case: Case) -> DatasetStructure | FramesInput | None:
    return case.structure if isinstance(case.structure, DatasetStructure) else case.frames


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
        What to attempt; see :func:`pending`.
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
        result = item.compute(target, calculator, _settings(task.case, item))
        reference = task.case.scored_reference
        errors = item.compare(result, reference.values if reference else {})
        used = getattr(calculator, "accelerator", "") or Provenance.accelerator
        provenance = replace(record.provenance, accelerator=used)
        record = replace(record, result=asdict(result), errors=errors, provenance=provenance)
        record = Record.from_json(record.to_json())  # NaN or infinity is a failure; tuples become lists, as stored
    except Exception as error:  # noqa: BLE001 - a failed case is a record, never a crash of the run
        _log.debug("%s on %s failed", task.case.id, task.model.name, exc_info=True)
        record = replace(record, status=status_of(error), message=message_of(error), result=None, errors={})
    return replace(record, wall_s=round(time.perf_counter() - began, 3))


def _refuse_namesakes(specs: list[ModelSpec]) -> None:
    for spec in specs:
        other = next((other for other in specs if other.name == spec.name and other.sha256 != spec.sha256), None)
        if other is not None:
            raise UnknownNameError(
                f'Two models are called "{spec.name}": {spec.source} and {other.source}.',
                fix="rename one of the files; tables show their names.",
            )


def dtype_of(model: ModelSpec, item: Property) -> str | None:
    """Return the dtype of a case: float64, or float32 for timings and dynamics; None where the model has its own."""
    if model.fixed_dtype:
        return None
    return "float32" if item.timing or item.single_precision else "float64"


def dispersion_of(model: ModelSpec, case: Case) -> str:
    """Return the functional of the D3 that a case adds to a model; empty if none, or if its labels hold dispersion."""
    if not case.dispersion or is_path(model.source):
        return case.dispersion
    return case.dispersion if find_model(model.source).dispersion in {"none", "unknown"} else ""


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
        accelerate=_ACCELERATE,
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


def _settings(case: Case, item: Property) -> Any:  # noqa: ANN401 - the property's own dataclass
    return parse(case.settings, item.settings, where=f"[settings] of {case.id}")


def _key(model: ModelSpec, case: Case, options: RunOptions) -> str:
    item = get_property(case.property)
    content = {
        "model": model.sha256,
        "head": model.head,
        "dtype": dtype_of(model, item),
        "accelerator": _ACCELERATE,
        "dispersion": dispersion_of(model, case) or Provenance.dispersion,
        "case": case.content_hash(),
        "settings": asdict(_settings(case, item)),  # with the defaults that the card leaves out
        "input": _input_hash(case),
        "version": item.version,
        "device": options.device,
        "machine": [machine.hardware(options.device), thread_count(), machine.package_versions()]
        if item.timing
        else None,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


def _input_hash(case: Case) -> list[Any]:
    data = _dataset_of(case)
    if data is not None:
        files = find_dataset(data.dataset).files
        return [[file.sha256, file.reader, file.options] for file in files if file.split == data.split]
    if isinstance(case.structure, FileStructure):
        path = paths.reference_data() / "structures" / case.structure.file
        return [sha256_of(path) if path.is_file() else "missing"]  # building it says what is wrong
    return []


def identity(task: Task) -> Identity:
    """Return what the name of the task's model stands for, as its record will say it."""
    return Identity(task.model.sha256, task.model.head or "", task.options.device)


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
