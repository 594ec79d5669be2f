"""Frames of extended XYZ files, whatever their labels are called."""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ase.io import read as ase_read
from ase.io.extxyz import XYZError, key_val_str_to_dict

from mace_ft_bench.datasets.readers.labels import NONE, Labels, numbers, partly_labelled, require_names
from mace_ft_bench.datasets.readers.stress import StressOptions
from mace_ft_bench.errors import CardError, DataError, suggestion
from mace_ft_bench.units import ENERGY_UNITS, FORCE_UNITS, factor

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from ase import Atoms

_SPECIAL = re.compile(r"(?<!\S)(stress|virial)(?=\s*=)")
_HIDDEN = "_of_the_file"
"""Added to the keys of which ASE takes nine numbers only, and moves one into a calculator."""


@dataclass(frozen=True, kw_only=True)
class Extxyz(StressOptions):
    """An extended XYZ file, in its order; compressed if its name ends in ``.gz``.

    ASE moves labels of some names, ``energy`` and ``forces`` among them, into a calculator; they are looked up there as
    well. Only selected frames need labels. A file that holds a stress or virial needs the options that name its
    convention, or ``ignore_stress``.
    """

    energy_key: str
    """Key of the total energy in the comment line, or ``none``."""
    forces_key: str
    """Name of the column of the forces, or ``none``."""
    config_type_key: str
    """Key of the group of a frame in the comment line, or ``none`` where ``config_type`` is given."""
    config_type: str = ""
    """Group of all frames."""
    config_types: tuple[str, ...] | None = None
    """Groups to keep, by their exact names; all by default."""
    energy_unit: str = "eV"
    forces_unit: str = "eV/A"
    allow_missing: bool = False
    """Keep frames that lack some of the labels."""
    unlabelled: bool = False
    """The frames are structures without any label, to start from; all keys of labels are then ``none``."""
    pbc: tuple[bool, bool, bool] | None = None
    """Periodic directions of all frames, for files that leave them out; by default what ASE makes of the file."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_names([self.energy_key, self.forces_key, self.config_type_key], "energy_key, forces_key, ...")
        if self.config_types is not None:
            require_names(self.config_types, "config_types")
        if (self.config_type_key == NONE) != bool(self.config_type):
            raise CardError(
                "The group of a frame comes from one place.",
                fix='name a key with config_type_key, or give config_type and config_type_key = "none".',
            )
        named = [key for key in (self.energy_key, self.forces_key, self.stress_key or NONE) if key != NONE]
        if self.unlabelled and named:
            raise CardError(f"The frames are unlabelled and have {named}.", fix='say "none", or unlabelled = false.')
        factor(self.energy_unit, ENERGY_UNITS)
        factor(self.forces_unit, FORCE_UNITS)

    def read(self, path: Path) -> list[Atoms]:
        """Return the selected frames.

        Raises
        ------
        CardError
            If a selected group is not in the file.
        DataError
            If a frame has no group, or a selected one lacks a label or has one that is not finite.
        """
        frames = {f"{path}, frame {number}": frame for number, frame in enumerate(frames_of_extxyz(path))}
        groups = {where: self._group(frame, where) for where, frame in frames.items()}
        chosen = _selected(set(groups.values()), self.config_types, path)
        return [
            self._labelled(frame, groups[where], where) for where, frame in frames.items() if groups[where] in chosen
        ]

    def _group(self, frame: Atoms, where: str) -> str:
        return self.config_type or _group(frame, self.config_type_key, where)

    def _labelled(self, frame: Atoms, group: str, where: str) -> Atoms:
        if self.pbc is not None:
            frame.pbc = self.pbc
        results = frame.calc.results if frame.calc else {}
        info = {key.removesuffix(_HIDDEN): value for key, value in frame.info.items()}
        energy = self._label(info | results, self.energy_key, where)
        forces = self._label({**frame.arrays, **results}, self.forces_key, where)
        stress = None
        if not (self.allow_missing and self.stress_key and self.stress_key not in info):
            if self.stress_key:
                numbers(info, self.stress_key, where)
            stress = self.stress_of(info, frame.cell.volume, where)
        return partly_labelled(
            frame,
            Labels(
                energy=None if energy is None else factor(self.energy_unit, ENERGY_UNITS) * float(energy),
                forces=None if forces is None else factor(self.forces_unit, FORCE_UNITS) * forces,
                stress=stress,
            ),
            config_type=group,
            where=where,
            unlabelled=self.unlabelled,
        )

    def _label(self, labels: dict[str, Any], key: str, where: str) -> np.ndarray | None:
        if key == NONE or (self.allow_missing and key not in labels):
            return None
        return numbers(labels, key, where)


def frames_of_extxyz(path: Path) -> list[Atoms]:
    """Return all frames; ASE stops at an empty line, and what follows one would be lost in silence.

    A ``stress`` or ``virial`` of the comment line is kept as it is, under another name, in ``info``.

    Raises
    ------
    DataError
        If the file is malformed, or holds no frame.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        try:
            frames: list[Atoms] = list(ase_read(file, index=":", format="extxyz", properties_parser=_properties))
        except (XYZError, RuntimeError) as error:  # a frame without comment line ends ASE's generator: RuntimeError
            raise DataError(f"{path} is not a extxyz file: {error}.", fix="check the source file.") from error
        if file.read().strip():
            raise DataError(f"{path} goes on after an empty line behind {len(frames)} frames.", fix="remove the line.")
    if not frames:
        raise DataError(f"{path} holds no frame.", fix="check the source file.")
    return frames


def _properties(line: str) -> dict[str, Any]:
    found: dict[str, Any] = key_val_str_to_dict(_SPECIAL.sub(rf"\1{_HIDDEN}", line))
    return found


def _group(frame: Atoms, key: str, where: str) -> str:
    if key not in frame.info:
        raise DataError(f'{where} has no "{key}".', fix=suggestion(key, frame.info))
    group = frame.info[key]
    if not isinstance(group, str):
        raise DataError(f'{where}: "{key}" is {group!r}, which is no name.', fix="choose a key that names groups.")
    return group


def _selected(found: set[str], config_types: tuple[str, ...] | None, path: Path) -> set[str]:
    for name in config_types or ():
        if name not in found:
            raise CardError(f'{path} has no frame of config type "{name}".', fix=suggestion(name, found))
    return found if config_types is None else set(config_types)
