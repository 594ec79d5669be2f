"""From a recipe's sources to training, validation and replay frames."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mace_ft_bench.calculators.descriptors import compute_descriptors
from mace_ft_bench.calculators.mace import MaceCalculator
from mace_ft_bench.datasets.fetch import load_frames
from mace_ft_bench.datasets.frames import CONFIG_TYPE, ENERGY, FORCES, STRESS, count_groups, without_duplicates
from mace_ft_bench.datasets.partition import Grouping, partition
from mace_ft_bench.datasets.readers.extxyz import frames_of_extxyz
from mace_ft_bench.datasets.select import environments, farthest_points
from mace_ft_bench.datasets.split import split_by_group
from mace_ft_bench.errors import CardError, DataError, suggestion
from mace_ft_bench.finetune.e0s import is_isolated_atom
from mace_ft_bench.zoo.checkpoint import copy_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from mace_ft_bench.finetune.config import DataConfig, MultiheadReplay
    from mace_ft_bench.finetune.parent import Parent


def prepare_frames(data: DataConfig, *, mirror: Path | None = None) -> tuple[list[Atoms], list[Atoms]]:
    """Return (training, validation) frames of a recipe.

    Frames that repeat an earlier one, a validation frame or one of the excluded splits are left out.

    Raises
    ------
    CardError
        If a source is neither ``<dataset>:<split>`` nor a file.
    MissingDataError
        If a dataset is not on this machine.
    DataError
        If a file holds no labelled frames, or a share is named for a config_type that does not occur.
    """
    excluded = load_sources(data.exclude, mirror=mirror)
    validation = without_duplicates(load_sources(data.valid, mirror=mirror), of=excluded)
    frames = without_duplicates(load_sources(data.sources, mirror=mirror), of=[*excluded, *validation])
    isolated = [frame for frame in frames if is_isolated_atom(frame)]  # they give E0s: neither split nor left out
    training = [frame for frame in frames if not is_isolated_atom(frame)]
    if not data.valid:
        training, validation = _split(training, data)
    return isolated + _share(training, data), validation


def _split(frames: list[Atoms], data: DataConfig) -> tuple[list[Atoms], list[Atoms]]:
    if data.split_by == "frame":
        return split_by_group(frames, fraction=data.valid_fraction, seed=data.split_seed)
    grouping = Grouping(data.split_by, size=data.split_block)
    fractions = (1 - data.valid_fraction, data.valid_fraction)
    parts = partition(frames, grouping, fractions, seed=data.split_seed).parts
    return [frames[index] for index in parts[0]], [frames[index] for index in parts[1]]


def _share(frames: list[Atoms], data: DataConfig) -> list[Atoms]:
    """Return the share of every config_type that is trained on."""
    groups = {frame.info[CONFIG_TYPE] for frame in frames}
    for pattern in data.group_fractions:
        if not any(fnmatchcase(group, pattern) for group in groups):
            raise DataError(
                f'group_fractions names "{pattern}", which no training frame is.', fix=suggestion(pattern, groups)
            )
    fractions = {group: _fraction(group, data) for group in groups}
    seed = data.split_seed if data.share_seed is None else data.share_seed
    kept: set[int] = set()
    for fraction in sorted(set(fractions.values())):
        own = [frame for frame in frames if fractions[frame.info[CONFIG_TYPE]] == fraction]
        kept |= {id(frame) for frame in (own if fraction == 1 else _drawn(own, fraction, seed))}
    return [frame for frame in frames if id(frame) in kept]


def _drawn(frames: list[Atoms], fraction: float, seed: int) -> list[Atoms]:
    """Return a share of every config_type, and of those that are alone in theirs together."""
    sizes = count_groups(frames)
    alone = [frame for frame in frames if sizes[str(frame.info[CONFIG_TYPE])] == 1]
    several = [frame for frame in frames if sizes[str(frame.info[CONFIG_TYPE])] > 1]
    chosen = np.random.default_rng(seed).permutation(len(alone))[: max(1, round(fraction * len(alone)))]
    drawn = split_by_group(several, fraction=fraction, seed=seed)[1] if several else []
    return drawn + [alone[index] for index in chosen]


def _fraction(group: str, data: DataConfig) -> float:
    named = (fraction for pattern, fraction in data.group_fractions.items() if fnmatchcase(group, pattern))
    return next(named, data.train_fraction)


def replay_frames(
    strategy: MultiheadReplay, parent: Parent, seed: int, *, of: Sequence[Atoms] = (), mirror: Path | None = None
) -> list[Atoms]:
    """Return the frames of the parent's domain that are trained on again.

    Parameters
    ----------
    strategy
        Sources, number and selection.
    parent
        Its elements are those that may be replayed.
    seed
        Seed of a random selection.
    of
        Frames that are never trained on.
    mirror
        Folder of dataset copies.

    Raises
    ------
    DataError
        If there are fewer than asked for, or one lacks energy or forces.
    """
    found = without_duplicates(load_sources(strategy.replay, mirror=mirror), of=of)
    known = [frame for frame in found if set(frame.symbols) <= set(parent.e0s)]
    for index, frame in enumerate(known):
        if ENERGY not in frame.info or FORCES not in frame.arrays:
            raise DataError(
                f"Replay frame {index} ({frame.info.get(CONFIG_TYPE, 'no config_type')}) has no energy or no forces.",
                fix="label the frames as the parent's training data was, or leave it out.",
            )
    if len(known) < strategy.frames:
        raise DataError(
            f"{strategy.frames} replay frames are asked for, {len(known)} of {len(found)} have elements that "
            f"{parent.name} knows.",
            fix="ask for fewer, or name more sources in strategy.replay.",
        )
    return [known[index] for index in sorted(_choose(strategy, known, parent, seed))]


def _choose(strategy: MultiheadReplay, frames: list[Atoms], parent: Parent, seed: int) -> list[int]:
    if strategy.selection == "random":
        chosen: list[int] = np.random.default_rng(seed).choice(len(frames), strategy.frames, replace=False).tolist()
        return chosen
    calculator = MaceCalculator(copy_model(parent.model), name=parent.name, device="cpu", dtype=torch.float64)
    return list(farthest_points(environments(frames, compute_descriptors(calculator, frames)), strategy.frames))


def load_sources(names: Sequence[str], *, mirror: Path | None = None) -> list[Atoms]:
    """Return the frames of splits (``<dataset>:<split>``) and files of our extended XYZ, in order."""
    frames: list[Atoms] = []
    for name in names:
        dataset, colon, split = name.partition(":")
        if Path(name).suffix in {".xyz", ".extxyz"}:
            frames += _file(Path(name))
        elif colon:
            frames += load_frames(dataset, split, mirror=mirror)
        else:
            raise CardError(
                f'Data source "{name}" is neither a split nor a file.', fix='write "<dataset>:<split>" or "frames.xyz".'
            )
    return frames


def _file(path: Path) -> list[Atoms]:
    if not path.is_file():
        raise DataError(f"{path} does not exist.", fix="paths count from the folder in which the command runs.")
    frames = frames_of_extxyz(path)
    for index, frame in enumerate(frames):
        if ENERGY not in frame.info and FORCES not in frame.arrays:
            raise DataError(
                f"{path}, frame {index} has neither {ENERGY} nor {FORCES}.",
                fix=f"convert it first: `mfb data convert {path} ...` names its labels.",
            )
        for key in (ENERGY, FORCES, STRESS):
            label = frame.arrays.get(key) if key == FORCES else frame.info.get(key)
            if label is not None and not np.isfinite(label).all():
                raise DataError(
                    f"{path}, frame {index}: {key} is not finite.",
                    fix="leave it out; `mfb data lint` lists all.",
                )
        frame.info.setdefault(CONFIG_TYPE, path.stem)
    return frames
