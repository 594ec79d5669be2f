"""Studies: strategies, shares of the data and seeds, each a run of its own, each run one record.

A study has a base recipe; a variant changes parts of it. All runs take the same number of steps, so that less data is
not less training. A run that fails is a record that says so: it is never left out of a mean unnoticed.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from mace_ft_bench.errors import CardError, DataError, MaceFtBenchError
from mace_ft_bench.finetune.config import (
    E0sConfig,
    FinetuneConfig,
    LossWeights,
    MultiheadReplay,
    Scratch,
    Strategy,
    load_recipe,
)
from mace_ft_bench.finetune.export import export
from mace_ft_bench.finetune.parent import weights_sha256
from mace_ft_bench.finetune.prepare import prepare_frames
from mace_ft_bench.finetune.run_folder import write_json
from mace_ft_bench.finetune.train import train
from mace_ft_bench.finetune.validate import Options, validate
from mace_ft_bench.toml_schema import StrictTable, parse, read_toml

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

STUDY, RECORDS, RUNS = "study.json", "records", "runs"
_VALIDATIONS = 20
"""Validations per run, about."""
_MOST_STEPS = 1.5
"""Of those asked for: two epochs, the least of a run, may be more."""
_MAY_DIFFER = {"name", "variants", "fractions", "seeds"}
"""Of a study and what its folder holds already: none changes a run that both have, as its variant is compared."""


@dataclass(frozen=True)
class Variant(StrictTable):
    """What a curve of the study changes in the base recipe; nothing where left out."""

    strategy: Strategy | None = None
    weights: LossWeights | None = None
    """Of both stages."""
    e0s: E0sConfig | None = None
    lr: float | None = None
    """Learning rate of stage one; that of stage two is scaled along."""
    batch_size: int | None = None
    """Frames of a step; the number of steps stays."""
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        if self.lr is not None and not self.lr > 0:
            raise CardError(f"lr {self.lr} is not positive.", fix="give lr > 0.")
        if self.batch_size is not None and self.batch_size < 1:
            raise CardError(f"batch_size {self.batch_size} is below 1.", fix="give batch_size >= 1.")
        if self.weight_decay is not None and self.weight_decay < 0:
            raise CardError(f"weight_decay {self.weight_decay} is negative.", fix="give weight_decay >= 0.")


@dataclass(frozen=True)
class StudyConfig(StrictTable):
    """A study."""

    name: str
    recipe: str
    """Base recipe, relative to the file of the study."""
    variants: dict[str, Variant]
    """By the name of their curve."""
    fractions: tuple[float, ...] = (1.0,)
    """Shares of the training frames."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Every seed draws another share, other initial weights and another order of frames."""
    steps: int = 2000
    """Steps of every run, whatever its share."""
    tests: tuple[str, ...] = ()
    """Splits or files the models are compared on; the validation frames where left out."""
    forgetting: tuple[str, ...] = ()
    """Splits or files of the parent's domain."""

    def __post_init__(self) -> None:
        if not (self.variants and self.fractions and self.seeds):
            raise CardError("variants, fractions or seeds is empty.", fix="name at least one of each.")
        if min(self.fractions) <= 0 or max(self.fractions) > 1 or self.steps < 1 or min(self.seeds) < 0:
            raise CardError(
                "fractions, steps or seeds are out of range.", fix="give 0 < fraction <= 1, steps >= 1, seeds >= 0."
            )
        for names in (self.fractions, self.seeds):
            if len(set(names)) < len(names):
                raise CardError(f"{list(names)} names something twice.", fix="name it once.")


@dataclass(frozen=True)
class StudyRun:
    """One run of a study."""

    variant: str
    fraction: float
    seed: int
    config: FinetuneConfig
    steps_per_epoch: int

    @property
    def name(self) -> str:
        """Names its folder and its record."""
        return self.config.name


def load_study(path: Path) -> tuple[StudyConfig, FinetuneConfig]:
    """Read a study and its base recipe.

    Raises
    ------
    CardError
        Naming every offending key.
    """
    study = parse(read_toml(path), StudyConfig, where=str(path))
    base = load_recipe(path.parent / study.recipe)
    if base.data.group_fractions or base.optimiser.patience:
        raise CardError(
            f"{study.recipe} has group_fractions or a patience: shares and steps would not be what the study says.",
            fix="use a base recipe without them.",
        )
    return study, base


