"""The pair repulsion of Ziegler, Biersack and Littmark, as mace adds it to the site energies of both atoms.

It is evaluated, not tabulated: at short distances it grows by orders of magnitude, and few pairs are within its reach.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

_COULOMB = 14.3996
"""Square of the elementary charge [eV Angstrom], with mace's digits."""
_BOHR = 0.529
"""[Angstrom], with mace's digits."""
_DECAYS = (3.2, 0.9423, 0.4028, 0.2016)
"""Exponents of the screening function, which mace keeps in its code; the coefficients are buffers of the model."""


class Repulsion(NamedTuple):
    """What the kernel takes; arrays of pairs of elements (Z, Z), in double precision."""

    strength: np.ndarray
    """Energy of one atom, unscreened, times the distance [eV Angstrom]."""
    screening: np.ndarray
    """Length of the screening function [Angstrom]."""
    reach: np.ndarray
    """Distance at which it ends [Angstrom]."""
    coefficients: np.ndarray
    decays: np.ndarray
    power: int
    """Exponent of the envelope."""


def read_repulsion(model: Any, scale: float) -> Repulsion | None:  # noqa: ANN401 - a ScaleShiftMACE
    """Return the pair repulsion of a model, times the scale of its head; None if it has none."""
    if not hasattr(model, "pair_repulsion"):
        return None
    block, sender = model.pair_repulsion_fn, model.atomic_numbers[None, :]
    # The expressions are mace's own: it rounds products of integers to torch's default dtype, in double precision too.
    charges = _COULOMB * sender * sender.T
    powers = torch.pow(sender, block.a_exp)
    radii = _double(block.covalent_radii[model.atomic_numbers])
    return Repulsion(
        strength=scale * 0.5 * _double(charges),
        screening=_double(block.a_prefactor * _BOHR / (powers + powers.T)),
        reach=np.add.outer(radii, radii),
        coefficients=_double(block.c),
        decays=np.array(_DECAYS),
        power=int(block.p),
    )


def known_repulsion(model: Any) -> bool:  # noqa: ANN401 - a ScaleShiftMACE
    """Whether a model has no pair repulsion, or this one."""
    return not hasattr(model, "pair_repulsion") or type(model.pair_repulsion_fn).__name__ == "ZBLBasis"


def _double(tensor: torch.Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().double().numpy()
    return array
