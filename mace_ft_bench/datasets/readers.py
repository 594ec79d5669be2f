"""Readers: a file of somebody's format in, labelled frames in our units and keys out."""

from __future__ import annotations

import inspect
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.db import connect
from ase.io import read as ase_read
from ase.io.extxyz import XYZError

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


def read_extxyz(
    path: Path, *, energy_key: str, forces_key: str, config_type_key: str, config_types: Sequence[str] | None = None
) -> list[Atoms]:
    """Read energies [eV] and forces [eV/Angstrom] of an extended XYZ file, in its order.

    Stresses are not read: their sign and unit differ from file to file. ASE moves labels of some names, ``energy`` and
    ``forces`` among them, into a calculator; they are looked up there as well. Only selected frames need labels.

    Parameters
    ----------
    path
        Text file.
    energy_key
        Key of the total energy in the comment line.
    forces_key
        Name of the column of the forces.
    config_type_key
        Key of the group of a frame in the comment line.
    config_types
        Groups to keep, by their exact names; all by default.

    Raises
    ------
    CardError
        If a key is no name, or a selected group is not in the file.
    DataError
        If a frame has no group, or a selected one lacks a label or has one that is not finite.
    """
    _require_names([energy_key, forces_key, config_type_key], "energy_key, forces_key and config_type_key")
    if config_types is not None:
        _require_names(config_types, "config_types")
    frames = {f"{path}, frame {number}": frame for number, frame in enumerate(_frames_of_extxyz(path))}
    groups = {where: _group(frame, config_type_key, where) for where, frame in frames.items()}
    chosen = _selected(set(groups.values()), config_types, path)
    return [
        labelled(
            frame,
            energy=float(_numbers(frame, frame.info, energy_key, where)),
            forces=_numbers(frame, frame.arrays, forces_key, where),
            stress=None,
            config_type=groups[where],
        )
        for where, frame in frames.items()
        if groups[where] in chosen
    ]


def _require_names(names: Any, option: str) -> None:  # noqa: ANN401 - whatever a card says
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) and name for name in names):
        raise CardError(f"{option}: {names!r} are no names.", fix="give non-empty text; config_types is a list of it.")


def _frames_of_extxyz(path: Path) -> list[Atoms]:
    """Return all frames; ASE stops at an empty line, and what follows one would be lost in silence."""
    with path.open(encoding="utf-8") as file:
        try:
            frames: list[Atoms] = list(ase_read(file, index=":", format="extxyz"))
        except (XYZError, RuntimeError) as error:  # a frame without comment line ends ASE's generator: RuntimeError
            raise DataError(f"{path} is not a extxyz file: {error}.", fix="check the source file.") from error
        if file.read().strip():
            raise DataError(f"{path} goes on after an empty line behind {len(frames)} frames.", fix="remove the line.")
    if not frames:
        raise DataError(f"{path} holds no frame.", fix="check the source file.")
    return frames


def _group(frame: Atoms, key: str, where: str) -> str:
    if key not in frame.info:
        raise DataError(f'{where} has no "{key}".', fix=suggestion(key, frame.info))
    group = frame.info[key]
    if not isinstance(group, str):
        raise DataError(f'{where}: "{key}" is {group!r}, which is no name.', fix="choose a key that names groups.")
    return group


def _selected(found: set[str], config_types: Sequence[str] | None, path: Path) -> set[str]:
    for name in config_types or ():
        if name not in found:
            raise CardError(f'{path} has no frame of config type "{name}".', fix=suggestion(name, found))
    return found if config_types is None else set(config_types)


def _numbers(frame: Atoms, own: dict[str, Any], key: str, where: str) -> np.ndarray:
    """Return a label of a frame; text and logical values, which numpy would turn into numbers, are refused."""
    labels = {**own, **(frame.calc.results if frame.calc else {})}
    if key not in labels:
        raise DataError(f'{where} has no label "{key}".', fix=suggestion(key, labels))
    values = np.asarray(labels[key])
    if values.dtype.kind not in "if":
        raise DataError(f'{where}: label "{key}" is not numeric.', fix="check the source file.")
    return values


_MALFORMED = (LookupError, TypeError, ValueError, AttributeError, sqlite3.Error)
"""What numpy, json, sqlite and ase raise on a file that is truncated or of another kind."""

READERS: dict[str, Callable[..., list[Atoms]]] = {
    "mlearn-json": read_mlearn_json,
    "ase-db": read_ase_db,
    "extxyz": read_extxyz,
}


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
