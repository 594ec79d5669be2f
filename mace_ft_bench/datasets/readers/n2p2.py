"""Frames of n2p2's ``input.data``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from mace_ft_bench.datasets.readers.labels import CHARGES, TOTAL_CHARGE, Labels, partly_labelled
from mace_ft_bench.errors import DataError
from mace_ft_bench.toml_schema import StrictTable
from mace_ft_bench.units import ENERGY_UNITS, LENGTH_UNITS, factor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ATOM_WORDS = 10


@dataclass
class _Block:
    """What stands between ``begin`` and ``end``."""

    line: int
    lattice: list[list[float]] = field(default_factory=list)
    atoms: list[list[str]] = field(default_factory=list)
    single: dict[str, float] = field(default_factory=dict)
    """Energy and charge."""


@dataclass(frozen=True, kw_only=True)
class N2p2(StrictTable):
    """An ``input.data`` of n2p2 (compphysvienna.github.io/n2p2); the format has no units of its own.

    Charges of atoms are kept in ``arrays["REF_charges"]`` and that of the cell in ``info["REF_total_charge"]`` if any
    of the file is not zero. There is no stress in this format.
    """

    energy_unit: str
    """Usually ``hartree``."""
    length_unit: str
    """Usually ``bohr``; forces are in the unit of energy per that of length."""
    config_type: str = ""
    """Group of the frames; by default the name of the folder."""

    def __post_init__(self) -> None:
        factor(self.energy_unit, ENERGY_UNITS)
        factor(self.length_unit, LENGTH_UNITS)

    def read(self, path: Path) -> list[Atoms]:
        """Return the frames of a file.

        Raises
        ------
        DataError
            If a block is not complete.
        """
        blocks = list(_blocks(path))
        if not blocks:
            raise DataError(f"{path} holds no frame.", fix="check the source file.")
        charged = any(block.single.get("charge") or any(float(a[5]) for a in block.atoms) for block in blocks)
        return [self._frame(block, path, charged=charged) for block in blocks]

    def _frame(self, block: _Block, path: Path, *, charged: bool) -> Atoms:
        where = f"{path}, block at line {block.line}"
        if len(block.lattice) not in {0, 3} or not block.atoms or "energy" not in block.single:
            raise DataError(f"{where} lacks lattice vectors, atoms or the energy.", fix="complete the block.")
        energy, length = factor(self.energy_unit, ENERGY_UNITS), factor(self.length_unit, LENGTH_UNITS)
        values = np.array([[*atom[1:4], atom[5], *atom[7:10]] for atom in block.atoms], dtype=float)
        atoms = Atoms([atom[4] for atom in block.atoms], positions=length * values[:, :3])
        if block.lattice:
            atoms.set_cell(length * np.array(block.lattice))
            atoms.pbc = True
        frame = partly_labelled(
            atoms,
            Labels(
                energy=energy * block.single["energy"],
                forces=energy / length * values[:, 4:],
                stress=None,
            ),
            config_type=self.config_type or path.resolve().parent.name,
            where=where,
        )
        if charged:
            frame.arrays[CHARGES] = values[:, 3]
            frame.info[TOTAL_CHARGE] = block.single.get("charge", 0.0)
        return frame


def _blocks(path: Path) -> Iterator[_Block]:
    block: _Block | None = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        if not words or words[0] == "comment":
            continue
        if words[0] == "begin" and block is None:
            block = _Block(number)
        elif words[0] == "end" and block is not None:
            yield block
            block = None
        elif block is not None and words[0] == "lattice":
            block.lattice.append([float(word) for word in words[1:4]])
        elif block is not None and words[0] == "atom" and len(words) >= _ATOM_WORDS:
            block.atoms.append(words)
        elif block is not None and words[0] in {"energy", "charge"}:
            block.single[words[0]] = float(words[1])
        else:
            raise DataError(f'{path}, line {number}: "{line.strip()}" is out of place.', fix="check the source file.")
    if block is not None:
        raise DataError(f"{path}: the block at line {block.line} has no end.", fix="complete the file.")
