"""A strict ASE calculator for MACE models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from mace_ft_bench.calculators.acceleration import Acceleration
from mace_ft_bench.calculators.batches import run_in_batches
from mace_ft_bench.calculators.graph import join, pair_table, search_pairs
from mace_ft_bench.calculators.heads import choose_head
from mace_ft_bench.calculators.neighbors import NeighborList, SkinSettings
from mace_ft_bench.calculators.structure_checks import check_structure, refuse_stress_without_volume
from mace_ft_bench.errors import StructureError
from mace_ft_bench.zoo.checkpoint import build_model, describe_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ase import Atoms

    from mace_ft_bench.calculators.backends import Output
    from mace_ft_bench.calculators.graph import PairTable
    from mace_ft_bench.calculators.neighbors import Candidates

PAIRS_PER_BATCH = {"cpu": 3_000, "cuda": 50_000}
"""Pairs that :meth:`MaceCalculator.evaluate` puts into one batch. More would leave a processor's cache (mace's own
modules take 1.4 to 2.4 times the time at 10 000, on one thread); a GPU wants more, at most a few GB with 128
channels in float64."""
_FUSED_PAIR_CHANNELS = 1_280_000
"""Pairs times channels in a batch of the fused kernel: 40 000 pairs of 32 channels take a tenth less time than 10 000,
30 000 of 64 channels, which leave the cache, 1.6 times as much."""


class MaceCalculator(Calculator):
    """Energy, forces and stress of a MACE model.

    The total energy is the sum of the site energies in double precision, whatever the dtype of the model, so that
    ``energies.sum() == energy`` and a large reference energy costs no digits in float32.

    Parameters
    ----------
    model
        A ``ScaleShiftMACE``; it is taken over, moved and converted.
    name
        Name for messages and records.
    device
        ``cpu`` or ``cuda``.
    dtype
        ``float64`` or ``float32``.
    head
        Name of the head; may be left out when there is one.
    accelerate
        One of :data:`mace_ft_bench.calculators.acceleration.ACCELERATORS`.
    neighbors
        When the neighbour list is built anew.

    Raises
    ------
    UnknownNameError
        If the head or the accelerator does not exist, or no head is given although there are several.
    AccelerationError
        If an accelerator asked for by name cannot serve the model.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 - as ASE declares it

    def __init__(  # noqa: PLR0913 - one per thing a user may want to choose
        self,
        model: torch.nn.Module,
        *,
        name: str,
        device: str,
        dtype: torch.dtype,
        head: str | None = None,
        accelerate: str = "auto",
        neighbors: SkinSettings | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in ASE
        self.label_name = name
        self.heads: Sequence[str] = list(getattr(model, "heads", None) or ["Default"])
        self.head = choose_head(self.heads, head, model=name)
        self.device = torch.device(device)
        self.dtype = dtype
        self.model = model.to(device=self.device, dtype=dtype).eval().requires_grad_(requires_grad=False)
        self.r_max = float(cast("torch.Tensor", model.r_max))
        self.numbers = tuple(cast("torch.Tensor", model.atomic_numbers).tolist())
        self.neighbors = NeighborList(self.r_max, neighbors)
        self._acceleration = Acceleration(self.model, self.heads.index(self.head), accelerate)
        self._table: tuple[Candidates, PairTable] | None = None
        self.parameters = {
            "model": name,
            "head": self.head,
            "dtype": str(dtype),
            "device": device,
            "accelerate": accelerate,
        }

    @property
    def accelerator(self) -> str:
        """Name of the accelerator that served the last call; empty before the first."""
        return self._acceleration.used

    def __getstate__(self) -> dict[str, Any]:
        # The compiled parts of e3nn cannot be pickled reliably; the configuration and the tensors can.
        state = self.__dict__.copy()
        state["model"] = (describe_model(self.model), self.model.state_dict())
        state["_acceleration"] = self._acceleration.mode
        state["_table"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        config, tensors = state.pop("model")
        self.__dict__.update(state)
        model = build_model(config, tensors)
        model.load_state_dict(tensors)
        self.model = model.to(self.device).eval().requires_grad_(requires_grad=False)
        self._acceleration = Acceleration(self.model, self.heads.index(self.head), state["_acceleration"])

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate the model; energy, energies and forces always, stress where the cell has a volume.

        Raises
        ------
        StructureError
            If the structure cannot be evaluated.
        PropertyNotImplementedError
            If a stress is asked of a structure without a three-dimensional cell.
        """
        self.results = {}  # ASE replaces self.atoms even if a check raises below
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]  # untyped in ASE
        structure = cast("Atoms", self.atoms)
        check_structure(structure, self.numbers, model=self.label_name)
        refuse_stress_without_volume(structure, properties)
        self.results = self._evaluate([structure], [self._pairs(structure)])[0]

    def evaluate(self, frames: Iterable[Atoms], *, pairs_per_batch: int | None = None) -> list[dict[str, Any]]:
        """Evaluate many structures at once.

        Parameters
        ----------
        frames
            Structures of any sizes; they are not modified, and calculators attached to them are left alone.
        pairs_per_batch
            Neighbour pairs in one batch (default: by device and accelerator). A batch that does not fit into memory is
            split.

        Returns
        -------
        list of dict
            Per structure what :meth:`calculate` puts into ``results``.

        Raises
        ------
        StructureError
            If a structure cannot be evaluated; before any work is done.
        """
        structures = list(frames)
        for structure in structures:
            check_structure(structure, self.numbers, model=self.label_name)
        tables = search_pairs(structures, self.r_max)
        sizes = [len(table.sender) for table in tables]
        items = list(zip(structures, tables, strict=True))
        budget = pairs_per_batch or self._pairs_per_batch()
        return run_in_batches(items, sizes, budget, lambda batch: self._evaluate(*zip(*batch, strict=True)))

    def _pairs_per_batch(self) -> int:
        if self.accelerator != "fused":
            return PAIRS_PER_BATCH[self.device.type]
        channels: int = self.model.node_embedding.linear.irreps_out.dim  # type: ignore[union-attr,assignment]
        return _FUSED_PAIR_CHANNELS // channels

    def _pairs(self, atoms: Atoms) -> PairTable:
        """Return the candidate pairs; sorted once per build of the list."""
        candidates = self.neighbors.candidates(atoms)
        if self._table is None or self._table[0] is not candidates:
            self._table = (candidates, pair_table(candidates, len(atoms)))
        return self._table[1]

    def _evaluate(self, structures: Sequence[Atoms], tables: Sequence[PairTable]) -> list[dict[str, Any]]:
        species_of = np.zeros(max(self.numbers) + 1, dtype=np.int64)
        species_of[list(self.numbers)] = np.arange(len(self.numbers))
        graph = join(structures, tables, species_of)
        output = self._acceleration.evaluate(graph)
        self._refuse_nonsense(output)
        ends = np.cumsum(graph.sizes)
        spans = [slice(end - size, end) for end, size in zip(ends, graph.sizes, strict=True)]
        results = [_results(output.energies[span], output.forces[span]) for span in spans]
        # The virial over the user's own cell: a slab's vacuum counts, as in every plane-wave code.
        volumes = np.abs(np.linalg.det(graph.cells))
        solid = np.flatnonzero((graph.cells != 0).any(axis=2).all(axis=1) & (volumes > 0))
        stresses = full_3x3_to_voigt_6_stress(output.virials[solid]) / volumes[solid, None]
        for index, stress in zip(solid, stresses, strict=True):
            results[index]["stress"] = stress
        return results

    def _refuse_nonsense(self, output: Output) -> None:
        if not (np.isfinite(output.energies).all() and np.isfinite(output.forces).all()):
            raise StructureError(
                f"Model {self.label_name} returns numbers that are not finite.",
                fix="look at the structure: it is far outside of what the model was trained on.",
            )


def _results(energies: np.ndarray, forces: np.ndarray) -> dict[str, Any]:
    energy = float(energies.sum())
    return {"energy": energy, "free_energy": energy, "energies": energies, "forces": forces}
