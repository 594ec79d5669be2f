"""Validation of a finished run, or of any model: errors by quantity and config_type, side by side with the parent.

The result is plain data (``report``, what ``validation.json`` holds) and the labels and predictions that figures draw.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from mace_ft_bench.datasets.frames import ENERGY
from mace_ft_bench.errors import DataError, TrainingError
from mace_ft_bench.finetune.compared_models import (
    NO_PARENT,
    card_of,
    domain_model,
    fine_tuned_model,
    parent_model,
    served_model,
)
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

    from ase import Atoms

    from mace_ft_bench.finetune.compared_models import ComparedModel
    from mace_ft_bench.finetune.finished_run import FinishedRun
    from mace_ft_bench.finetune.label_errors import Array
    from mace_ft_bench.finetune.objective import EpochErrors
    from mace_ft_bench.properties.base import Evaluation
    from mace_ft_bench.zoo.card import ModelCard

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


def validate(target: Path | str, options: Options, *, on_step: Callable[[str], None] | None = None) -> Validation:
    """Compare a model, and its parent, with the labels of frames.

    Parameters
    ----------
    target
        Run folder of ``mfb finetune``, whose exported model is compared on its training and validation frames, too; or
        the name or path of any model, which is compared on ``options.tests`` alone.
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
        If there is no frame to validate on, or a label is malformed.
    """
    say = on_step or (lambda _: None)
    _refuse_twice([*options.tests, *options.forgetting])
    subject = _of_run(Path(target), options) if Path(target).is_dir() else _of_model(str(target), options)
    tuned, parent = subject.tuned, subject.parent
    splits = subject.own + [new_split(name, "test", subject.seen, options.mirror) for name in options.tests]
    if not splits:
        raise DataError(f"There are no frames to validate {tuned.name} on.", fix="name some with --test.")
    domain = [new_split(name, "forgetting", subject.seen, options.mirror) for name in options.forgetting]
    if parent is None and domain:
        raise TrainingError(
            "Without a parent nothing can be forgotten.", fix="leave --forgetting out, or name a --parent."
        )
    report, samples, zero = subject.head | {"splits": [], "forgetting": []}, {}, None
    for split in [known_part(split, tuned, parent) for split in splits]:
        say(f"{split.name}: {len(split.frames)} frames")
        mine, theirs = predict(tuned, split), predict(parent, split) if parent else None
        if zero is None:
            zero = _parents_zero(subject, split, theirs)
        entry, samples[split.name] = split_entry(split, mine, theirs, parents_shift=zero.shift_ev)
        report["splits"].append(entry)
    if parent is not None and zero is not None:
        report["parent"] = _described(parent) | {"zero": zero.meaning, "shift_ev": zero.shift_ev}
    report["gap"] = _gap(report["splits"]) if subject.own else None
    for split in domain:
        say(f"{split.name}: {len(split.frames)} frames of the parent's domain")
        if parent is not None:
            report["forgetting"].append(forgetting_entry(split, subject.in_domain, parent))
    return Validation(report, samples)


@dataclass(frozen=True)
class _Subject:
    """What is validated."""

    tuned: ComparedModel
    in_domain: ComparedModel
    """The same for the parent's domain: with the parent's head, where it has one."""
    parent: ComparedModel | None
    head: dict[str, Any]
    """What the report says before anything is evaluated."""
    own: list[Split]
    """Training and validation frames of the run, in this order; none for a model without its run."""
    seen: list[Atoms]
    """Frames that are no test any more."""
    own_zero: bool = False
    """Whether the labels have the parent's zero of energy."""


def _of_run(folder: Path, options: Options) -> _Subject:
    run = read_run(folder)
    frames = {name: run.frames(name) for name in ("train", "valid", "replay")}
    parent = parent_model(run, options.parent, device=options.device, trust=options.trust)
    _refuse_unknown(parent, frames["train"])
    tuned = fine_tuned_model(run, device=options.device)
    return _Subject(
        tuned=tuned,
        in_domain=domain_model(tuned, str(run.weights), device=options.device, trust=False),
        parent=parent,
        head=_head_of_run(run, tuned),
        own=[_own_split(run, name, frames[name]) for name in ("train", "valid")],
        seen=[frame for part in frames.values() for frame in part],
        own_zero=run.config.e0s.policy == "parent",
    )


def _of_model(name: str, options: Options) -> _Subject:
    card = card_of(name)
    tuned = served_model(name, device=options.device, trust=options.trust)
    wanted = options.parent or (card.parent if card else "") or NO_PARENT
    parent = None if wanted == NO_PARENT else served_model(wanted, device=options.device, trust=options.trust)
    head = _head(tuned, file=Path(name).name if card is None else Path(card.file).name or card.name)
    in_domain = domain_model(tuned, name, device=options.device, trust=options.trust)
    return _Subject(tuned, in_domain, parent, head | {"card": _card_rows(card)}, own=[], seen=[])


def _card_rows(card: ModelCard | None) -> dict[str, str]:
    """Return what a card says of a model to people, by its name."""
    if card is None:
        return {}
    training = card.training
    return {
        "model": card.description,
        "architecture": card.architecture,
        "level of theory": card.functional,
        "parent": card.parent,
        "strategy": training.strategy if training else "",
        "trained on": f"{training.frames_train} frames of {', '.join(training.sources)}" if training else "",
        "recipe": training.recipe if training else "",
        "licence": card.licence,
    }


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


def _parents_zero(subject: _Subject, first: Split, found: Sequence[Evaluation] | None) -> _Zero:
    """Return the shift that suits the labels of the first split best; none where they have the parent's zero."""
    if found is None or subject.own_zero or not any(ENERGY in frame.info for frame in first.frames):
        return _Zero("the parent's own", {})
    where = "the training frames" if first.role == "train" else first.name
    return _Zero(f"fitted to {where}, one shift per element", fitted_shift(first.frames, found))


def _head(tuned: ComparedModel, *, file: str) -> dict[str, Any]:
    """Return what is known of a model before anything is evaluated."""
    return {
        "made_by": MADE_BY,
        "name": tuned.name,
        "recipe": None,
        "model": _described(tuned) | {"file": file, "dtype": "float64"},
        "parent": None,
        "training": None,
        "versions": _versions(),
    }


def _head_of_run(run: FinishedRun, tuned: ComparedModel) -> dict[str, Any]:
    return _head(tuned, file=run.weights.name) | {
        "recipe": run.run["recipe"],
        "training": {
            "stages": {name: [_epoch(errors) for errors in part] for name, part in run.stages.items()},
            "best_epochs": {name: best_of(part).epoch for name, part in run.stages.items()},
            "chosen": run.chosen,
            "best_epoch": run.best_epoch,
            "versions": run.run["versions"],
        },
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