def plan(study: StudyConfig, base: FinetuneConfig, *, mirror: Path | None = None) -> list[StudyRun]:
    """Return the runs of a study, seed by seed, so that an interrupted study has whole curves."""
    return [
        _planned(study, base, (name, variant), fraction, seed, mirror)
        for seed in study.seeds
        for fraction in sorted(study.fractions)
        for name, variant in study.variants.items()
    ]


def _planned(  # noqa: PLR0913, PLR0917 - the coordinates of a run
    study: StudyConfig,
    base: FinetuneConfig,
    variant: tuple[str, Variant],
    fraction: float,
    seed: int,
    mirror: Path | None,
) -> StudyRun:
    name, changes = variant
    data = replace(base.data, train_fraction=fraction, share_seed=seed)
    training, _ = prepare_frames(data, mirror=mirror)
    strategy = changes.strategy or base.strategy
    replayed = strategy.frames if isinstance(strategy, MultiheadReplay) else 0
    batch_size = changes.batch_size or base.optimiser.batch_size
    steps_per_epoch = math.ceil((len(training) + replayed) / batch_size)
    epochs = max(2, round(study.steps / steps_per_epoch))
    if epochs * steps_per_epoch > _MOST_STEPS * study.steps:
        raise CardError(
            f"{study.steps} steps are less than two epochs of share {fraction:g} ({steps_per_epoch} steps each).",
            fix="raise steps: every run is to take the same number, and two epochs at least.",
        )
    lr = base.optimiser.lr if changes.lr is None else changes.lr
    weight_decay = base.optimiser.weight_decay if changes.weight_decay is None else changes.weight_decay
    config = replace(
        base,
        name=f"{name}-{fraction:g}-{seed}",
        seed=seed,
        data=data,
        strategy=strategy,
        weights=changes.weights or base.weights,
        e0s=changes.e0s or base.e0s,
        optimiser=replace(_stretched(base, epochs, lr), batch_size=batch_size, weight_decay=weight_decay),
        stage_two=_second_stage(base, epochs, lr, changes.weights),
        eval_interval=max(1, epochs // _VALIDATIONS),
    )
    return StudyRun(name, fraction, seed, config, steps_per_epoch)


def _stretched(base: FinetuneConfig, epochs: int, lr: float) -> Any:  # noqa: ANN401 - an OptimiserConfig
    """Return the optimiser for another number of epochs: the learning rate ends where that of the base ends."""
    decay = base.optimiser.lr_decay ** (base.optimiser.max_epochs / epochs)
    return replace(base.optimiser, lr=lr, lr_decay=decay, max_epochs=epochs)


def _second_stage(base: FinetuneConfig, epochs: int, lr: float, weights: LossWeights | None) -> Any:  # noqa: ANN401 - a StageTwoConfig or None
    if base.stage_two is None:
        return None
    share = base.stage_two.start_epoch / base.optimiser.max_epochs
    start = min(max(1, round(share * epochs)), epochs - 1)
    return replace(
        base.stage_two,
        start_epoch=start,
        lr=base.stage_two.lr * lr / base.optimiser.lr,
        weights=weights or base.stage_two.weights,
    )


def run_study(  # noqa: PLR0913 - as `mfb study`
    study: StudyConfig,
    base: FinetuneConfig,
    folder: Path,
    *,
    mirror: Path | None = None,
    trust: bool = False,
    on_record: Callable[[dict[str, Any], int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Make every run of a study that the folder does not have yet, and return all records.

    Parameters
    ----------
    study, base
        Of :func:`load_study`.
    folder
        Receives ``records/`` and ``runs/``; an interrupted run resumes.
    mirror
        Folder of dataset copies.
    trust
        Allow parents that must be unpickled.
    on_record
        Called with every record, its number and the number of all.

    Raises
    ------
    DataError
        If the folder holds another study, or records of other parents.
    TrainingError, UnknownNameError
        If a parent is no MACE model, or does not exist.
    """
    runs = plan(study, base, mirror=mirror)
    _claim(folder, study, base, _parents(runs, trust=trust))
    records = []
    for number, run in enumerate(runs, 1):
        path = folder / RECORDS / f"{run.name}.json"
        record = _stored(path) or _made(run, study, folder, mirror=mirror, trust=trust)
        write_json(path, record)
        records.append(record)
        if on_record is not None:
            on_record(record, number, len(runs))
    return records


def _parents(runs: Sequence[StudyRun], *, trust: bool) -> dict[str, str]:
    """Return the checksum of every model that a run starts from, by the name that the recipe gives it."""
    strategies = [run.config.strategy for run in runs]
    names = {strategy.parent for strategy in strategies if not isinstance(strategy, Scratch)}
    return {name: weights_sha256(name, trust=trust) for name in sorted(names)}


def _claim(folder: Path, study: StudyConfig, base: FinetuneConfig, parents: dict[str, str]) -> None:
    """Keep what the study is in its folder.

    A study may name more or fewer variants, shares and seeds than the folder holds: those do not change the other runs.

    Raises
    ------
    DataError
        If the folder holds another study, or one that started from other weights: its records belong to those.
    """
    (folder / RECORDS).mkdir(parents=True, exist_ok=True)
    path = folder / STUDY
    variants = study.variants
    if path.is_file():
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
            before = parse(earlier["study"], StudyConfig, where=str(path))
            before_base = parse(earlier["recipe"], FinetuneConfig, where=str(path))
        except (ValueError, LookupError, TypeError) as error:
            raise DataError(f"{path} is damaged.", fix="choose another --out folder.") from error
        started_from = earlier.get("parents", parents)  # folders of earlier releases do not say
        _refuse_another(folder, (before, before_base, started_from), (study, base, parents))
        variants, parents = before.variants | study.variants, started_from | parents
    write_json(path, {"study": asdict(replace(study, variants=variants)), "recipe": asdict(base), "parents": parents})


_Study = tuple[StudyConfig, FinetuneConfig, dict[str, str]]
"""With the checksums of the parents."""


def _refuse_another(folder: Path, earlier: _Study, own: _Study) -> None:
    """Refuse a study whose runs would not be those that the folder has under the same names."""
    (before, before_base, started_from), (study, base, parents) = earlier, own
    weights = [name for name, sha256 in started_from.items() if parents.get(name, sha256) != sha256]
    if weights:
        raise DataError(
            f"{folder} holds records of another {weights[0]}: its weights have changed since.",
            fix="choose another --out folder.",
        )
    redefined = [name for name, old in before.variants.items() if study.variants.get(name, old) != old]
    changed = [
        *(key for key in _differing(before, study) if key not in _MAY_DIFFER),
        *(f"{study.recipe}: {key}" for key in _differing(before_base, base)),
        *(f"variants.{name}" for name in redefined),
    ]
    if changed:
        raise DataError(
            f"{folder} holds another study; what differs: {', '.join(changed)}.", fix="choose another --out folder."
        )


def _differing(first: Any, second: Any) -> list[str]:  # noqa: ANN401 - two of one dataclass
    return [field.name for field in fields(first) if getattr(first, field.name) != getattr(second, field.name)]


def _stored(path: Path) -> dict[str, Any] | None:
    """Return a record of a run that ended well; one that failed is tried again."""
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record if record["status"] == "ok" else None


def _made(run: StudyRun, study: StudyConfig, folder: Path, *, mirror: Path | None, trust: bool) -> dict[str, Any]:
    where = {"variant": run.variant, "fraction": run.fraction, "seed": run.seed, "name": run.name}
    own = folder / RUNS / run.name
    options = Options(
        tests=study.tests,
        forgetting=() if isinstance(run.config.strategy, Scratch) else study.forgetting,
        mirror=mirror,
        device=run.config.device,
        trust=trust,
    )
    try:
        trained = train(run.config, own, mirror=mirror, trust=trust)
        export(run.config, trained, own)
        report = validate(own, options).report
    except MaceFtBenchError as error:
        return where | {"status": "failed", "message": str(error)}
    except Exception as error:  # noqa: BLE001 - one run must not end the others; the record names what went wrong
        return where | {"status": "failed", "message": f"{type(error).__name__}: {error}"}
    history = [
        {"steps": (errors.epoch + 1) * run.steps_per_epoch, "forces": errors.force_rmse_mev_per_a}
        for errors in trained.history
    ]
    frames = len(trained.frames.training)
    return where | {"status": "ok", "training_frames": frames, "history": history, "report": report}
