"""Elements of the parent that no frame of a run has: they keep their energies and their own weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from ase.data import atomic_numbers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ase import Atoms

_PER_ELEMENT = ".symmetric_contractions."
"""Names of the decayed weights that have one row per element."""


def elements_of(frames: Iterable[Atoms]) -> set[str]:
    """Return the chemical symbols of frames."""
    return {str(symbol) for frame in frames for symbol in set(frame.symbols)}


def hold_unseen(model: Any, optimiser: torch.optim.Optimizer, unseen: Collection[str]) -> None:  # noqa: ANN401 - a ScaleShiftMACE
    """Keep the weights that belong to single elements as they are, for elements that no frame has.

    Their loss has no gradient, but Adam divides by the size of the gradient: weight decay alone, however small, would
    move them by the full learning rate in every step.

    Parameters
    ----------
    model
        The model that is trained.
    optimiser
        Its optimiser; after every step the rows are put back.
    unseen
        Chemical symbols.
    """
    numbers = model.atomic_numbers.tolist()
    rows = sorted(numbers.index(atomic_numbers[symbol]) for symbol in unseen)
    held = [
        (parameter, parameter.detach()[rows].clone())
        for name, parameter in model.named_parameters()
        if _PER_ELEMENT in name and parameter.requires_grad and len(parameter) == len(numbers)
    ]
    if not rows or not held:
        return

    def put_back(*_: object) -> None:
        with torch.no_grad():
            for parameter, values in held:
                parameter[rows] = values

    optimiser.register_step_post_hook(put_back)
