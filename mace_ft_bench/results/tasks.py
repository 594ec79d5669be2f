"""Tasks of a run: which case on which model, under which key, and which of them are still to do."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from mace_ft_bench import paths
from mace_ft_bench.calculators.d3.parameters import functional_name
from mace_ft_bench.calculators.factory import is_path, resolve_device
from mace_ft_bench.calculators.threads import thread_count
from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.datasets.card import find_dataset
from mace_ft_bench.datasets.fetch import locate
from mace_ft_bench.errors import MaceFtBenchError, MissingDataError, UnknownNameError
from mace_ft_bench.properties.base import Property, get_property
from mace_ft_bench.results import machine
from mace_ft_bench.results.case import Case, DatasetStructure, FileStructure, FramesInput
from mace_ft_bench.results.record import RETRIED, Provenance, Status
from mace_ft_bench.results.selection import Identity
from mace_ft_bench.toml_schema import parse
from mace_ft_bench.zoo.registry import find_model

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mace_ft_bench.results.model_spec import ModelSpec
    from mace_ft_bench.results.store import RecordStore

ACCELERATE = "auto"
"""How calculators choose their accelerator; whichever it is has reproduced the plain path, and the record names it."""


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


def plan(models: Iterable[ModelSpec], cases: Iterable[Case], options: RunOptions) -> list[Task]:
    """Return the tasks of a run, model by model; settings of every case are checked here, before any work.

    Raises
    ------
    CardError
        If a case has settings its property does not take.
    UnknownNameError
        If a case names an unknown property or functional of D3, or two different models share a name.
    """
    chosen = list(cases)
    options = replace(options, device=resolve_device(options.device))
    if options.mirror is not None and not options.mirror.is_dir():
        raise MissingDataError(f"The mirror folder {options.mirror} does not exist.", fix="correct --mirror.")
    specs = list(dict.fromkeys(models))
    _refuse_namesakes(specs)
    for case in chosen:
        settings_of(case)
        if case.dispersion:
            functional_name(case.dispersion, "bj")
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


def settings_of(case: Case) -> Any:  # noqa: ANN401 - the property's own dataclass
    """Return the settings of a case as its property takes them."""
    item = get_property(case.property)
    return parse(case.settings, item.settings, where=f"[settings] of {case.id}")


def _key(model: ModelSpec, case: Case, options: RunOptions) -> str:
    item = get_property(case.property)
    content = {
        "model": model.sha256,
        "head": model.head,
        "dtype": dtype_of(model, item),
        "accelerator": ACCELERATE,
        "dispersion": dispersion_of(model, case) or Provenance.dispersion,
        "case": case.content_hash(),
        "settings": asdict(settings_of(case)),  # with the defaults that the card leaves out
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
