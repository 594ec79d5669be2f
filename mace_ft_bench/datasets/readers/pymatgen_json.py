"""Frames in JSON: structures as pymatgen writes them, with labels beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from mace_ft_bench.datasets.readers.labels import NONE, Labels, numbers, partly_labelled, require_names
from mace_ft_bench.datasets.readers.stress import StressOptions
from mace_ft_bench.errors import CardError, DataError, suggestion
from mace_ft_bench.units import ENERGY_UNITS, FORCE_UNITS, factor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class PymatgenJson(StressOptions):
    """JSON of records that hold a ``Structure`` of pymatgen and its labels.

    Records may stand in lists, in dictionaries (as in MPtrj), or in columns (as CHGNet's ``StructureData``): wherever a
    structure is found under ``structure_key``, a frame is read. Keys of nested labels are joined with a dot
    (``outputs.energy``).
    """

    energy_key: str
    """Key of the energy, or ``none``."""
    forces_key: str
    """Key of the forces, or ``none``."""
    structure_key: str = "structure"
    config_type_key: str = ""
    """Key of the group of a record."""
    config_type: str = ""
    """Group of all frames; by default the name of the file."""
    energy_per_atom: bool = False
    """Whether the energy is one per atom."""
    energy_unit: str = "eV"
    forces_unit: str = "eV/A"
    allow_missing: bool = False
    """Keep frames that lack some of the labels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_names([self.energy_key, self.forces_key, self.structure_key], "energy_key, forces_key, structure_key")
        if self.config_type_key and self.config_type:
            raise CardError("The group comes from config_type_key and from config_type.", fix="give one of them.")
        factor(self.energy_unit, ENERGY_UNITS)
        factor(self.forces_unit, FORCE_UNITS)

    def read(self, path: Path) -> list[Atoms]:
        """Return the frames of a file, in its order.

        Raises
        ------
        DataError
            If there is no structure, or a record lacks a label.
        """
        records = list(_records(json.loads(path.read_text(encoding="utf-8")), self.structure_key, "record"))
        if not records:
            raise DataError(f'{path} holds no "{self.structure_key}".', fix="name its key with structure_key.")
        return [self._frame(record, f"{path}, {where}", path.stem) for where, record in records]

    def _frame(self, record: dict[str, Any], where: str, name: str) -> Atoms:
        atoms = _atoms(record[self.structure_key], where)
        labels = _flat({key: value for key, value in record.items() if key != self.structure_key})
        energy, forces = self._label(labels, self.energy_key, where), self._label(labels, self.forces_key, where)
        stress = None
        if not (self.allow_missing and self.stress_key and labels.get(self.stress_key) is None):
            if self.stress_key:
                numbers(labels, self.stress_key, where)
            stress = self.stress_of(labels, atoms.cell.volume, where)
        scale = factor(self.energy_unit, ENERGY_UNITS) * (len(atoms) if self.energy_per_atom else 1)
        return partly_labelled(
            atoms,
            Labels(
                energy=None if energy is None else scale * float(energy),
                forces=None if forces is None else factor(self.forces_unit, FORCE_UNITS) * forces,
                stress=stress,
            ),
            config_type=self._group(labels, where) or self.config_type or name,
            where=where,
        )

    def _label(self, labels: dict[str, Any], key: str, where: str) -> np.ndarray | None:
        if key == NONE or (self.allow_missing and labels.get(key) is None):
            return None
        return numbers(labels, key, where)

    def _group(self, labels: dict[str, Any], where: str) -> str:
        if not self.config_type_key:
            return ""
        group = labels.get(self.config_type_key)
        if not isinstance(group, str) or not group:
            raise DataError(
                f'{where}: "{self.config_type_key}" is {group!r}, which is no name.',
                fix=suggestion(self.config_type_key, labels),
            )
        return group


def _records(content: Any, key: str, where: str) -> Iterator[tuple[str, dict[str, Any]]]:  # noqa: ANN401 - any JSON
    """Yield what holds a structure, with the way to it."""
    if isinstance(content, dict) and isinstance(content.get(key), dict):
        yield where, content
    elif isinstance(content, dict) and isinstance(content.get(key), list):
        columns = {name: values for name, values in content.items() if isinstance(values, list)}
        for number, row in enumerate(zip(*columns.values(), strict=True)):
            yield f"{where} {number}", dict(zip(columns, row, strict=True))
    elif isinstance(content, (dict, list)):
        for name, inner in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _records(inner, key, f"{where} {name}")


def _atoms(structure: Any, where: str) -> Atoms:  # noqa: ANN401 - as parsed from JSON
    lattice = structure["lattice"]
    cell = np.array(lattice["matrix"], dtype=float)
    return Atoms(
        [_element(site, where) for site in structure["sites"]],
        positions=[site["xyz"] if "xyz" in site else np.array(site["abc"]) @ cell for site in structure["sites"]],
        cell=cell,
        pbc=lattice.get("pbc", True),
    )


def _element(site: dict[str, Any], where: str) -> str:
    species = site.get("species") or [{"element": site["label"], "occu": 1}]
    if len(species) != 1 or species[0].get("occu", 1) != 1:
        raise DataError(f"{where}: a site is occupied by {species}.", fix="give ordered structures.")
    return str(species[0]["element"])


def _flat(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in record.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
