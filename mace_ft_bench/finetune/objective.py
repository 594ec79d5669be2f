"""The loss of a training step, and the errors that a validation reports."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from mace_ft_bench.torch_env import mace_environment

with mace_environment():
    from mace.modules.loss import UniversalLoss, WeightedEnergyForcesStressLoss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mace_ft_bench.finetune.config import LossWeights

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


def predict(model: Any, batch: Any, *, stress: bool, training: bool) -> dict[str, torch.Tensor]:  # noqa: ANN401 - mace's types
    """Return energies, forces and, if asked for, stresses of a batch."""
    output: dict[str, torch.Tensor] = model(
        batch.to_dict(), training=training, compute_force=True, compute_virials=False, compute_stress=stress
    )
    return output


def validation_errors(
    model: Any,  # noqa: ANN401 - a ScaleShiftMACE
    batches: Iterable[Any],
    loss: Loss,
    *,
    stress: bool,
    epoch: int,
) -> EpochErrors:
    """Return the errors over all batches; a frame without a label does not count in its error."""
    device = next(model.parameters()).device
    total, frames = 0.0, 0
    sums: dict[str, list[float]] = {"energy": [0.0, 0.0], "forces": [0.0, 0.0], "stress": [0.0, 0.0]}
    with _without_parameter_gradients(model):
        for batch in batches:
            moved = batch.to(device)
            prediction = {
                key: value.detach()
                for key, value in predict(model, moved, stress=stress, training=False).items()
                if torch.is_tensor(value)
            }
            total += float(loss(moved, prediction)) * moved.num_graphs
            frames += moved.num_graphs
            for name, (squares, weights) in _squared_errors(moved, prediction, stress=stress).items():
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


@contextlib.contextmanager
def _without_parameter_gradients(model: Any) -> Iterator[None]:  # noqa: ANN401 - a ScaleShiftMACE
    """Switch gradients of parameters off: forces need those of positions only."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(requires_grad=False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(requires_grad=True)
