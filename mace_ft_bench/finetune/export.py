"""From a finished run to what users load: the better stage as safetensors, and a draft model card."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from ase.io import iread

from mace_ft_bench.calculators.mace import MaceCalculator
from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.properties import frame_errors
from mace_ft_bench.zoo.checkpoint import describe_model, load_mace_model, save_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms

    from mace_ft_bench.finetune.config import FinetuneConfig


@dataclass(frozen=True)
class StageErrors:
    """Errors of one stage on the validation frames."""

    stage: str
    energy_rmse_mev_per_atom: float
    force_rmse_mev_per_a: float
    stress_rmse_gpa: float

    def relative_to(self, other: StageErrors) -> float:
        """Return the mean ratio of the three errors to those of another stage; below one is better."""
        ratios = (
            self.energy_rmse_mev_per_atom / other.energy_rmse_mev_per_atom,
            self.force_rmse_mev_per_a / other.force_rmse_mev_per_a,
            self.stress_rmse_gpa / other.stress_rmse_gpa,
        )
        return sum(ratios) / len(ratios)


@dataclass(frozen=True)
class Export:
    """What an export wrote."""

    weights: Path
    card: Path
    stages: tuple[StageErrors, ...]
    chosen: StageErrors


def export(config: FinetuneConfig, models: list[Path], folder: Path) -> Export:
    """Validate every stage, write the best one as safetensors with a draft card, and say which it was.

    Parameters
    ----------
    config
        The recipe.
    models
        ``.model`` files of the stages, written by our own training run and so trusted.
    folder
        Run folder with ``valid.xyz``; receives ``<name>.safetensors``, ``<name>.toml`` and ``validation.json``.
    """
    frames: list[Atoms] = list(iread(folder / "valid.xyz", index=":"))
    stages = [validate_stage(path, frames) for path in models]
    best = min(stages, key=lambda stage: stage.relative_to(stages[0]))
    model = load_mace_model(models[stages.index(best)], trust=True)
    weights, card = folder / f"{config.name}.safetensors", folder / f"{config.name}.toml"
    save_checkpoint(model, weights)
    card.write_text(draft_card(config, model, weights), encoding="utf-8")
    report = {"chosen": best.stage, "stages": [vars(stage) for stage in stages]}
    (folder / "validation.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    return Export(weights=weights, card=card, stages=tuple(stages), chosen=best)


def validate_stage(path: Path, frames: list[Atoms]) -> StageErrors:
    """Return the errors of a stage on labelled frames, in the dtype of the model."""
    model = load_mace_model(path, trust=True)
    calculator = MaceCalculator(model, name=path.stem, device="cpu", dtype=next(model.parameters()).dtype)
    result = frame_errors.PROPERTY.compute(frames, calculator, frame_errors.PROPERTY.settings())
    errors = frame_errors.PROPERTY.compare(result, {})
    return StageErrors(
        stage=path.stem,
        energy_rmse_mev_per_atom=errors["energy_rmse_mev_per_atom"],
        force_rmse_mev_per_a=errors["force_rmse_mev_per_a"],
        stress_rmse_gpa=errors["stress_rmse_gpa"],
    )


def draft_card(config: FinetuneConfig, model: torch.nn.Module, weights: Path) -> str:
    """Return the text of a model card with what the run knows; what only its author knows is marked ``TODO``."""
    from ase.data import chemical_symbols  # noqa: PLC0415 - a table

    described: dict[str, Any] = describe_model(model)
    symbols = [chemical_symbols[number] for number in described["atomic_numbers"]]
    e0s = dict(zip(symbols, torch.tensor(described["atomic_energies"]).reshape(-1).tolist(), strict=True))
    shape = config.architecture
    architecture = (
        f"MACE, {shape.num_interactions} layers, {shape.hidden_irreps}, r_max {shape.r_max} A, correlation "
        f"{shape.correlation}, max_ell {shape.max_ell}, {shape.num_radial_basis} radial functions, {config.dtype}"
    )
    lines = {
        "name": config.name,
        "kind": "mace",
        "file": weights.name,
        "sha256": sha256_of(weights),
        "description": "TODO: one line for tables",
        "elements": symbols,
        "heads": described["heads"],
        "architecture": architecture,
        "parameters": sum(item.numel() for item in model.parameters()),
        "e0s_meaning": "mean energy per atom of the training frames, not isolated atoms",
        "functional": "TODO: functional and code of the labels",
        "dispersion": "none",
        "licence": "TODO: SPDX identifier",
        "citation": "TODO: how to cite",
    }
    text = "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in lines.items())
    text += "\n[e0s_ev]\n" + "".join(f"{symbol} = {energy!r}\n" for symbol, energy in e0s.items())
    training = {"strategy": config.strategy, "sources": list(config.data.sources)}
    return text + "\n[training]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in training.items())
