"""From a finished run to what users load: the better stage as safetensors, and a draft model card."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ase.data import chemical_symbols

from mace_ft_bench.calculators.mace import MaceCalculator
from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.finetune.config import Scratch
from mace_ft_bench.finetune.history import START
from mace_ft_bench.finetune.run_folder import write_json
from mace_ft_bench.properties import frame_errors
from mace_ft_bench.zoo.checkpoint import copy_model, describe_model, save_checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from ase import Atoms

    from mace_ft_bench.finetune.config import FinetuneConfig
    from mace_ft_bench.finetune.train import Trained

_METRICS = ("energy_rmse_mev_per_atom", "force_rmse_mev_per_a", "stress_rmse_gpa")
_E0S_MEANING = {
    "isolated-atoms": "isolated atoms, labelled as the frames were",
    "given": "given in the recipe",
    "parent": "those of the parent",
    "least-squares": "fitted to the training frames; not isolated atoms, so atomisation energies mean nothing",
}


@dataclass(frozen=True)
class StageErrors:
    """Errors of one stage on the validation frames; None where no frame has the label."""

    stage: str
    energy_rmse_mev_per_atom: float | None
    force_rmse_mev_per_a: float | None
    stress_rmse_gpa: float | None

    def relative_to(self, other: StageErrors) -> float:
        """Return the mean ratio of the errors to those of another stage; below one is better."""
        pairs = [(getattr(self, name), getattr(other, name)) for name in _METRICS]
        ratios = [mine / theirs for mine, theirs in pairs if mine is not None and theirs]
        return sum(ratios) / len(ratios) if ratios else 1.0


@dataclass(frozen=True)
class Export:
    """What an export wrote."""

    weights: Path
    card: Path
    stages: tuple[StageErrors, ...]
    chosen: StageErrors
    warning: str
    """Empty, or why the weights are not worth keeping."""


def export(config: FinetuneConfig, trained: Trained, folder: Path) -> Export:
    """Validate every stage, write the best one as safetensors with a draft card, and say which it was.

    Parameters
    ----------
    config
        The recipe.
    trained
        What the run made.
    folder
        Run folder; receives ``<name>.safetensors``, ``<name>.toml`` and ``validation.json``.
    """
    stages = [
        validate_stage(f"stage {stage}", model, trained.frames.validation) for stage, model in trained.models.items()
    ]
    best = min(stages, key=lambda stage: stage.relative_to(stages[0]))
    name, model = list(trained.models.items())[stages.index(best)]
    weights, card = folder / f"{config.name}.safetensors", folder / f"{config.name}.toml"
    save_checkpoint(model, weights)
    card.write_text(draft_card(config, trained, model, weights), encoding="utf-8")
    write_json(folder / "validation.json", {"chosen": best.stage, "stages": [asdict(stage) for stage in stages]})
    warning = untrained_warning(config, trained.best_epochs[name])
    return Export(weights=weights, card=card, stages=tuple(stages), chosen=best, warning=warning)


def untrained_warning(config: FinetuneConfig, best_epoch: int) -> str:
    """Return what to tell a user whose exported weights are those of the start, else nothing."""
    if best_epoch != START:
        return ""
    if isinstance(config.strategy, Scratch):
        start = "the random weights of the start"
    else:
        start = f"those of the parent {config.strategy.parent}, with the E0s of the run"
    return (
        f"No epoch was better than the start on the validation frames: these weights are {start}. "
        f"Lower the learning rate (it was {config.optimiser.lr:g}), train longer, or give more frames."
    )


def validate_stage(stage: str, model: Any, frames: Sequence[Atoms]) -> StageErrors:  # noqa: ANN401 - a ScaleShiftMACE
    """Return the errors of a model on labelled frames, in its own dtype, through the calculator that will serve it."""
    dtype = next(model.parameters()).dtype
    calculator = MaceCalculator(copy_model(model), name=stage, device="cpu", dtype=dtype)
    found = frame_errors.PROPERTY.compute(frames, calculator, frame_errors.PROPERTY.settings()).overall
    return StageErrors(stage, *(found.get(name) for name in _METRICS))


def draft_card(config: FinetuneConfig, trained: Trained, model: torch.nn.Module, weights: Path) -> str:
    """Return the text of a model card with what the run knows; what only its author knows is marked ``TODO``."""
    described: dict[str, Any] = describe_model(model)
    lines = {
        "name": config.name,
        "kind": "mace",
        "file": weights.name,
        "sha256": sha256_of(weights),
        "description": "TODO: one line for tables",
        "elements": [chemical_symbols[number] for number in described["atomic_numbers"]],
        "heads": described["heads"],
        "architecture": _architecture(described),
        "parameters": sum(item.numel() for item in model.parameters()),
        "e0s_meaning": _E0S_MEANING[config.e0s.policy],
        "functional": "TODO: functional and code of the labels",
        "dispersion": "unknown",
        "licence": "TODO: SPDX identifier",
        "citation": "TODO: how to cite",
    }
    if not isinstance(config.strategy, Scratch):
        lines["parent"] = config.strategy.parent
    training = {
        "strategy": config.strategy.kind,
        "sources": list(config.data.sources),
        "frames_train": len(trained.frames.training),
        "frames_valid": len(trained.frames.validation),
    }
    e0s = "".join(f"{symbol} = {energy!r}\n" for symbol, energy in trained.e0s.items())
    return f"{_toml(lines)}\n[e0s_ev]\n{e0s}\n[training]\n{_toml(training)}"


def _architecture(described: dict[str, Any]) -> str:
    return (
        f"MACE, {described['num_interactions']} layers, {described['hidden_irreps']}, r_max {described['r_max']} A, "
        f"correlation {described['correlation']}, max_ell {described['max_ell']}, {described['num_bessel']} radial "
        f"functions, {described['dtype']}"
    )


def _toml(lines: dict[str, Any]) -> str:
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in lines.items())
