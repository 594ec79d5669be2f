"""Frames of an ASE database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ase.db import connect

from mace_ft_bench.datasets.frames import labelled
from mace_ft_bench.toml_schema import StrictTable

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms


@dataclass(frozen=True, kw_only=True)
class AseDb(StrictTable):
    """An ASE database whose rows hold energies, forces and stresses in ASE's own units, sign and order."""

    config_type_key: str
    """Key-value pair that names the source of a row as ``<element>.<group>.<number>``."""

    def read(self, path: Path) -> list[Atoms]:
        """Return the frames of an sqlite file."""
        with connect(path) as database:
            rows = list(database.select())
        return [
            labelled(
                row.toatoms(),
                energy=row.energy,
                forces=row.forces,
                stress=row.stress,
                config_type=row.key_value_pairs[self.config_type_key].split(".")[1].replace("_", "-"),
            )
            for row in rows
        ]
