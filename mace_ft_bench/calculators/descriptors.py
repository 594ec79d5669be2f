"""Descriptors of atoms: the invariant node features of a MACE model, batched.

They are what the readouts of the model see, and so measure how alike two environments are to it. Rotations,
translations and permutations of equal atoms leave them as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mace_ft_bench.calculators.backends import TorchBackend
from mace_ft_bench.calculators.batches import run_in_batches
from mace_ft_bench.calculators.factory import get_calculator
from mace_ft_bench.calculators.graph import join, search_pairs
from mace_ft_bench.calculators.mace import PAIRS_PER_BATCH, MaceCalculator
from mace_ft_bench.calculators.structure_checks import check_structure
from mace_ft_bench.errors import CardError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ase import Atoms

    from mace_ft_bench.calculators.graph import Graph, PairTable


def compute_descriptors(  # noqa: PLR0913 - one per thing a user may want to choose
    model: str | Path | MaceCalculator,
    frames: Iterable[Atoms],
    *,
    layers: Sequence[int] | None = None,
    device: str = "auto",
    dtype: str | None = None,
    head: str | None = None,
    trust: bool = False,
    pairs_per_batch: int | None = None,
) -> list[np.ndarray]:
    """Return the descriptors of all atoms of all frames.

    Parameters
    ----------
    model
        Name or path of a MACE model, or a calculator of one.
    frames
        Structures of any sizes; they are not modified.
    layers
        Interaction layers, from 0, whose features are taken, in this order; all by default.
    device, dtype, head, trust
        As :func:`mace_ft_bench.get_calculator`; not used with a calculator.
    pairs_per_batch
        Neighbour pairs in one batch. A batch that does not fit into memory is split.

    Returns
    -------
    list of numpy.ndarray
        Per frame (atoms, features) in double precision; features without a unit, of the layers one after another.

    Raises
    ------
    CardError
        If the model is no MACE model, or has no such layer.
    StructureError
        If a structure cannot be evaluated; before any work is done.
    """
    calculator = _calculator(model, device=device, dtype=dtype, head=head, trust=trust)
    spans = _invariant_spans(calculator.model, layers, calculator.label_name)
    structures = list(frames)
    for structure in structures:
        check_structure(structure, calculator.numbers, model=calculator.label_name)
    tables = search_pairs(structures, calculator.r_max)
    backend = _FeatureBackend("e3nn", calculator.model, list(calculator.heads).index(calculator.head))

    def work(batch: Sequence[tuple[Atoms, PairTable]]) -> list[np.ndarray]:
        graph = join([atoms for atoms, _ in batch], [table for _, table in batch], _species_of(calculator))
        features = backend.features(graph)
        chosen = np.concatenate([features[:, span] for span in spans], axis=1)
        return np.split(chosen, np.cumsum(graph.sizes)[:-1])

    sizes = [len(table.sender) for table in tables]
    return run_in_batches(
        list(zip(structures, tables, strict=True)),
        sizes,
        pairs_per_batch or PAIRS_PER_BATCH[calculator.device.type],
        work,
    )


class _FeatureBackend(TorchBackend):
    """The plain path, asked for what lies before the readouts."""

    def features(self, graph: Graph) -> np.ndarray:
        """Return all node features, of the layers one after another (N, features)."""
        with torch.no_grad():
            output = self._model(self._batch(graph), compute_force=False)
        features: np.ndarray = output["node_feats"].cpu().numpy().astype(np.float64)
        return features


def _calculator(
    model: str | Path | MaceCalculator, *, device: str, dtype: str | None, head: str | None, trust: bool
) -> MaceCalculator:
    found: Any = model
    if not isinstance(model, MaceCalculator):
        found = get_calculator(model, device=device, dtype=dtype, head=head, trust=trust, accelerate="off")
    if not isinstance(found, MaceCalculator):
        raise CardError(f"{model} is no MACE model: it has no descriptors.", fix="choose one of `mfb models`.")
    return found


def _species_of(calculator: MaceCalculator) -> np.ndarray:
    species_of = np.zeros(max(calculator.numbers) + 1, dtype=np.int64)
    species_of[list(calculator.numbers)] = np.arange(len(calculator.numbers))
    return species_of


def _invariant_spans(model: Any, layers: Sequence[int] | None, name: str) -> list[slice]:  # noqa: ANN401 - a ScaleShiftMACE
    """Return where the scalars of the chosen layers lie among all features of an atom."""
    every: list[list[slice]] = []
    offset = 0
    for product in model.products:
        irreps = product.linear.irreps_out
        scalars = [
            slice(offset + span.start, offset + span.stop)
            for (_, irrep), span in zip(irreps, irreps.slices(), strict=True)
            if irrep.l == 0
        ]
        every.append(scalars)
        offset += irreps.dim
    wanted = range(len(every)) if layers is None else layers
    wrong = [layer for layer in wanted if not 0 <= layer < len(every)]
    if wrong or not len(wanted):
        raise CardError(
            f"Model {name} has no layers {list(wanted)}.", fix=f"choose from {', '.join(map(str, range(len(every))))}."
        )
    return [span for layer in wanted for span in every[layer]]
