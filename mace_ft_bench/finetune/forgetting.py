"""How much of the parent's domain a fine-tuned model has forgotten: errors there before and after."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from mace_ft_bench.finetune.validation_split import fitted_shift, known_part, predict, split_entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from mace_ft_bench.finetune.compared_models import ComparedModel
    from mace_ft_bench.finetune.validation_split import Split
    from mace_ft_bench.properties.base import Evaluation

FEWEST_FRAMES = 200
"""Below, errors over a broad domain depend on which frames were drawn."""


def forgetting_entry(split: Split, tuned: ComparedModel, parent: ComparedModel) -> dict[str, Any]:
    """Return the errors of both models on frames of the parent's domain as plain data.

    The parent is taken as it is: the labels are meant to be those of its training data. The fine-tuned model has other
    E0s, which are no error here; they are exchanged for the parent's, so that only what training changed is left.

    Parameters
    ----------
    split
        Held-out frames of the parent's domain.
    tuned, parent
        The models; the fine-tuned one with the head that is meant for this domain.
    """
    known = known_part(split, tuned, parent)
    about: dict[str, Any] = {"head": _head(tuned), "warnings": _warnings(known, tuned, parent)}
    if not known.frames:
        return asdict(replace(known, frames=[])) | {"frames": 0, "errors": []} | about
    mine, theirs = predict(tuned, known), predict(parent, known)
    about["e0s"], about["shift_ev"] = _zero(known.frames, mine, tuned, parent)
    return split_entry(known, mine, theirs, shift=about["shift_ev"])[0] | about


def _head(tuned: ComparedModel) -> str:
    """Return the head that was asked, or nothing where there is no other."""
    several = len(getattr(tuned.calculator, "heads", ())) > 1
    return str(tuned.calculator.head) if several else ""


def _zero(
    frames: Sequence[Atoms], mine: Sequence[Evaluation], tuned: ComparedModel, parent: ComparedModel
) -> tuple[str, dict[str, float]]:
    """Return how the fine-tuned model is brought to the parent's zero, and the shift per element [eV]."""
    if tuned.e0s is not None and parent.e0s is not None:
        both = sorted(set(tuned.e0s) & set(parent.e0s))
        return "the parent's E0s in place of its own", {
            symbol: parent.e0s[symbol] - tuned.e0s[symbol] for symbol in both
        }
    return "a shift per element fitted to these frames", fitted_shift(frames, mine)


def _warnings(split: Split, tuned: ComparedModel, parent: ComparedModel) -> list[str]:
    found = []
    if len(split.frames) < FEWEST_FRAMES:
        found.append(f"{len(split.frames)} frames are too few to say what is forgotten; give {FEWEST_FRAMES} or more.")
    lost = sorted(parent.elements - tuned.elements)
    if lost:
        found.append(
            f"The fine-tuned model knows {len(tuned.elements)} of the parent's {len(parent.elements)} elements: it was "
            "cut to those of its frames. Train with keep_elements = true to measure the others."
        )
    return found
