"""Readers: a file of somebody's format in, labelled frames in our units and keys out."""

from __future__ import annotations

import inspect
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.db import connect

from mace_ft_bench.datasets.frames import labelled
from mace_ft_bench.errors import CardError, DataError, suggestion
from mace_ft_bench.units import KBAR_IN_EV_PER_A3

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")


def voigt_from(values: Sequence[float], order: Sequence[str]) -> np.ndarray:
    """Return six stress components in ASE's Voigt order.

    Parameters
    ----------
    values
        Six components.
    order
        Their names, for example ``["xx", "yy", "zz", "xy", "xz", "yz"]``.

    Raises
    ------
    CardError
        If the order does not name six different components.
    DataError
        If there are not six values.
    """
    if len(order) != len(_VOIGT) or {"".join(sorted(name)) for name in order} != set(_VOIGT):
        raise CardError(f"Stress order {list(order)} is no order.", fix="name xx, yy, zz, yz, xz and xy, each once.")
    if len(values) != len(_VOIGT):
        raise DataError(f"A stress has {len(values)} components.", fix="check the source file.")
    named = {"".join(sorted(name)): value for name, value in zip(order, values, strict=True)}
    return np.array([named[name] for name in _VOIGT], dtype=float)


def read_mlearn_json(path: Path, *, stress_order: Sequence[str]) -> list[Atoms]:
    """Read frames of github.com/materialsvirtuallab/mlearn (doi 10.1021/acs.jpca.9b08723).

    Its ``virial_stress`` is in kbar with compression positive, in an order that differs between elements.

    Parameters
    ----------
    path
        JSON file.
    stress_order
        Order of the six components.
    """
    frames = []
    for entry in json.loads(path.read_text(encoding="utf-8")):
        structure, outputs = entry["structure"], entry["outputs"]
        atoms = Atoms(
            [site["label"] for site in structure["sites"]],
            positions=[site["xyz"] for site in structure["sites"]],
            cell=structure["lattice"]["matrix"],
            pbc=True,
        )
        stress = -KBAR_IN_EV_PER_A3 * voigt_from(outputs["virial_stress"], stress_order)
        frames.append(
            labelled(
                atoms,
                energy=outputs["energy"],
                forces=np.array(outputs["forces"]),
                stress=stress,
                config_type=entry["group"],
            )
        )
    return frames


def read_ase_db(path: Path, *, config_type_key: str) -> list[Atoms]:
    """Read an ASE database whose rows hold energies, forces and stresses in ASE's own units and order.

    Parameters
    ----------
    path
        sqlite file.
    config_type_key
        Key-value pair that names the source of a row as ``<element>.<group>.<number>``.
    """
    with connect(path) as database:
        rows = list(database.select())
    return [
        labelled(
            row.toatoms(),
            energy=row.energy,
            forces=row.forces,
            stress=row.stress,
            config_type=row.key_value_pairs[config_type_key].split(".")[1].replace("_", "-"),
        )
        for row in rows
    ]


_MALFORMED = (LookupError, TypeError, ValueError, AttributeError, sqlite3.Error)
"""What numpy, json, sqlite and ase raise on a file that is truncated or of another kind."""

READERS: dict[str, Callable[..., list[Atoms]]] = {"mlearn-json": read_mlearn_json, "ase-db": read_ase_db}


def read_frames(path: Path, reader: str, options: dict[str, Any]) -> list[Atoms]:
    """Read a file with a named reader.

    Raises
    ------
    CardError
        If the reader does not exist or does not take the options.
    DataError
        If the file is not what the reader expects.
    """
    if reader not in READERS:
        raise CardError(f'No reader is called "{reader}".', fix=suggestion(reader, READERS))
    read = READERS[reader]
    try:
        inspect.signature(read).bind(path, **options)
    except TypeError as error:
        raise CardError(f"Reader {reader} does not take {options}: {error}.", fix="correct the options.") from error
    try:
        return read(path, **options)
    except (CardError, DataError):
        raise
    except _MALFORMED as error:
        raise DataError(f"{path} is not a {reader} file: {error!r}.", fix="check the reader of the card.") from error
