"""From a recipe's sources to training and validation frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_ft_bench.datasets.fetch import load_frames
from mace_ft_bench.datasets.frames import without_duplicates
from mace_ft_bench.datasets.split import split_by_group
from mace_ft_bench.errors import CardError

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms

    from mace_ft_bench.finetune.config import DataConfig


def prepare_frames(data: DataConfig, *, mirror: Path | None = None) -> tuple[list[Atoms], list[Atoms]]:
    """Return (training, validation) frames of a recipe.

    Frames that repeat an earlier one, or one of the excluded splits, are left out.

    Raises
    ------
    CardError
        If a source is not ``<dataset>:<split>``.
    MissingDataError
        If a dataset is not on this machine.
    """
    excluded = _load(data.exclude, mirror)
    frames = without_duplicates(_load(data.sources, mirror), of=excluded)
    return split_by_group(frames, fraction=data.valid_fraction, seed=data.split_seed)


def _load(names: tuple[str, ...], mirror: Path | None) -> list[Atoms]:
    frames: list[Atoms] = []
    for name in names:
        dataset, colon, split = name.partition(":")
        if not colon:
            raise CardError(f'Data source "{name}" names no split.', fix='write "<dataset>:<split>".')
        frames += load_frames(dataset, split, mirror=mirror)
    return frames
