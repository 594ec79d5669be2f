"""Site energies by the readouts of a model that is trained, from features that the fused kernel computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence


class TrainedReadouts:
    """The readouts, scales, shifts and reference energies of a model, by mace's own modules.

    Parameters
    ----------
    model
        A ``ScaleShiftMACE`` in double precision on the CPU.
    heads
        Head of every atom (N,).
    """

    def __init__(self, model: Any, heads: torch.Tensor) -> None:  # noqa: ANN401 - a ScaleShiftMACE
        self._model, self._heads = model, heads
        self._widths = [block.linear.irreps_out.dim for block in model.products]

    def energies(self, scalars: Sequence[torch.Tensor], species: np.ndarray) -> torch.Tensor:
        """Return site energies [eV] (N,) as a function of the scalar features (N, C) of every layer."""
        model, heads, count = self._model, self._heads, len(species)
        own = (torch.arange(count), heads)
        total = torch.zeros(count, dtype=torch.float64)
        for readout, features, width in zip(model.readouts, scalars, self._widths, strict=True):
            rest = features.new_zeros(count, width - features.shape[1])
            total = total + readout(torch.cat([features, rest], dim=1), heads)[own]
        elements = torch.from_numpy(np.eye(len(model.atomic_numbers))[species])
        reference = model.atomic_energies_fn(elements)[own]
        energies: torch.Tensor = model.scale_shift(total, heads) + reference
        return energies

    def evaluate(self, hidden: list[np.ndarray], species: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return site energies [eV] (N,), and dE/dhidden of every layer."""
        leaves = _leaves(hidden)
        energies = self.energies(leaves, species)
        gradients = torch.autograd.grad(energies.sum(), leaves)
        return energies.detach().numpy(), _spread_scalars(gradients, hidden)

    def backward(self, hidden: list[np.ndarray], species: np.ndarray, factors: np.ndarray) -> list[np.ndarray]:
        """Add gradients of the sum of site energies times factors to the readouts; return those of the features."""
        leaves = _leaves(hidden)
        energies = self.energies(leaves, species)
        torch.autograd.backward((energies * torch.from_numpy(factors)).sum())
        return _spread_scalars([leaf.grad for leaf in leaves if leaf.grad is not None], hidden)


def _leaves(hidden: list[np.ndarray]) -> list[torch.Tensor]:
    return [torch.from_numpy(features[:, 0].copy()).requires_grad_() for features in hidden]


def _spread_scalars(gradients: Sequence[torch.Tensor], hidden: list[np.ndarray]) -> list[np.ndarray]:
    """Return gradients of all components of the features, of which readouts see the first."""
    spread = [np.zeros_like(features) for features in hidden]
    for array, gradient in zip(spread, gradients, strict=True):
        array[:, 0] = gradient.numpy()
    return spread
