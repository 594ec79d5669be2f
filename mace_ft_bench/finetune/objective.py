"""The loss of a training step, and the errors that a validation reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from mace_ft_bench.torch_env import mace_environment

with mace_environment():
    from mace.modules.loss import UniversalLoss, WeightedEnergyForcesStressLoss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mace_ft_bench.finetune.config import LossWeights
    from mace_ft_bench.finetune.engines import Predict

    Loss = Callable[[Any, dict[str, torch.Tensor]], torch.Tensor]

_LOSSES = {"stress": WeightedEnergyForcesStressLoss, "universal": UniversalLoss}


@dataclass(frozen=True)
class EpochErrors:
    """Validation errors after an epoch; None where no frame has the label."""

    epoch: int
    """-1 before training."""
    loss: float
    energy_rmse_mev_per_atom: float | None
    force_rmse_mev_per_a: float | None
    stress_rmse_mev_per_a3: float | None


def make_loss(kind: str, weights: LossWeights, *, stress: bool) -> Loss:
    """Return a loss of mace-torch as a function of a batch and a prediction.

    Parameters
    ----------
    kind
        ``stress`` or ``universal``.
    weights
        Weights of the terms.
    stress
        Whether stresses are predicted; if not, their term must be absent.
    """
    module = _LOSSES[kind](
        energy_weight=weights.energy, forces_weight=weights.forces, stress_weight=weights.stress if stress else 0.0
    )

    def loss(batch: Any, prediction: dict[str, torch.Tensor]) -> torch.Tensor:  # noqa: ANN401 - a mace batch
        known = prediction if stress else prediction | {"stress": torch.zeros_like(batch["stress"])}
        value: torch.Tensor = module(pred=known, ref=batch)
        return value

    return loss


def validation_errors(predict: Predict, batches: Iterable[Any], loss: Loss, *, stress: bool, epoch: int) -> EpochErrors:
    """Return the errors over all batches; a frame without a label does not count in its error."""
    total, frames = 0.0, 0
    sums: dict[str, list[float]] = {"energy": [0.0, 0.0], "forces": [0.0, 0.0], "stress": [0.0, 0.0]}
    for batch in batches:
        prediction = predict(batch)
        total += float(loss(batch, prediction)) * batch.num_graphs
        frames += batch.num_graphs
        for name, (squares, weights) in _squared_errors(batch, prediction, stress=stress).items():
            sums[name][0] += float(squares.double().sum())
            sums[name][1] += float(weights.sum())
    rmse = {name: 1000 * (square / count) ** 0.5 if count else None for name, (square, count) in sums.items()}
    return EpochErrors(epoch, total / frames, rmse["energy"], rmse["forces"], rmse["stress"])


def _squared_errors(
    batch: Any,  # noqa: ANN401 - a mace batch
    prediction: dict[str, torch.Tensor],
    *,
    stress: bool,
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return squared errors and whether they count, for every label."""
    sizes = batch.ptr[1:] - batch.ptr[:-1]
    has = {name: (batch[f"{name}_weight"] > 0).reshape(-1) for name in ("energy", "forces", "stress")}
    atoms = has["forces"].repeat_interleave(sizes)[:, None].expand(-1, 3)
    differences = {
        "energy": ((batch["energy"] - prediction["energy"]) / sizes, has["energy"]),
        "forces": (batch["forces"] - prediction["forces"], atoms),
    }
    if stress:
        cells = has["stress"][:, None, None].expand(-1, 3, 3)
        differences["stress"] = (batch["stress"] - prediction["stress"], cells)
    return {name: ((delta * known) ** 2, known) for name, (delta, known) in differences.items()}
