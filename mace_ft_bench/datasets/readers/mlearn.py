"""Frames of mlearn: one JSON list per element."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from mace_ft_bench.datasets.frames import labelled
from mace_ft_bench.datasets.readers.stress import voigt_from
from mace_ft_bench.errors import DataError, suggestion
from mace_ft_bench.toml_schema import StrictTable
from mace_ft_bench.units import KBAR_IN_EV_PER_A3

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class MlearnJson(StrictTable):
    """Frames of github.com/materialsvirtuallab/mlearn (doi 10.1021/acs.jpca.9b08723).

    Its ``virial_stress`` is in kbar with compression positive, in an order that differs between elements, and for Si
    between groups.
    """

    stress_order: tuple[str, ...]
    """Order of the six components."""
    group_stress_orders: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """That of groups which have another."""

    def __post_init__(self) -> None:
        for order in (self.stress_order, *self.group_stress_orders.values()):
            voigt_from([0.0] * 6, order)

    def read(self, path: Path) -> list[Atoms]:
        """Return the frames of a JSON file.

        Raises
        ------
        DataError
            If it lacks a group of ``group_stress_orders``.
        """
        entries = json.loads(path.read_text(encoding="utf-8"))
        groups = {entry["group"] for entry in entries}
        for name in set(self.group_stress_orders) - groups:
            raise DataError(f'{path} has no group "{name}", of group_stress_orders.', fix=suggestion(name, groups))
        return [self._frame(entry) for entry in entries]

    def _frame(self, entry: Any) -> Atoms:  # noqa: ANN401 - as parsed from JSON
        structure, outputs = entry["structure"], entry["outputs"]
        atoms = Atoms(
            [site["label"] for site in structure["sites"]],
            positions=[site["xyz"] for site in structure["sites"]],
            cell=structure["lattice"]["matrix"],
            pbc=True,
        )
        order = self.group_stress_orders.get(entry["group"], self.stress_order)
        return labelled(
            atoms,
            energy=outputs["energy"],
            forces=np.array(outputs["forces"]),
            stress=-KBAR_IN_EV_PER_A3 * voigt_from(outputs["virial_stress"], order),
            config_type=entry["group"],
        )
