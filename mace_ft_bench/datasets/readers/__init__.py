"""Readers: a file of somebody's format in, labelled frames in our units and keys out; one module per format.

A reader is a frozen dataclass of its options with a method ``read(path)``.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Protocol

from mace_ft_bench.datasets.readers.ase_db import AseDb
from mace_ft_bench.datasets.readers.cp2k import Cp2k
from mace_ft_bench.datasets.readers.deepmd import DeepmdNpy
from mace_ft_bench.datasets.readers.extxyz import Extxyz
from mace_ft_bench.datasets.readers.mlearn import MlearnJson
from mace_ft_bench.datasets.readers.n2p2 import N2p2
from mace_ft_bench.datasets.readers.pymatgen_json import PymatgenJson
from mace_ft_bench.datasets.readers.stress import voigt_from
from mace_ft_bench.datasets.readers.vasp import Outcar, Vasprun
from mace_ft_bench.errors import CardError, DataError, suggestion
from mace_ft_bench.toml_schema import parse

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms

__all__ = ["READERS", "Reader", "read_frames", "voigt_from"]

_MALFORMED = (LookupError, TypeError, ValueError, AttributeError, sqlite3.Error)
"""What numpy, json, sqlite and ase raise on a file that is truncated or of another kind."""


class Reader(Protocol):
    """What every reader offers."""

    def read(self, path: Path) -> list[Atoms]:
        """Return the labelled frames of a file or folder."""


READERS: dict[str, type[Reader]] = {
    "mlearn-json": MlearnJson,
    "ase-db": AseDb,
    "extxyz": Extxyz,
    "deepmd-npy": DeepmdNpy,
    "n2p2": N2p2,
    "pymatgen-json": PymatgenJson,
    "vasprun": Vasprun,
    "outcar": Outcar,
    "cp2k": Cp2k,
}


def read_frames(path: Path, reader: str, options: dict[str, Any]) -> list[Atoms]:
    """Read a file, or a folder where the format is one, with a named reader.

    Raises
    ------
    CardError
        If the reader does not exist or does not take the options.
    DataError
        If the file is not what the reader expects.
    """
    if reader not in READERS:
        raise CardError(f'No reader is called "{reader}".', fix=suggestion(reader, READERS))
    try:
        found = parse(options, READERS[reader], where="the table of options")
    except CardError as error:
        raise CardError(
            f"Reader {reader} does not take {options}: {error.message}", fix="correct the options."
        ) from error
    try:
        return found.read(path)
    except (CardError, DataError):
        raise
    except _MALFORMED as error:
        raise DataError(f"{path} is not a {reader} file: {error!r}.", fix="check the reader of the card.") from error
