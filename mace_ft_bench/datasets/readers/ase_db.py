"""Frames of an ASE database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ase.db import connect

from mace_ft_bench.datasets.readers.labels import Labels, partly_labelled
from mace_ft_bench.toml_schema import StrictTable

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms


@dataclass(frozen=True, kw_only=True)
class AseDb(StrictTable):
    """An ASE database whose rows hold energies, forces and stresses in ASE's own units, sign and order."""

    config_type_key: str
    """Key-value pair that names the group of a row."""
    group_part: int | None = None
    """Which of the parts between dots of that name is the group, from 0; the whole name by default."""

    def read(self, path: Path) -> list[Atoms]:
        """Return the frames of an sqlite file; a row may lack a label."""
        with connect(path) as database:
            rows = list(database.select())
        return [
            partly_labelled(
                row.toatoms(),
                Labels(row.get("energy"), row.get("forces"), row.get("stress")),
                config_type=self._group(str(row.key_value_pairs[self.config_type_key])),
                where=f"{path}, row {row.id}",
            )
            for row in rows
        ]

    def _group(self, name: str) -> str:
        return (name if self.group_part is None else name.split(".")[self.group_part]).replace("_", "-")
