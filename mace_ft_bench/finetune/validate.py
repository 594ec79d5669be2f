"""Validation of a finished run: errors by quantity and config_type, side by side with the parent.

The result is plain data (``report``, what ``validation.json`` holds) and the labels and predictions that figures draw.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, TypeAlias

from mace_ft_bench.datasets.frames import ENERGY
from mace_ft_bench.errors import DataError, TrainingError
from mace_ft_bench.finetune.compared_models import fine_tuned_model, parent_model
from mace_ft_bench.finetune.finished_run import read_run
from mace_ft_bench.finetune.forgetting import forgetting_entry
from mace_ft_bench.finetune.history import best_of
from mace_ft_bench.finetune.label_errors import QUANTITIES
from mace_ft_bench.finetune.unseen_elements import elements_of
from mace_ft_bench.finetune.validation_split import (
    Split,
    fitted_shift,
    known_part,
    new_split,
    predict,
    split_entry,
)
from mace_ft_bench.units import EV_PER_A3_IN_GPA, MEV

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ase import Atoms

    from mace_ft_bench.finetune.compared_models import ComparedModel
    from mace_ft_bench.finetune.finished_run import FinishedRun
    from mace_ft_bench.finetune.label_errors import Array
    from mace_ft_bench.finetune.objective import EpochErrors
    from mace_ft_bench.properties.base import Evaluation

MADE_BY = "mfb validate"
_PACKAGES = ("mace-ft-bench", "mace-torch", "torch", "e3nn", "numpy", "ase", "chgnet")

Samples: TypeAlias = "dict[str, dict[str, Array]]"
"""By split and quantity the labels, the predictions of the fine-tuned model and those of the parent, one row each."""


@dataclass(frozen=True)
class Options:
    """What to validate on, and with which parent."""

    tests: tuple[str, ...] = ()
    """Splits (``<dataset>:<split>``) or files of frames that the run has not seen."""
    forgetting: tuple[str, ...] = ()
    """The same with frames of the parent's domain, labelled as its training data was."""
    parent: str | None = None
    """Name or path of the model to compare with, or ``none``; by default the parent of the run."""
    mirror: Path | None = None
    """Folder of dataset copies."""
    device: str = "auto"
    trust: bool = False
    """Allow a parent that must be unpickled."""


@dataclass(frozen=True)
class Validation:
    """What a validation found."""

    report: dict[str, Any]
    """Plain data."""
    samples: Samples


def validate(folder: Path, options: Options, *, on_step: Callable[[str], None] | None = None) -> Validation:
    """Compare the exported model of a run, and its parent, with the labels of all frames.

    Parameters
    ----------
    folder
        Run folder of ``mfb finetune``.
    options
        See :class:`Options`.
    on_step
        Called with what is done next.

    Raises
    ------
    TrainingError
        If the folder holds no finished run, its frames were changed, the parent is no longer the same, or
        forgetting is asked for without a parent.
    DataError
        If a split has no frame left, or a label is malformed.
    """
    say = on_step or (lambda _: None)
    _refuse_twice([*options.tests, *options.forgetting])
    run = read_run(folder)
    own = {name: run.frames(name) for name in ("train", "valid", "replay")}
    seen = [frame for part in own.values() for frame in part]
    splits = [_own_split(run, name, own[name]) for name in ("train", "valid")]
    splits += [new_split(name, "test", seen, options.mirror) for name in options.tests]
    domain = [new_split(name, "forgetting", seen, options.mirror) for name in options.forgetting]
    parent = parent_model(run, options.parent, device=options.device, trust=options.trust)
    _refuse_unknown(parent, own["train"])
    if parent is None and domain:
        raise TrainingError(
            "Without a parent nothing can be forgotten.", fix="leave --forgetting out, or name a --parent."
        )
    tuned = fine_tuned_model(run, device=options.device)
    report = _head(run, tuned)
    samples: Samples = {}
    zero = _Zero("the parent's own", {})
    for split in [known_part(split, tuned, parent) for split in splits]:
        say(f"{split.name}: {len(split.frames)} frames")
        mine, theirs = predict(tuned, split), predict(parent, split) if parent else None
        if split.role == "train" and theirs is not None:
            zero = _parents_zero(run, split.frames, theirs)
        entry, samples[split.name] = split_entry(split, mine, theirs, parents_shift=zero.shift_ev)
        report["splits"].append(entry)
    if parent is not None:
        report["parent"] = _described(parent) | {"zero": zero.meaning, "shift_ev": zero.shift_ev}
    report["gap"] = _gap(report["splits"])
    for split in domain:
        say(f"{split.name}: {len(split.frames)} frames of the parent's domain")
        if parent is not None:
            report["forgetting"].append(forgetting_entry(split, tuned, parent))
    return Validation(report, samples)


