"""From a recipe to trained models: prepare, train or resume, keep the best of every stage."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from mace_ft_bench.calculators.factory import resolve_device
from mace_ft_bench.calculators.mace import MaceCalculator
from mace_ft_bench.errors import DataError, UnsupportedElementError
from mace_ft_bench.finetune.config import MultiheadReplay, Scratch
from mace_ft_bench.finetune.e0s import choose_e0s, is_isolated_atom
from mace_ft_bench.finetune.engines import choose_engine
from mace_ft_bench.finetune.graphs import label_counts, to_graphs
from mace_ft_bench.finetune.history import best_of, stages
from mace_ft_bench.finetune.initial import HEAD, PARENT_HEAD, derived_model, random_model
from mace_ft_bench.finetune.loop import Trainer
from mace_ft_bench.finetune.parent import load_parent
from mace_ft_bench.finetune.prepare import load_sources, prepare_frames, replay_frames
from mace_ft_bench.finetune.run_folder import claim, load_state, locked, store_state, write_json
from mace_ft_bench.finetune.strategies import finish, prepare, trained_parts
from mace_ft_bench.finetune.unseen_elements import elements_of, hold_unseen
from mace_ft_bench.zoo.checkpoint import copy_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ase import Atoms

    from mace_ft_bench.finetune.config import FinetuneConfig
    from mace_ft_bench.finetune.loop import State
    from mace_ft_bench.finetune.objective import EpochErrors
    from mace_ft_bench.finetune.parent import Parent


@dataclass(frozen=True)
class Frames:
    """What a run learns from."""

    training: list[Atoms]
    validation: list[Atoms]
    replay: list[Atoms]
    """Frames of the parent's domain; empty unless replayed."""


@dataclass(frozen=True)
class Trained:
    """What a run made."""

    models: dict[str, Any]
    """By stage the best model, as it is served."""
    frames: Frames
    history: tuple[EpochErrors, ...]
    e0s: dict[str, float]
    """Energy per element [eV] of the head that was trained."""
    best_epochs: dict[str, int]
    """By stage the epoch of that model; -1 where no epoch was better than the start."""


