"""A strict ASE calculator for MACE models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from mace_ft_bench.calculators.heads import choose_head
from mace_ft_bench.calculators.structure_checks import check_structure
from mace_ft_bench.errors import StructureError
from mace_ft_bench.torch_env import mace_environment
from mace_ft_bench.zoo.checkpoint import build_model, describe_model

with mace_environment():
    from mace.data.neighborhood import get_neighborhood

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

_DIMENSIONS = 3
_SHORTEST_DISTANCE = 0.1
"""Distance [Angstrom] below which two atoms count as one put in twice."""


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

    Raises
    ------
    UnknownNameError
        If the head does not exist, or is not given although there are several.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 - as ASE declares it

    def __init__(
        self, model: torch.nn.Module, *, name: str, device: str, dtype: torch.dtype, head: str | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in ASE
        self.label_name = name
        self.heads: Sequence[str] = list(getattr(model, "heads", None) or ["Default"])
        self.head = choose_head(self.heads, head, model=name)
        self.device = torch.device(device)
        self.dtype = dtype
        self.model = model.to(device=self.device, dtype=dtype).eval().requires_grad_(requires_grad=False)
        self.r_max = float(cast("torch.Tensor", model.r_max))
        self.parameters = {"model": name, "head": self.head, "dtype": str(dtype), "device": device}
        self.numbers = tuple(cast("torch.Tensor", model.atomic_numbers).tolist())

    def __getstate__(self) -> dict[str, Any]:
        # The compiled parts of e3nn cannot be pickled reliably; the configuration and the tensors can.
        state = self.__dict__.copy()
        state["model"] = (describe_model(self.model), self.model.state_dict())
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        config, tensors = state.pop("model")
        self.__dict__.update(state)
        model = build_model(config)
        model.load_state_dict(tensors)
        self.model = model.to(self.device).eval().requires_grad_(requires_grad=False)

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
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]  # untyped in ASE
        structure = cast("Atoms", self.atoms)
        check_structure(structure, self.numbers, model=self.label_name)
        has_volume = structure.cell.rank == _DIMENSIONS
        if properties and "stress" in properties and not has_volume:
            raise PropertyNotImplementedError(
                "Stress needs a cell with three independent vectors. To fix: set a cell, or do not ask for the stress."
            )
        output = self.model(self._graph(structure), compute_force=True, compute_stress=has_volume)
        self.results = self._results(output, structure, has_volume=has_volume)

    def _graph(self, atoms: Atoms) -> dict[str, torch.Tensor]:
        # The neighbour search replaces cell vectors of non-periodic directions, so it gets a copy.
        edges, shifts, unit_shifts, _ = get_neighborhood(
            atoms.positions, self.r_max, tuple(atoms.pbc), atoms.cell.array.copy()
        )
        _refuse_overlaps(atoms, edges, shifts)
        index_of = {number: index for index, number in enumerate(self.numbers)}
        one_hot = np.eye(len(self.numbers))[[index_of[number] for number in atoms.numbers.tolist()]]
        real = {
            "positions": atoms.positions,
            "node_attrs": one_hot,
            "shifts": shifts,
            "unit_shifts": unit_shifts,
            "cell": atoms.cell.array,
        }
        count = len(atoms)
        index = {
            "edge_index": edges,
            "batch": np.zeros(count, dtype=np.int64),
            "ptr": np.array([0, count]),
            "head": np.array([self.heads.index(self.head)]),
        }
        tensors = {key: torch.as_tensor(value, dtype=self.dtype, device=self.device) for key, value in real.items()}
        integers = {key: torch.as_tensor(value, dtype=torch.int64, device=self.device) for key, value in index.items()}
        return tensors | integers

    def _results(self, output: dict[str, Any], atoms: Atoms, *, has_volume: bool) -> dict[str, Any]:
        energies = output["node_energy"].detach().cpu().numpy().astype(np.float64)
        energy = float(energies.sum())
        results = {
            "energy": energy,
            "free_energy": energy,
            "energies": energies,
            "forces": output["forces"].detach().cpu().numpy().astype(np.float64),
        }
        if not (np.isfinite(energies).all() and np.isfinite(results["forces"]).all()):
            raise StructureError(
                f"Model {self.label_name} returns numbers that are not finite.",
                fix="look at the structure: it is far outside of what the model was trained on.",
            )
        if has_volume:
            # The virial over the user's own cell: a slab's vacuum counts, as in every plane-wave code.
            virial = -output["virials"].detach().cpu().numpy().astype(np.float64).reshape(3, 3)
            results["stress"] = _voigt(virial / atoms.get_volume())
        return results


def _refuse_overlaps(atoms: Atoms, edges: np.ndarray, shifts: np.ndarray) -> None:
    vectors = atoms.positions[edges[1]] - atoms.positions[edges[0]] + shifts
    distances = np.linalg.norm(vectors, axis=1)
    if distances.size and distances.min() < _SHORTEST_DISTANCE:
        first, second = edges[:, distances.argmin()].tolist()
        raise StructureError(
            f"Atoms {first} and {second} (or an image) are {distances.min():.2g} Å apart.",
            fix="separate them, or remove one of them.",
        )


def _voigt(stress: np.ndarray) -> np.ndarray:
    voigt: np.ndarray = full_3x3_to_voigt_6_stress(stress)
    return voigt
