"""Frames of CP2K: the text output of single points.

ASE reads no CP2K output, and dpdata loses the stress tensor that CP2K has printed since version 8 ("STRESS|"), so the
few blocks are read here, in the layouts before and after that version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.geometry import cellpar_to_cell

from mace_ft_bench.datasets.readers.labels import Labels, partly_labelled
from mace_ft_bench.datasets.readers.stress import voigt_of_matrix
from mace_ft_bench.errors import DataError, suggestion
from mace_ft_bench.toml_schema import StrictTable
from mace_ft_bench.units import FORCE_UNITS, HARTREE_IN_EV, PRESSURE_UNITS

if TYPE_CHECKING:
    from pathlib import Path

_NUMBER = r"\s+(-?\d\S*)"
_XYZ = 3 * _NUMBER
_VECTOR = re.compile(rf"^ CELL\| Vector [abc] \[angstrom\]:{_XYZ}\s+\|[abc]\| ={_NUMBER}", re.MULTILINE)
_ANGLE = re.compile(rf"^ CELL\| Angle \([abc],[abc]\), \w+\s+\[degree\]:{_NUMBER}", re.MULTILINE)
_PERIODIC = re.compile(r"^ CELL\| Periodicity\s+(\w+)", re.MULTILINE)
_COORDINATES = re.compile(r"MODULE QUICKSTEP:\s+ATOMIC COORDINATES IN ANGSTROM", re.IGNORECASE)
_ATOM = re.compile(rf"^\s+\d+\s+\d+\s+\S+\s+(\d+){_XYZ}\s", re.MULTILINE)
_ENERGY = re.compile(
    rf"^ ENERGY\| Total FORCE_EVAL \( \w+ \) energy (?:\(a\.u\.\)|\[a\.u\.\]|\[hartree\]):?{_NUMBER}", re.MULTILINE
)
_FORCES = re.compile(r"(?:ATOMIC FORCES in \[a\.u\.\]|FORCES\| Atomic forces \[hartree/bohr\])")
_FORCE = re.compile(rf"^(?:\s+\d+\s+\d+\s+\S+|\s*FORCES\|\s+\d+){_XYZ}", re.MULTILINE)
_STRESS = re.compile(r"(?:STRESS TENSOR|STRESS\| Analytical stress tensor|STRESS\| Numerical stress tensor) \[(\S+)\]")
_STRESS_ROW = re.compile(rf"^ (?:STRESS\|)?\s+[xyzXYZ]{_XYZ}\s*$", re.MULTILINE)
_ROUNDING = 1.1e-3
"""Vectors of the cell are printed with three decimals [Angstrom]."""


@dataclass(frozen=True, kw_only=True)
class Cp2k(StrictTable):
    """The text output of a CP2K run of type ENERGY_FORCE, at print level MEDIUM with PRINT/FORCES (and STRESS_TENSOR).

    The stress, positive in compression, is read in the unit the output names. The cell is built from the lengths and
    angles, which have more decimals than the vectors, in the orientation of the vectors.
    """

    allow_unconverged: bool = False
    """Accept an electronic loop that did not converge."""
    config_type: str = ""
    """Group of the frame; by default the name of the folder."""

    def read(self, path: Path) -> list[Atoms]:
        """Return the one frame of an output.

        Raises
        ------
        DataError
            If a block is missing, several frames are in the file, or the electronic loop did not converge.
        """
        text = path.read_text(encoding="utf-8", errors="replace")
        energies = _ENERGY.findall(text)
        if len(energies) != 1:
            raise DataError(
                f"{path} holds {len(energies)} total energies; this reader takes single points.",
                fix="give the output of one ENERGY_FORCE run; compute the frames of a trajectory one by one.",
            )
        if not self.allow_unconverged and ("SCF run NOT converged" in text or "SCF run converged" not in text):
            raise DataError(f"{path}: the SCF run did not converge.", fix="compute it again, or use allow_unconverged.")
        atoms = _structure(text, path)
        return [
            partly_labelled(
                atoms,
                Labels(
                    energy=HARTREE_IN_EV * float(energies[0]),
                    forces=_forces(text, len(atoms), path),
                    stress=_stress(text, path),
                ),
                config_type=self.config_type or path.resolve().parent.name,
                where=str(path),
            )
        ]


def _structure(text: str, path: Path) -> Atoms:
    start = _COORDINATES.search(text)
    rows = _block(_ATOM, text[start.end() :]) if start else []
    if not rows:
        raise DataError(f"{path} holds no atomic coordinates.", fix="run CP2K with PRINT_LEVEL MEDIUM.")
    found = _PERIODIC.search(text)
    directions = found.group(1).upper() if found else "XYZ"  # printed since version 2022
    return Atoms(
        [int(row[0]) for row in rows],
        positions=np.array([row[1:4] for row in rows], dtype=float),
        cell=_cell(text, path),
        pbc=[axis in directions and directions != "NONE" for axis in "XYZ"],
    )


def _cell(text: str, path: Path) -> np.ndarray:
    vectors = np.array(_VECTOR.findall(text)[:3], dtype=float)
    angles = np.array(_ANGLE.findall(text)[:3], dtype=float)
    if vectors.shape != (3, 4) or angles.shape != (3,):
        raise DataError(f"{path} holds no cell.", fix="run CP2K with PRINT_LEVEL MEDIUM.")
    rough = vectors[:, :3]
    standard: np.ndarray = cellpar_to_cell([*vectors[:, 3], *angles])
    if np.abs(standard - rough).max() < _ROUNDING:
        return standard
    left, _, right = np.linalg.svd(standard.T @ rough)  # the rotation that takes one to the other
    turned: np.ndarray = standard @ left @ right
    if np.abs(turned - rough).max() > _ROUNDING:
        raise DataError(f"{path}: vectors, lengths and angles of the cell disagree.", fix="check the file.")
    return turned


def _forces(text: str, atoms: int, path: Path) -> np.ndarray:
    start = _FORCES.search(text)
    rows = _block(_FORCE, text[start.end() :]) if start else []
    if len(rows) != atoms:
        raise DataError(
            f"{path} holds {len(rows)} forces [hartree/bohr] for {atoms} atoms.", fix="set FORCE_EVAL/PRINT/FORCES ON."
        )
    return FORCE_UNITS["hartree/bohr"] * np.array(rows, dtype=float)


def _stress(text: str, path: Path) -> np.ndarray | None:
    start = _STRESS.search(text)
    if start is None:
        return None
    rows = _STRESS_ROW.findall(text[start.end() :])[:3]
    if len(rows) != 3 or start.group(1) not in PRESSURE_UNITS:  # noqa: PLR2004 - x, y, z
        raise DataError(
            f"{path}: the stress tensor [{start.group(1)}] cannot be read.",
            fix=suggestion(start.group(1), PRESSURE_UNITS),
        )
    return -PRESSURE_UNITS[start.group(1)] * voigt_of_matrix(np.array(rows, dtype=float), str(path))


def _block(pattern: re.Pattern[str], text: str) -> list[tuple[str, ...]]:
    """Return the rows of the first unbroken run of lines that match."""
    rows: list[tuple[str, ...]] = []
    for line in text.splitlines():
        match = pattern.match(line + " ")
        if match:
            rows.append(match.groups())
        elif rows:
            break
    return rows