def train(  # noqa: PLR0913 - three of them report
    config: FinetuneConfig,
    folder: Path,
    *,
    mirror: Path | None = None,
    trust: bool = False,
    on_errors: Callable[[EpochErrors], None] | None = None,
    on_frames: Callable[[Frames], None] | None = None,
    on_kept: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train, or resume an interrupted run of the same recipe exactly where its last validation left it.

    Parameters
    ----------
    config
        The recipe.
    folder
        Run folder. It receives the frames, ``run.json`` with everything needed to repeat the run, ``state.pt`` from
        which it resumes and ``history.jsonl``.
    mirror
        Folder of dataset copies.
    trust
        Allow a parent that must be unpickled.
    on_errors
        Called with the errors of every validation, also those of the part of the run that lies behind.
    on_frames
        Called with the frames before training starts.
    on_kept
        Called with the numbers of frames done and in all, where features are computed once before training.

    Raises
    ------
    TrainingError
        If another process trains in the folder, the folder holds a run of another recipe or of other frames, or
        training diverges.
    DataError
        If frames lack what training needs, or do not determine the E0s.
    UnsupportedElementError
        If the parent does not know an element of the frames.
    UnknownNameError
        If there is no such device.
    """
    resolve_device(config.device)
    with locked(folder):
        parent = _parent(config, trust=trust)
        frames = _load(config, parent, mirror)
        if on_frames:
            on_frames(frames)
        parts = {"train": frames.training, "valid": frames.validation}
        claim(
            folder,
            config,
            parts | ({"replay": frames.replay} if frames.replay else {}),
            parent.sha256 if parent else "",
        )
        e0s = _e0s(config, frames, parent)
        trainer = _trainer(config, frames, parent, e0s, on_kept)
        _describe(folder, trainer, e0s)
        _resume(trainer, folder, on_errors)
        state = trainer.run(
            after_epoch=lambda state: store_state(folder, state.pack(), state.history), on_errors=on_errors
        )
        second = state.first_of_stage if state.stage == "two" else None
        best = {stage: best_of(part).epoch for stage, part in stages(state.history, second).items()}
        return Trained(_best_models(config, state), frames, tuple(state.history), e0s, best)


def _parent(config: FinetuneConfig, *, trust: bool) -> Parent | None:
    strategy = config.strategy
    if isinstance(strategy, Scratch):
        return None
    return load_parent(strategy.parent, strategy.parent_head, dtype=getattr(torch, config.dtype), trust=trust)


def _load(config: FinetuneConfig, parent: Parent | None, mirror: Path | None) -> Frames:
    training, validation = prepare_frames(config.data, mirror=mirror)
    if not training:
        raise DataError(
            "No frame is left to train on.",
            fix="name more in data.sources; exclude and valid take theirs out.",
        )
    if not validation:
        raise DataError(
            f"No frame is left to validate ({len(training)} frames, valid_fraction {config.data.valid_fraction}).",
            fix="name validation frames in data.valid, raise valid_fraction, or give frames of one kind the same "
            "config_type: one that is alone in its group trains.",
        )
    if parent is not None:
        _refuse_unknown_elements(parent, [*training, *validation])
    if parent is None or not isinstance(config.strategy, MultiheadReplay):
        return Frames(training, validation, [])
    never = [*load_sources(config.data.exclude, mirror=mirror), *validation]
    return Frames(training, validation, replay_frames(config.strategy, parent, config.seed, of=never, mirror=mirror))


def _refuse_unknown_elements(parent: Parent, frames: Sequence[Atoms]) -> None:
    unknown = sorted(elements_of(frames) - set(parent.e0s))
    if unknown:
        raise UnsupportedElementError(
            f"The frames have {', '.join(unknown)}, which {parent.name} does not know.",
            fix="choose a parent that knows the elements, or leave the frames out.",
        )


def _e0s(config: FinetuneConfig, frames: Frames, parent: Parent | None) -> dict[str, float]:
    """Return E0s of the training frames' elements, and of those that are replayed or kept from the parent."""
    interaction = None
    if parent is not None and config.e0s.policy == "least-squares":
        interaction = interaction_energies(parent, frames.training)
    found = choose_e0s(config.e0s, frames.training, parent=parent.e0s if parent else None, interaction=interaction)
    unseen = sorted(elements_of(frames.validation) - set(found))
    if unseen:
        raise DataError(
            f"Validation frames have {', '.join(unseen)}, which no training frame has.",
            fix="train on frames with the element, or take these out of data.valid.",
        )
    if parent is None or isinstance(config.strategy, Scratch):
        return found
    others = set(parent.e0s) if config.strategy.keep_elements else elements_of(frames.replay)
    # The trained head never sees these elements; the parent's values keep it defined for them.
    return found | {symbol: parent.e0s[symbol] for symbol in sorted(others - set(found))}


def interaction_energies(parent: Parent, frames: Sequence[Atoms]) -> list[float]:
    """Return the energy of every frame by the parent without its E0s [eV]."""
    calculator = MaceCalculator(copy_model(parent.model), name=parent.name, device="cpu", dtype=torch.float64)
    results = calculator.evaluate(frames)
    return [
        result["energy"] - sum(parent.e0s[str(symbol)] for symbol in frame.symbols)
        for frame, result in zip(frames, results, strict=True)
    ]


def _trainer(
    config: FinetuneConfig,
    frames: Frames,
    parent: Parent | None,
    e0s: dict[str, float],
    on_kept: Callable[[int, int], None] | None,
) -> Trainer:
    if parent is None:
        shape = cast("Scratch", config.strategy).architecture
        usual = [frame for frame in frames.training if not is_isolated_atom(frame)]
        model = random_model(shape, e0s, usual, dtype=config.dtype, seed=config.seed)
    else:
        kept = {PARENT_HEAD: {symbol: parent.e0s[symbol] for symbol in e0s}} if frames.replay else {}
        model = derived_model(parent.model, kept | {HEAD: e0s})
    prepared = prepare(model, config.strategy, seed=config.seed)
    everything = [*frames.training, *frames.validation, *frames.replay]
    engine = choose_engine(config, prepared, [len(frame) for frame in everything])
    if engine != "torch":
        prepared = prepared.double()
    weights = config.config_type_weights
    training = to_graphs(frames.training, prepared, head=HEAD, group_weights=weights)
    validation = to_graphs(frames.validation, prepared, head=HEAD, group_weights=weights)
    if isinstance(config.strategy, MultiheadReplay):
        replay = to_graphs(frames.replay, prepared, head=PARENT_HEAD)
        for graph in replay:
            graph.weight *= config.strategy.weight
            for label, factor in asdict(config.strategy.label_weights).items():
                graph[f"{label}_weight"] *= factor
        training += replay
    trainer = Trainer(config, prepared, training, validation, engine, on_kept)
    learnt = [frame for frame in [*frames.training, *frames.replay] if not is_isolated_atom(frame)]
    hold_unseen(prepared, trainer.state.optimiser, set(e0s) - elements_of(learnt))
    return trainer


def _describe(folder: Path, trainer: Trainer, e0s: dict[str, float]) -> None:
    """Write what the request came to: E0s, labels, and how many parameters of every part are trained."""
    effective = {
        "e0s_ev": e0s,
        "engine": trainer.engine.name,
        "labels_train": label_counts(trainer.training),
        "labels_valid": label_counts(trainer.validation),
        "trained_parameters": trained_parts(trainer.state.model),
        "learning_rate_first_epoch": trainer.learning_rate(0),
    }
    write_json(folder / "effective.json", effective)


def _resume(trainer: Trainer, folder: Path, on_errors: Callable[[EpochErrors], None] | None) -> None:
    packed = load_state(folder)
    if packed is None:
        return
    trainer.state.unpack(packed)
    for errors in trainer.state.history:
        if on_errors:
            on_errors(errors)


def _best_models(config: FinetuneConfig, state: State) -> dict[str, Any]:
    """Return the averaged weights of the best validation of every stage as models."""
    models = {}
    for stage, weights in state.best.items():
        state.model.load_state_dict(weights)
        models[stage] = finish(copy_model(state.model), config.strategy).to(getattr(torch, config.dtype)).eval()
    return models
