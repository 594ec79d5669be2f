"""Labelled frames as mace's graphs, and the batches of an epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mace_ft_bench.datasets.frames import CONFIG_TYPE, ENERGY, FORCES, STRESS
from mace_ft_bench.errors import DataError
from mace_ft_bench.torch_env import default_dtype, mace_environment

with mace_environment():
    from mace.data import AtomicData, KeySpecification, config_from_atoms
    from mace.tools import AtomicNumberTable
    from mace.tools.torch_geometric import Batch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ase import Atoms

_KEYS = KeySpecification(info_keys={"energy": ENERGY, "stress": STRESS}, arrays_keys={"forces": FORCES})
_LABELS = ("energy", "forces", "stress")


def to_graphs(
    frames: Sequence[Atoms],
    model: Any,  # noqa: ANN401 - a ScaleShiftMACE
    *,
    head: str,
    group_weights: Mapping[str, float] | None = None,
) -> list[Any]:
    """Return one graph per frame, in the dtype of the model; a label that a frame lacks has no weight in the loss.

    Parameters
    ----------
    frames
        Labelled frames.
    model
        Gives elements, cutoff and heads.
    head
        Head that the frames train.
    group_weights
        Factor on the loss of the frames of a config_type; one where not named.

    Raises
    ------
    DataError
        If a frame has no label at all.
    """
    numbers = model.atomic_numbers.tolist()
    table = AtomicNumberTable(numbers)
    weights = {"Default": 1.0, **(group_weights or {})}
    graphs = []
    with default_dtype(next(model.parameters()).dtype):
        for index, frame in enumerate(frames):
            _refuse_unlabelled(index, frame)
            config = config_from_atoms(frame, _KEYS, config_type_weights=weights, head_name=head)
            graph = AtomicData.from_config(config, table, float(model.r_max), heads=list(model.heads))
            graphs.append(_with_own_volume(index, frame, graph))
    return graphs


def _with_own_volume(index: int, frame: Atoms, graph: Any) -> Any:  # noqa: ANN401 - mace's graph
    """Give a frame that is not periodic everywhere its cell back: mace puts another one there to find neighbours.

    Stress is a derivative over the volume, and labels have that of the cell. No pair crosses an open direction, so
    nothing else depends on it.
    """
    if all(frame.pbc):
        return graph
    if frame.cell.volume > 0:
        graph.cell = torch.tensor(frame.cell.array, dtype=graph.cell.dtype)
    elif STRESS in frame.info:
        raise DataError(f"Frame {index} has a stress, but no volume.", fix=f"give it a cell, or remove its {STRESS}.")
    return graph


def _refuse_unlabelled(index: int, frame: Atoms) -> None:
    if not ({ENERGY, STRESS} & set(frame.info) or FORCES in frame.arrays):
        raise DataError(
            f"Frame {index} ({frame.info.get(CONFIG_TYPE, 'no config_type')}) has no label.",
            fix=f"give {ENERGY}, {FORCES} or {STRESS}; see `mfb data convert`.",
        )


def shuffled_batches(graphs: Sequence[Any], size: int, *, seed: int, epoch: int) -> Iterator[Any]:
    """Yield the batches of an epoch; their order depends on the seed and the epoch only, so that a run can resume."""
    order = np.random.default_rng([seed, epoch]).permutation(len(graphs))
    yield from batches([graphs[index] for index in order], size)


def batches(graphs: Sequence[Any], size: int) -> Iterator[Any]:
    """Yield batches in order; the last one may be smaller."""
    for start in range(0, len(graphs), size):
        yield Batch.from_data_list(list(graphs[start : start + size]))


def label_counts(graphs: Sequence[Any]) -> dict[str, int]:
    """Return how many graphs have each label."""
    return {name: sum(bool(torch.any(graph[f"{name}_weight"] > 0)) for graph in graphs) for name in _LABELS}
