"""How frames are labelled: a calculator by its ASE name, and its arguments, as TOML."""

from __future__ import annotations

import hashlib
import json
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mace_ft_bench.errors import CardError
from mace_ft_bench.toml_schema import StrictTable, merged, parse, read_toml

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class GroupSettings(StrictTable):
    """Other arguments for some groups of frames, for example isolated atoms."""

    config_types: tuple[str, ...]
    arguments: dict[str, Any] = field(default_factory=dict)
    """Replace those of the calculator, key by key, in nested tables too."""
    stress: bool = True
    """Whether the stress is a label; that of an atom or a molecule in a box means nothing."""


@dataclass(frozen=True)
class LabelSettings(StrictTable):
    """A calculator and its arguments.

    Nothing but plain data can be said: the calculator is one that ASE knows by name, and so no file of settings runs
    code of its own.
    """

    name: str
    """Of the set, for titles."""
    calculator: str
    """Name by which ASE knows it (``gpaw``, ``vasp``, ``espresso``, ``cp2k``, ``emt``), or a model of ours as
    ``model:<name>``."""
    level_of_theory: str
    """For people and dataset cards, ``PBE (GPAW, plane waves 600 eV)``."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Keywords of the calculator."""
    groups: tuple[GroupSettings, ...] = ()

    def __post_init__(self) -> None:
        named = [one for group in self.groups for one in group.config_types]
        twice = sorted({one for one in named if named.count(one) > 1})
        if twice:
            raise CardError(f'"{twice[0]}" is in two groups.', fix="name every config_type once.")

    def arguments_of(self, config_type: str) -> dict[str, Any]:
        """Return the arguments for frames of a group."""
        group = self._group(config_type)
        return deepcopy(self.arguments) if group is None else merged(self.arguments, group.arguments)

    def has_stress(self, config_type: str) -> bool:
        """Whether frames of a group are given a stress."""
        group = self._group(config_type)
        return group is None or group.stress

    def _group(self, config_type: str) -> GroupSettings | None:
        return next((group for group in self.groups if config_type in group.config_types), None)

    @property
    def digest(self) -> str:
        """sha256 of what decides on the labels: calculator and arguments, not names."""
        table = asdict(self)
        decisive = {key: table[key] for key in ("calculator", "arguments", "groups")}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def with_argument(self, key: str, value: Any) -> LabelSettings:  # noqa: ANN401 - any TOML value
        """Return these settings with one argument changed.

        Parameters
        ----------
        key
            Its name, with dots into nested tables: ``mode.ecut``.
        value
            Its new value.

        Raises
        ------
        CardError
            If there is no such argument to vary.
        """
        *tables, last = key.split(".")
        inner: Any = self.arguments
        for part in tables:
            inner = inner.get(part) if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or last not in inner:
            raise CardError(f'"{key}" is none of the arguments.', fix="name one that the settings give a value.")
        change: dict[str, Any] = {last: value}
        for part in reversed(tables):
            change = {part: change}
        return replace(self, arguments=merged(self.arguments, change))


def load_settings(path: Path) -> LabelSettings:
    """Return the settings of a TOML file.

    Raises
    ------
    CardError
        If the file is missing or malformed.
    """
    return parse(read_toml(path), LabelSettings, where=str(path))
