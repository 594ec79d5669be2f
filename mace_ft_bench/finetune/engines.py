"""What computes the gradient of a training step.

Torch's autograd through mace's modules, the fused kernel, or, for readouts alone, features that were computed once.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from mace_ft_bench.errors import TrainingError
from mace_ft_bench.finetune.config import LoRA
from mace_ft_bench.finetune.strategies import part_of
from mace_ft_bench.torch_env import default_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mace_ft_bench.finetune.config import FinetuneConfig
    from mace_ft_bench.finetune.objective import Loss

    Predict = Callable[[Any], dict[str, torch.Tensor]]

_MOST_BYTES = 4 * 2**30
"""Memory that kept features may take."""
_PASSES_PER_EPOCH = 6
"""Forward passes that an epoch with a frozen backbone takes as long as, about."""


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


def choose_engine(config: FinetuneConfig, model: Any, sizes: Sequence[int] = ()) -> str:  # noqa: ANN401 - a ScaleShiftMACE
    """Return which engine trains a model.

    Parameters
    ----------
    config
        The recipe; its ``engine`` may be ``auto``.
    model
        As :func:`mace_ft_bench.finetune.strategies.prepare` returns it.
    sizes
        Atoms of every frame.

    Raises
    ------
    TrainingError
        If an engine is asked for that cannot train this model.
    """
    if config.engine == "torch":
        return "torch"
    reason = _fused_refusal(config, model)
    cached_reason = reason or _cached_refusal(model, sizes)
    if config.engine == "cached" and cached_reason:
        raise TrainingError(
            f"Features cannot be kept for this run: {cached_reason}.", fix='set engine = "auto", or freeze more.'
        )
    if config.engine == "fused" and reason:
        raise TrainingError(
            f"The fused kernel cannot train this model: it does not know {reason}.",
            fix='set engine = "torch" or "auto".',
        )
    if config.engine == "cached" or (config.engine == "auto" and not cached_reason and _caching_pays(config, sizes)):
        return "cached"
    return "torch" if reason else "fused"


def _fused_refusal(config: FinetuneConfig, model: Any) -> str | None:  # noqa: ANN401 - a ScaleShiftMACE
    if config.device != "cpu":
        return "GPUs"
    if isinstance(config.strategy, LoRA):
        return "low-rank updates"
    from mace_ft_bench.finetune.fused_gradients import fused_training_refusal  # noqa: PLC0415 - imports numba

    return fused_training_refusal(model)


def _cached_refusal(model: Any, sizes: Sequence[int]) -> str | None:  # noqa: ANN401 - a ScaleShiftMACE
    if any(parameter.requires_grad for name, parameter in model.named_parameters() if part_of(name) != "readouts"):
        return "it trains more than the readouts"
    from mace_ft_bench.finetune.cached_backbone import cached_bytes  # noqa: PLC0415 - imports numba

    needed = cached_bytes(model, sizes)
    if needed > _MOST_BYTES:
        return f"they would take {needed / 2**30:.1f} GiB, more than {_MOST_BYTES / 2**30:.0f}"
    return None


def _caching_pays(config: FinetuneConfig, sizes: Sequence[int]) -> bool:
    """Return whether the epochs saved take longer than the derivatives of all features."""
    passes = sum(size * (6 * size + 12) for size in sizes)
    return passes < _PASSES_PER_EPOCH * config.optimiser.max_epochs * sum(sizes)


def make_engine(
    name: str,
    model: Any,  # noqa: ANN401 - a ScaleShiftMACE
    graphs: Sequence[Any],
    *,
    stress: bool,
    on_kept: Callable[[int, int], None] | None = None,
) -> Engine:
    """Return the engine of a name that :func:`choose_engine` gave.

    Parameters
    ----------
    name
        ``torch``, ``fused`` or ``cached``.
    model
        A ``ScaleShiftMACE``; in double precision but for ``torch``.
    graphs
        All graphs of training and validation.
    stress
        Whether stresses are predicted.
    on_kept
        Called with the numbers of frames done and in all while features are computed.
    """
    if name == "cached":
        from mace_ft_bench.finetune.cached_backbone import CachedEngine  # noqa: PLC0415 - imports numba

        return CachedEngine(model, graphs, on_kept)
    return FusedEngine(model) if name == "fused" else TorchEngine(model, stress=stress)