@dataclass(frozen=True)
class _Zero:
    """How the parent's zero of energy is brought to that of the labels."""

    meaning: str
    shift_ev: dict[str, float]
    """Added to its energies, per element."""


def _refuse_twice(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{name} is named twice.", fix="name it once, as --test or as --forgetting.")


def _refuse_unknown(parent: ComparedModel | None, frames: Sequence[Atoms]) -> None:
    unknown = sorted(elements_of(frames) - parent.elements) if parent else []
    if parent and unknown:
        raise DataError(
            f"{parent.name} does not know {', '.join(unknown)} of the training frames.",
            fix="compare with a model that does, or with --parent none.",
        )


def _own_split(run: FinishedRun, name: str, frames: list[Atoms]) -> Split:
    file = f"{name}.xyz"
    return Split(name, name, frames, {}, {file: run.run["sha256"][file]})


def _parents_zero(run: FinishedRun, frames: Sequence[Atoms], found: Sequence[Evaluation]) -> _Zero:
    """Return no shift where the recipe took the parent's E0s; else the one that suits the training labels best."""
    if run.config.e0s.policy == "parent" or not any(ENERGY in frame.info for frame in frames):
        return _Zero("the parent's own", {})
    return _Zero("fitted to the training frames, one shift per element", fitted_shift(frames, found))


def _head(run: FinishedRun, tuned: ComparedModel) -> dict[str, Any]:
    """Return what is known before anything is evaluated."""
    return {
        "made_by": MADE_BY,
        "name": run.config.name,
        "recipe": run.run["recipe"],
        "model": _described(tuned) | {"file": run.weights.name, "dtype": "float64"},
        "parent": None,
        "training": {
            "stages": {name: [_epoch(errors) for errors in part] for name, part in run.stages.items()},
            "best_epochs": {name: best_of(part).epoch for name, part in run.stages.items()},
            "chosen": run.chosen,
            "best_epoch": run.best_epoch,
            "versions": run.run["versions"],
        },
        "splits": [],
        "forgetting": [],
        "versions": _versions(),
    }


def _epoch(errors: EpochErrors) -> dict[str, float | None]:
    """Return the errors of an epoch, the stress in the unit of all others."""
    found = asdict(errors)
    stress = found.pop("stress_rmse_mev_per_a3")
    return found | {"stress_rmse_gpa": None if stress is None else stress / MEV * EV_PER_A3_IN_GPA}


def _described(model: ComparedModel) -> dict[str, Any]:
    return {"name": model.name, "sha256": model.sha256, "elements": sorted(model.elements)}


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an optional one
            continue
    return found


def _gap(splits: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None] | None]:
    """Return by model and quantity how many times larger the RMSE is on validation than on training frames."""
    rows = {split["role"]: split["errors"][0] for split in splits if split["role"] in {"train", "valid"}}
    return {model: _ratios(rows["train"][model], rows["valid"][model]) for model in ("fine_tuned", "parent")}


def _ratios(train: Mapping[str, Any] | None, valid: Mapping[str, Any] | None) -> dict[str, float | None] | None:
    if train is None or valid is None:
        return None
    both = {name: (train[name], valid[name]) for name in QUANTITIES}
    return {name: b["rmse"] / a["rmse"] if a and b and a["rmse"] else None for name, (a, b) in both.items()}
