"""Extended XYZ with every digit: a float64 that is written is read back as it was.

ASE writes eight decimals of positions and arrays, which moves labels by up to 5e-9 eV/Angstrom and makes frames differ
from their source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from ase.io.extxyz import key_val_dict_to_str

from mace_ft_bench.atomic import replacing
from mace_ft_bench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np
    from ase import Atoms

_KINDS = {"f": "R", "i": "I", "U": "S", "b": "L"}


def write_exact(frames: Iterable[Atoms], path: Path) -> None:
    """Write frames with their ``info`` and ``arrays``, to a temporary name that is then renamed.

    Parameters
    ----------
    frames
        Frames without calculators and constraints; those of one are not written.
    path
        File to write.

    Raises
    ------
    DataError
        If an array has a type that extended XYZ does not know.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for frame in frames:
            _write(frame, file)


def _write(frame: Atoms, file: TextIO) -> None:
    arrays = {name: array for name, array in frame.arrays.items() if name not in {"numbers", "positions"}}
    properties = ["species:S:1:pos:R:3", *(_property(name, array) for name, array in arrays.items())]
    info = {"Properties": ":".join(properties), **frame.info, "pbc": frame.pbc}
    if frame.cell.any():
        # vectors one after the other: ASE stores the transpose in Fortran order, which is the same nine numbers
        info = {"Lattice": " ".join(map(repr, frame.cell.array.ravel().tolist())), **info}
    columns = [frame.positions, *arrays.values()]
    cells = [column.reshape(len(frame), -1).tolist() for column in columns]
    file.write(f"{len(frame)}\n{key_val_dict_to_str(info)}\n")
    file.writelines(
        f"{symbol} {' '.join(_text(value) for part in row for value in part)}\n"
        for symbol, *row in zip(frame.symbols, *cells, strict=True)
    )


def _property(name: str, array: np.ndarray) -> str:
    if array.dtype.kind not in _KINDS:
        raise DataError(f'The array "{name}" is of type {array.dtype}.', fix="remove it, or make it numbers.")
    return f"{name}:{_KINDS[array.dtype.kind]}:{array[:1].size if len(array) else 1}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "T" if value else "F"
    return repr(value) if isinstance(value, float) else str(value)
