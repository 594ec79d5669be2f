"""What a finished run left in its folder: recipe, chosen stage, weights and frames."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.errors import TrainingError
from mace_ft_bench.finetune.config import FinetuneConfig, Scratch
from mace_ft_bench.finetune.history import best_of, read_history, stages
from mace_ft_bench.finetune.prepare import load_sources
from mace_ft_bench.finetune.run_folder import RUN, load_state
from mace_ft_bench.toml_schema import parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ase import Atoms

    from mace_ft_bench.finetune.objective import EpochErrors

_AGAIN = "run the recipe with `mfb finetune` to its end first."


@dataclass(frozen=True)
class FinishedRun:
    """A run that was exported."""

    folder: Path
    config: FinetuneConfig
    run: dict[str, Any]
    """``run.json``."""
    stages: dict[str, tuple[EpochErrors, ...]]
    """Validations by stage."""
    chosen: str
    """Stage whose weights were exported."""

    @property
    def weights(self) -> Path:
        """The exported model."""
        return self.folder / f"{self.config.name}.safetensors"

    @property
    def parent(self) -> tuple[str, str]:
        """Name and head of the parent; empty after training from scratch."""
        strategy = self.config.strategy
        return ("", "") if isinstance(strategy, Scratch) else (strategy.parent, strategy.parent_head)

    @property
    def best_epoch(self) -> int:
        """Epoch of the exported weights; -1 for the start."""
        return best_of(self.stages[self.chosen]).epoch

    def frames(self, name: str) -> list[Atoms]:
        """Return the frames of ``train``, ``valid`` or ``replay``; none if the run has no such file.

        Raises
        ------
        TrainingError
            If the file is not the one that the run wrote.
        """
        file = f"{name}.xyz"
        if file not in self.run["sha256"]:
            return []
        path = self.folder / file
        if not path.is_file() or sha256_of(path) != self.run["sha256"][file]:
            raise TrainingError(f"{path} is not the file that the run wrote.", fix="put it back, or train anew.")
        return load_sources([str(path)])


def read_run(folder: Path) -> FinishedRun:
    """Read a run folder.

    Raises
    ------
    TrainingError
        If it holds no finished run, or one of another version.
    """
    if not (folder / RUN).is_file():
        raise TrainingError(f"{folder} is no run folder: it has no {RUN}.", fix=_AGAIN)
    run = _read_json(folder / RUN)
    try:
        config = parse(run["recipe"], FinetuneConfig, where=str(folder / RUN))
        missing = {"parent_sha256", "versions", "sha256"} - set(run)
    except (LookupError, TypeError, ValueError) as error:
        raise TrainingError(f"{folder / RUN} is damaged, or of an earlier version.", fix=_AGAIN) from error
    if missing:
        raise TrainingError(f"{folder / RUN} has no {min(missing)}.", fix=_AGAIN)
    exported = folder / "validation.json"
    if not exported.is_file() or not (folder / f"{config.name}.safetensors").is_file():
        raise TrainingError(f"{folder} has no exported model.", fix=_AGAIN)
    history = read_history(folder)
    found = stages(history, _second(folder, config, history))
    chosen = str(_read_json(exported).get("chosen")).removeprefix("stage ")
    if chosen not in found:
        raise TrainingError(f"{exported} names no stage of the history.", fix=_AGAIN)
    return FinishedRun(folder, config, run, found, chosen)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TrainingError(f"{path} is damaged: {error}.", fix=_AGAIN) from error
    if not isinstance(found, dict):
        raise TrainingError(f"{path} is damaged: it holds no table.", fix=_AGAIN)
    return found


def _second(folder: Path, config: FinetuneConfig, history: Sequence[EpochErrors]) -> int | None:
    """Return the index of the first validation of stage two; patience may have brought it forward."""
    if config.stage_two is None:
        return None
    if config.optimiser.patience > 0:
        state = load_state(folder)
        if state is None:
            raise TrainingError(
                f"{folder} has no state.pt, which says when patience ended stage one.", fix="put the file back."
            )
        return int(state["first_of_stage"]) if state["stage"] == "two" else None
    start = config.stage_two.start_epoch
    return next((index for index, errors in enumerate(history) if errors.epoch >= start), None)
