"""Split frames into training and validation, reproducibly and by group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mace_ft_bench.datasets.frames import CONFIG_TYPE
from mace_ft_bench.errors import CardError

if TYPE_CHECKING:
    from ase import Atoms


def split_by_group(frames: list[Atoms], *, fraction: float, seed: int) -> tuple[list[Atoms], list[Atoms]]:
    """Return (training, validation) frames; at least one frame of every config_type with two or more validates.

    Parameters
    ----------
    frames
        All frames.
    fraction
        Share of each config_type that goes to validation.
    seed
        Seed of the draw; the same frames and seed give the same split.

    Raises
    ------
    CardError
        If the fraction is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise CardError(f"The validation fraction {fraction} is not between 0 and 1.", fix="give, say, 0.1.")
    generator = np.random.default_rng(seed)
    groups: dict[str, list[int]] = {}
    for index, frame in enumerate(frames):
        groups.setdefault(frame.info[CONFIG_TYPE], []).append(index)
    chosen: set[int] = set()
    for _, indices in sorted(groups.items()):
        count = min(max(1, round(fraction * len(indices))), len(indices) - 1)
        chosen.update(generator.choice(indices, count, replace=False).tolist())
    training = [frame for index, frame in enumerate(frames) if index not in chosen]
    return training, [frames[index] for index in sorted(chosen)]
