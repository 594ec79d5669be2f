"""Frames to lint: extended XYZ files as they are, and the datasets of cards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mace_ft_bench.datasets.card import find_dataset
from mace_ft_bench.datasets.fetch import load_frames
from mace_ft_bench.datasets.frames import CONFIG_TYPE
from mace_ft_bench.datasets.readers.extxyz import frames_of_extxyz
from mace_ft_bench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

_SUFFIXES = {".xyz", ".extxyz"}


def read_sources(texts: Sequence[str], *, mirror: Path | None = None) -> tuple[list[Atoms], list[str]]:
    """Return all frames and their names: the number in the source, behind its name where there are several sources.

    Parameters
    ----------
    texts
        Extended XYZ files, ``<dataset>`` or ``<dataset>:<split>``.
    mirror
        Folder of dataset copies.

    Raises
    ------
    DataError
        If a file does not exist or cannot be read.
    UnknownNameError
        If a dataset or split does not exist.
    MissingDataError
        If a dataset is not on this machine.
    """
    parts = [(name, frames) for text in texts for name, frames in _read(text, mirror)]
    alone = len(parts) == 1
    names = [str(number) if alone else f"{name}:{number}" for name, frames in parts for number in range(len(frames))]
    return [frame for _, frames in parts for frame in frames], names


def _read(text: str, mirror: Path | None) -> list[tuple[str, list[Atoms]]]:
    path = Path(text)
    if path.suffix in _SUFFIXES:
        if not path.is_file():
            raise DataError(f"{path} does not exist.", fix="check the path.")
        return [(path.name, frames_of_extxyz(path))]
    if path.exists():
        raise DataError(f"{path} is no extended XYZ file.", fix="convert it first (mfb data convert).")
    name, _, split = text.partition(":")
    splits = [split] if split else find_dataset(name).splits
    return [(f"{name}:{part}", load_frames(name, part, mirror=mirror)) for part in splits]


def group_of(frame: Atoms) -> str:
    """Return the config_type of a frame, empty where it has none."""
    return str(frame.info.get(CONFIG_TYPE, ""))
