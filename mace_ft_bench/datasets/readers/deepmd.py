"""Frames of DeePMD systems in npy format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from mace_ft_bench.datasets.readers.labels import Labels, partly_labelled
from mace_ft_bench.datasets.readers.stress import voigt_of_matrix
from mace_ft_bench.errors import CardError, DataError
from mace_ft_bench.toml_schema import StrictTable

if TYPE_CHECKING:
    from pathlib import Path

_ROWS = {"coord": 3, "force": 3}
"""Numbers per atom in a row; the other arrays have a fixed number per frame."""
_FIXED = {"box": 9, "virial": 9, "energy": 1}


@dataclass(frozen=True, kw_only=True)
class DeepmdNpy(StrictTable):
    """A DeePMD system: ``type.raw`` and ``set.*/{coord,box,energy,force,virial}.npy``, in eV and Angstrom.

    The virial of DeePMD is -V times the stress of ASE. Energy, forces and virial may each be missing; labels in float32
    keep their values in float64. Atoms keep the order of ``type.raw``.
    """

    type_map: tuple[str, ...] = ()
    """Elements of the types 0, 1, ...; needed where there is no ``type_map.raw``."""
    config_type: str = ""
    """Group of the frames; by default the name of the folder."""

    def read(self, path: Path) -> list[Atoms]:
        """Return the frames of a system.

        Raises
        ------
        DataError
            If a file is missing, or the arrays do not belong together.
        CardError
            If the elements of the types are not known, or contradict ``type_map.raw``.
        """
        symbols = self._symbols(path)
        sets = sorted(folder for folder in path.glob("set.*") if folder.is_dir())
        if not sets:
            raise DataError(f"{path} has no set.* folder.", fix="give the folder of a system, where type.raw is.")
        return [frame for folder in sets for frame in self._frames(path, folder, symbols)]

    def _symbols(self, path: Path) -> list[str]:
        if not (path / "type.raw").is_file():
            raise DataError(f"{path} has no type.raw.", fix="give the folder of a system.")
        types = np.atleast_1d(np.loadtxt(path / "type.raw", dtype=int))
        listed = tuple((path / "type_map.raw").read_text().split()) if (path / "type_map.raw").is_file() else ()
        if listed and self.type_map and listed != self.type_map:
            raise CardError(
                f"{path}: type_map.raw says {' '.join(listed)}, type_map other.", fix="leave the option out."
            )
        names = listed or self.type_map
        if not names:
            raise CardError(f"{path} has no type_map.raw.", fix="name the elements of types 0, 1, ... with type_map.")
        if types.min() < 0 or types.max() >= len(names):
            raise CardError(f"{path}: type {types.max()} has no name in {' '.join(names)}.", fix="correct type_map.")
        return [names[number] for number in types]

    def _frames(self, path: Path, folder: Path, symbols: list[str]) -> list[Atoms]:
        if (folder / "real_atom_types.npy").exists():
            raise DataError(f"{folder} is of the mixed-type format.", fix="convert it to deepmd/npy with dpdata.")
        arrays = {name: _load(folder / f"{name}.npy", len(symbols)) for name in [*_ROWS, *_FIXED]}
        periodic = not (path / "nopbc").exists()
        needed = ["coord", "box"] if periodic else ["coord"]
        for name in needed:
            if arrays[name] is None:
                raise DataError(f"{folder} has no {name}.npy.", fix="complete the system.")
        lengths = {name: len(array) for name, array in arrays.items() if array is not None}
        if len(set(lengths.values())) > 1:
            raise DataError(f"{folder}: numbers of frames differ, {lengths}.", fix="complete the system.")
        return [
            self._frame(
                {name: None if rows is None else rows[number] for name, rows in arrays.items()},
                Atoms(symbols, pbc=periodic),
                config_type=self.config_type or path.resolve().name,
                where=f"{folder}, frame {number}",
            )
            for number in range(lengths["coord"])
        ]

    @staticmethod
    def _frame(row: dict[str, Any], atoms: Atoms, *, config_type: str, where: str) -> Atoms:
        atoms.positions = row["coord"]
        if atoms.pbc.all():
            atoms.cell = row["box"].reshape(3, 3)
        stress = None
        if row["virial"] is not None:
            if not atoms.pbc.all():
                raise DataError(f"{where} has a virial and no cell.", fix="remove virial.npy, or nopbc.")
            stress = -voigt_of_matrix(row["virial"], where) / atoms.cell.volume
        return partly_labelled(
            atoms,
            Labels(
                energy=None if row["energy"] is None else float(row["energy"][0]),
                forces=row["force"],
                stress=stress,
            ),
            config_type=config_type,
            where=where,
        )


def _load(path: Path, atoms: int) -> np.ndarray | None:
    """Return an array (frames, ...) in float64, or None if there is no such file."""
    if not path.is_file():
        return None
    array: np.ndarray = np.load(path, allow_pickle=False).astype(float)
    name = path.stem
    size = _ROWS[name] * atoms if name in _ROWS else _FIXED[name]
    frames = len(array)
    if array.size != frames * size:
        raise DataError(
            f"{path} has shape {array.shape}; {size} numbers per frame are expected.",
            fix="check type.raw and the file.",
        )
    return array.reshape(frames, atoms, 3) if name in _ROWS else array.reshape(frames, size)
