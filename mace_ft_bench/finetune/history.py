"""The validations of a run by stage, and the one whose weights a stage keeps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mace_ft_bench.errors import TrainingError
from mace_ft_bench.finetune.objective import EpochErrors
from mace_ft_bench.finetune.run_folder import HISTORY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

START = -1
"""Epoch of the validation before training."""


def read_history(folder: Path) -> list[EpochErrors]:
    """Return the validations of a run folder, in order.

    Raises
    ------
    TrainingError
        If there are none, or the file is damaged.
    """
    path = folder / HISTORY
    try:
        history = [EpochErrors(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        history = []
    except (ValueError, TypeError) as error:
        raise TrainingError(f"{path} is damaged: {error}.", fix="run the recipe again; it resumes.") from error
    if not history:
        raise TrainingError(f"{folder} has no validated epoch.", fix="run the recipe with `mfb finetune` first.")
    return history


def stages(history: Sequence[EpochErrors], second: int | None) -> dict[str, tuple[EpochErrors, ...]]:
    """Return the validations of every stage that has any.

    Parameters
    ----------
    history
        All validations.
    second
        Index of the first validation of stage two; None if the run never came there.
    """
    end = len(history) if second is None else second
    found = {"one": tuple(history[:end]), "two": tuple(history[end:])}
    return {stage: part for stage, part in found.items() if part}


def best_of(stage: Sequence[EpochErrors]) -> EpochErrors:
    """Return the validation with the least loss, of several the last: the one whose weights the loop keeps."""
    return min(reversed(stage), key=lambda errors: errors.loss)
