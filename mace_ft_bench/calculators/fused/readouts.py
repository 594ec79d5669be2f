"""Site energies and their gradients with respect to the hidden features."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.special import expit

from mace_ft_bench.torch_env import default_dtype


class Readouts:
    """The readouts, the scale and shift, and the reference energies of one head of a ``ScaleShiftMACE``."""

    def __init__(self, model: Any, head: int) -> None:  # noqa: ANN401 - a ScaleShiftMACE
        dtype = next(model.parameters()).dtype
        with default_dtype(dtype), torch.no_grad():
            self._readouts = [_KINDS[type(block).__name__](block, head) for block in model.readouts]
        self._reference = np.atleast_2d(model.atomic_energies_fn.atomic_energies.double().numpy())[head].copy()
        self.scale = float(np.atleast_1d(model.scale_shift.scale.numpy())[head])
        """Factor of everything but the reference energies."""
        self._shift = float(np.atleast_1d(model.scale_shift.shift.numpy())[head])

    def evaluate(self, hidden: list[np.ndarray], species: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return site energies [eV] (N,) in float64, and dE/dhidden of every layer."""
        energies = np.zeros(len(species))
        gradients = []
        for readout, features in zip(self._readouts, hidden, strict=True):
            value, slope = readout(features[:, 0])
            energies += value
            gradient = np.zeros_like(features)
            gradient[:, 0] = self.scale * slope
            gradients.append(gradient)
        return self._reference[species] + self.scale * energies + self._shift, gradients


class _Linear:
    """``x . w``."""

    def __init__(self, block: Any, head: int) -> None:  # noqa: ANN401 - a block of mace
        self._weights = _columns(block.linear, head)

    def __call__(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return features @ self._weights, self._weights


class _NonLinear:
    """``a silu(x W) . v``."""

    def __init__(self, block: Any, head: int) -> None:  # noqa: ANN401 - a block of mace
        width = block.linear_1.irreps_out.dim // block.num_heads
        own = slice(head * width, (head + 1) * width)
        self._inner = _columns(block.linear_1, own)
        self._outer = silu_factor(block) * _columns(block.linear_2, head)[own]

    def __call__(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = features @ self._inner
        sigmoid = expit(x)
        slope = sigmoid * (1 + x * (1 - sigmoid)) * self._outer
        return (x * sigmoid) @ self._outer, slope @ self._inner.T


_KINDS: dict[str, type[_Linear | _NonLinear]] = {"LinearReadoutBlock": _Linear, "NonLinearReadoutBlock": _NonLinear}


def known(block: Any) -> bool:  # noqa: ANN401 - a block of mace
    """Whether a readout block is one of those above."""
    return type(block).__name__ in _KINDS and (not hasattr(block, "non_linearity") or silu_factor(block) is not None)


def silu_factor(block: Any) -> float | None:  # noqa: ANN401 - a block of mace
    """Return a, if the activation of a block is a times SiLU, else None."""
    (act,) = block.non_linearity.acts
    points = torch.linspace(-4, 4, 33)
    values, silu = act(points), torch.nn.functional.silu(points)
    factor = float(values[-1] / silu[-1])
    return factor if torch.allclose(values, factor * silu, atol=1e-5) else None


def _columns(linear: Any, columns: int | slice) -> np.ndarray:  # noqa: ANN401 - an e3nn map
    """Read the weights from the scalar inputs, which come first, to the given outputs."""
    scalars = linear.irreps_in[0].mul
    probe = torch.zeros(scalars, linear.irreps_in.dim, dtype=torch.get_default_dtype())
    probe[:, :scalars] = torch.eye(scalars)
    weights: np.ndarray = linear(probe)[:, columns].detach().numpy().copy()
    return weights
