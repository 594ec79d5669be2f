"""What computes the gradient of a training step: torch's autograd through mace's modules, or the fused kernel."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from mace_ft_bench.errors import TrainingError
from mace_ft_bench.finetune.config import LoRA
from mace_ft_bench.torch_env import default_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mace_ft_bench.finetune.config import FinetuneConfig
    from mace_ft_bench.finetune.objective import Loss

    Predict = Callable[[Any], dict[str, torch.Tensor]]


class Engine(Protocol):
    """Computes losses, gradients and predictions of a model while it is trained."""

    name: str

    def backward(self, batch: Any, loss: Loss) -> float:  # noqa: ANN401 - a mace batch
        """Set the gradients of the trained parameters and return the loss."""

    def predicting(self) -> contextlib.AbstractContextManager[Predict]:
        """Return what predicts a batch with the weights of this moment, without gradients of parameters."""


class TorchEngine:
    """Autograd through the modules of mace-torch.

    Parameters
    ----------
    model
        A ``ScaleShiftMACE`` on its device.
    stress
        Whether stresses are predicted.
    """

    name = "torch"

    def __init__(self, model: Any, *, stress: bool) -> None:  # noqa: ANN401 - a ScaleShiftMACE
        self._model, self._stress = model, stress

    def backward(self, batch: Any, loss: Loss) -> float:  # noqa: ANN401 - a mace batch
        """Set the gradients of the trained parameters and return the loss."""
        value = loss(batch, self._predict(batch, training=True))
        value.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        return float(value.detach())

    @contextlib.contextmanager
    def predicting(self) -> Iterator[Predict]:
        """Switch gradients of parameters off: forces need those of positions only."""
        trained = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(requires_grad=False)
        try:
            yield lambda batch: {
                key: value.detach()
                for key, value in self._predict(batch, training=False).items()
                if torch.is_tensor(value)
            }
        finally:
            for parameter in trained:
                parameter.requires_grad_(requires_grad=True)

    def _predict(self, batch: Any, *, training: bool) -> dict[str, torch.Tensor]:  # noqa: ANN401 - a mace batch
        output: dict[str, torch.Tensor] = self._model(
            batch.to_dict(), training=training, compute_force=True, compute_virials=False, compute_stress=self._stress
        )
        return output


class FusedEngine:
    """The fused kernel, on the CPU and in double precision; see :mod:`mace_ft_bench.finetune.fused_gradients`.

    Parameters
    ----------
    model
        A ``ScaleShiftMACE`` in double precision that can be trained so.
    """

    name = "fused"

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - a ScaleShiftMACE
        from mace_ft_bench.finetune.fused_gradients import FusedGradients  # noqa: PLC0415 - imports numba

        self._gradients = FusedGradients(model)

    def backward(self, batch: Any, loss: Loss) -> float:  # noqa: ANN401 - a mace batch
        """Set the gradients of the trained parameters and return the loss."""
        from mace_ft_bench.finetune.fused_gradients import Direction  # noqa: PLC0415 - imports numba

        step = self._gradients.step()
        results = {name: values.requires_grad_() for name, values in step.predict(batch).items()}
        with default_dtype(torch.float64):
            value = loss(batch, results)
        value.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        energies, forces, stress = (_gradient(results[name]) for name in ("energy", "forces", "stress"))
        volumes = np.abs(np.linalg.det(batch.cell.detach().numpy().reshape(-1, 3, 3)))
        strains = (stress + stress.transpose(0, 2, 1)) / 2 / np.where(volumes > 0, volumes, np.inf)[:, None, None]
        step.backward(batch, Direction(energies, forces, strains))
        return float(value.detach())

    @contextlib.contextmanager
    def predicting(self) -> Iterator[Predict]:
        """Make the tables once for all batches."""
        with torch.no_grad():
            step = self._gradients.step()
        yield step.predict


def _gradient(tensor: torch.Tensor) -> np.ndarray:
    """Return the gradient of a result; zero where the loss does not look at it."""
    gradient: np.ndarray = (torch.zeros_like(tensor) if tensor.grad is None else tensor.grad).numpy()
    return gradient


def choose_engine(config: FinetuneConfig, model: Any) -> str:  # noqa: ANN401 - a ScaleShiftMACE
    """Return which engine trains a model.

    Parameters
    ----------
    config
        The recipe; its ``engine`` may be ``auto``.
    model
        As :func:`mace_ft_bench.finetune.strategies.prepare` returns it.

    Raises
    ------
    TrainingError
        If the fused kernel is asked for and cannot train this model.
    """
    if config.engine == "torch":
        return "torch"
    reason = _fused_refusal(config, model)
    if reason and config.engine == "fused":
        raise TrainingError(
            f"The fused kernel cannot train this model: it does not know {reason}.",
            fix='set engine = "torch" or "auto".',
        )
    return "torch" if reason else "fused"


def _fused_refusal(config: FinetuneConfig, model: Any) -> str | None:  # noqa: ANN401 - a ScaleShiftMACE
    if config.device != "cpu":
        return "GPUs"
    if isinstance(config.strategy, LoRA):
        return "low-rank updates"
    from mace_ft_bench.finetune.fused_gradients import fused_training_refusal  # noqa: PLC0415 - imports numba

    return fused_training_refusal(model)


def make_engine(name: str, model: Any, *, stress: bool) -> Engine:  # noqa: ANN401 - a ScaleShiftMACE
    """Return the engine of a name that :func:`choose_engine` gave."""
    return FusedEngine(model) if name == "fused" else TorchEngine(model, stress=stress)
