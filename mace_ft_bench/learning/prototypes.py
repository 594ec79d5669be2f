"""Crystals: the elements, every pair of elements in a few simple structures, and known compounds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from itertools import combinations
from typing import TYPE_CHECKING

from ase.build import bulk
from ase.spacegroup import crystal

from mace_ft_bench.learning.atomic_volumes import VOLUMES
from mace_ft_bench.learning.parent import Parent
from mace_ft_bench.toml_schema import StrictTable, parse, read_toml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ase import Atoms

_LATTICES = ("bcc", "fcc", "hcp", "sc", "diamond")
_PAIRS = {"rocksalt": (225, 0.5), "zincblende": (216, 0.25), "cesium-chloride": (221, 0.5)}
"""Space group, and position of the second atom along the diagonal."""
_CUBIC = (90.0, 90.0, 90.0)
_FIRST_HEXAGONAL, _LAST_HEXAGONAL, _FIRST_CUBIC = 143, 194, 195


@dataclass(frozen=True)
class Prototype(StrictTable):
    """A structure type."""

    name: str
    spacegroup: int
    positions: tuple[tuple[float, float, float], ...]
    """Fractional coordinates, one per Wyckoff position."""
    compounds: tuple[tuple[str | float, ...], ...]
    """Elements, in the order of the positions (numbers in the formula are for the reader), and lattice parameters."""
    angles: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class _Prototypes(StrictTable):
    prototype: tuple[Prototype, ...]


def read_prototypes() -> tuple[Prototype, ...]:
    """Return the prototypes that come with the package."""
    path: Path = files("mace_ft_bench.learning") / "prototypes.toml"  # type: ignore[assignment]  # a path in a wheel
    return parse(read_toml(path), _Prototypes, where=str(path)).prototype


def compounds(elements: Sequence[str]) -> Iterator[Parent]:
    """Yield the known compounds of the elements, in their primitive cells."""
    for prototype in read_prototypes():
        for formula, *lattice in prototype.compounds:
            symbols = re.findall("[A-Z][a-z]?", str(formula))
            if set(symbols) <= set(elements):
                atoms = _crystal(prototype, symbols, [float(length) for length in lattice])
                yield Parent(f"{prototype.name}-{formula}", "compounds", atoms)


def _crystal(prototype: Prototype, symbols: Sequence[str], lattice: Sequence[float]) -> Atoms:
    group = prototype.spacegroup
    a = lattice[0]
    hexagonal = _FIRST_HEXAGONAL <= group <= _LAST_HEXAGONAL
    lengths = {1: [a, a, a], 2: [a, a, lattice[-1]], 3: [*lattice]}[len(lattice)]
    angles = prototype.angles or ((90.0, 90.0, 120.0) if hexagonal else _CUBIC)
    atoms: Atoms = crystal(
        list(symbols), prototype.positions, spacegroup=group, cellpar=[*lengths, *angles], primitive_cell=True
    )
    return _bare(atoms)


def _bare(atoms: Atoms) -> Atoms:
    """Return the atoms without the notes that ASE leaves in ``info``."""
    atoms.info.clear()
    atoms.arrays = {key: atoms.arrays[key] for key in ("numbers", "positions")}
    return atoms


def crystals_of_elements(elements: Sequence[str]) -> Iterator[Parent]:
    """Yield simple lattices of every element at its usual volume."""
    for symbol in elements:
        for lattice in _LATTICES:
            atoms = _at_usual_volume(bulk(symbol, lattice, a=1.0))
            yield Parent(f"{lattice}-{symbol}", "elements", atoms)


def pairs_of_elements(elements: Sequence[str]) -> Iterator[Parent]:
    """Yield every pair of elements in simple structures, at the volume that the two usually take."""
    for first, second in combinations(elements, 2):
        for name, (group, place) in _PAIRS.items():
            places = [(0, 0, 0), (place,) * 3]
            atoms = crystal([first, second], places, spacegroup=group, cellpar=[1, 1, 1, *_CUBIC], primitive_cell=True)
            yield Parent(f"{name}-{first}-{second}", "pairs", _at_usual_volume(_bare(atoms)))


def _at_usual_volume(atoms: Atoms) -> Atoms:
    volume = sum(VOLUMES[str(symbol)] for symbol in atoms.symbols)
    atoms.set_cell(atoms.cell.array * (volume / atoms.get_volume()) ** (1 / 3), scale_atoms=True)
    return atoms
