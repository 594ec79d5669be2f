"""Energy curves of isolated pairs of atoms: their smoothness, and the repulsion of atoms that come too near.

A pair is far from any training frame, so its curve shows what a model does where it knows nothing: bumps, and holes at
short distance into which molecular dynamics falls. Measures of this kind are those of the diatomics of I. Batatia et
al., doi 10.48550/arXiv.2401.00096, and of Y. Chiang et al., doi 10.48550/arXiv.2509.20630. A model without any of the
faults has zeros, whatever the element; nothing is compared with DFT.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

from mace_ft_bench.properties.base import Property, evaluate
from mace_ft_bench.properties.checks import require, require_finite, require_positive
from mace_ft_bench.toml_schema import StrictTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from ase.calculators.calculator import Calculator

Numbers: TypeAlias = "npt.NDArray[np.float64]"

_MIN_POINTS = 20
_TWO = 2


@dataclass(frozen=True)
class Settings(StrictTable):
    """Settings of pair curves."""

    pairs: tuple[str, ...] = ()
    """Pairs such as ``Li-S``; by default all pairs of the elements of the structure, unlike ones once."""
    nearest: float = 0.4
    """Shortest distance, as a fraction of the sum of the covalent radii (the table of ASE)."""
    core: float = 0.55
    """Below this fraction of that sum atoms have to repel each other. The shortest bonds known, as Cr2 and Mo2, are
    longer."""
    furthest: float = 5.5
    """Longest distance [Angstrom]."""
    points: int = 101
    """Number of distances, equally spaced."""
    box: float = 20.0
    """Edge of the periodic cell [Angstrom]; images have to be further apart than the model sees."""
    noise: float = 1e-3
    """A force [eV/Angstrom] or a difference of energies [eV] below it is zero."""

    def __post_init__(self) -> None:
        require_positive(self, "nearest", "core", "furthest", "box", "noise")
        require(self.points >= _MIN_POINTS, f"points = {self.points} is too few.", fix="use 101.")
        require(self.core > self.nearest, "The core ends before the nearest distance.", fix="use 0.55 and 0.4.")
        require(self.box > 2 * self.furthest, f"box = {self.box} is too small.", fix="use twice furthest, or more.")
        for pair in self.pairs:
            names = pair.split("-")
            known = len(names) == _TWO and all(name in atomic_numbers and name != "X" for name in names)
            require(known, f'"{pair}" is no pair of elements.', fix="write it as Li-S.")


@dataclass(frozen=True)
class Result:
    """Curves, faults by pair, and their means over pairs."""

    flips_per_pair: float
    """Mean of ``extra_flips``."""
    core_percent: float
    """Mean over pairs of the share of distances in the core without repulsion [%]."""
    tortuosity: float
    """Mean of ``extra_way``."""
    extra_flips: dict[str, int]
    """Sign changes of the force beyond the one that a bound pair has at its minimum."""
    core_faults: dict[str, int]
    """Distances in the core at which the force is not repulsive or the energy does not rise inwards."""
    extra_way: dict[str, float]
    """Way up and down in energy along the curve, by the shortest between its ends over its lowest point, less one: zero
    if it falls to one minimum and rises from there."""
    distance_angstrom: dict[str, tuple[float, ...]]
    energy_ev: dict[str, tuple[float, ...]]
    """Above the pair at the longest distance."""


def compute(atoms: Atoms, calc: Calculator, settings: Settings) -> Result:
    """Compute the curves of pairs of the elements of ``atoms``, of which nothing else is used.

    Raises
    ------
    UnstableError
        If an energy or a force is not finite.
    """
    elements = sorted(set(atoms.get_chemical_symbols()))
    pairs = settings.pairs or tuple("-".join(pair) for pair in combinations_with_replacement(elements, 2))
    curves = {pair: _curve(pair, calc, settings) for pair in pairs}
    flips = {pair: _extra_flips(force, settings.noise) for pair, (_, _, force) in curves.items()}
    cores = {pair: distance < settings.core * _radii(pair) for pair, (distance, _, _) in curves.items()}
    faults = {
        pair: _core_faults(energy, force, cores[pair], settings.noise) for pair, (_, energy, force) in curves.items()
    }
    ways = {pair: _extra_way(energy, settings.noise) for pair, (_, energy, _) in curves.items()}
    return Result(
        flips_per_pair=float(np.mean(list(flips.values()))),
        core_percent=float(np.mean([100 * faults[pair] / cores[pair].sum() for pair in pairs])),
        tortuosity=float(np.mean(list(ways.values()))),
        extra_flips=flips,
        core_faults=faults,
        extra_way=ways,
        distance_angstrom={pair: tuple(distance.tolist()) for pair, (distance, _, _) in curves.items()},
        energy_ev={pair: tuple(energy.tolist()) for pair, (_, energy, _) in curves.items()},
    )


def _radii(pair: str) -> float:
    return float(sum(covalent_radii[atomic_numbers[name]] for name in pair.split("-")))


def _curve(pair: str, calc: Calculator, settings: Settings) -> tuple[Numbers, Numbers, Numbers]:
    """Return distances [Angstrom], energies [eV] and forces [eV/Angstrom], which are positive where they repel."""
    nearest = settings.nearest * _radii(pair)
    require(nearest < settings.furthest, f"furthest = {settings.furthest} is nearer than nearest.", fix="use 5.5.")
    distances = np.linspace(nearest, settings.furthest, settings.points)
    cell = np.full(3, settings.box)
    frames = [Atoms(pair.split("-"), [(0, 0, 0), (r, 0, 0)], cell=cell, pbc=True) for r in distances]
    results = evaluate(calc, frames, stress=False)
    energies = np.array([item.energy for item in results], dtype=float)
    forces = np.array([item.forces[1][0] for item in results], dtype=float)
    require_finite([*energies, *forces], "an energy or a force")
    return distances, energies - energies[-1], forces


def _extra_flips(force: Numbers, noise: float) -> int:
    signs = np.sign(force[np.abs(force) > noise])
    return max(int((signs[1:] != signs[:-1]).sum()) - 1, 0)


def _core_faults(energy: Numbers, force: Numbers, core: npt.NDArray[np.bool_], noise: float) -> int:
    """Return the number of distances in the core, nearest first, without repulsion."""
    rises_inwards = np.append(energy[:-1] - energy[1:] > noise, True)  # the furthest is no core
    return int((core & ~((force > noise) & rises_inwards)).sum())


def _extra_way(energy: Numbers, noise: float) -> float:
    shortest = energy[0] + energy[-1] - 2 * energy.min()
    way = np.abs(np.diff(energy)).sum()
    return float(way / shortest - 1) if shortest > noise else 0.0


def compare(result: Result, reference: Mapping[str, Any]) -> dict[str, float]:
    """Return ``flips_per_pair``, ``core_percent`` and ``tortuosity``, result minus reference, where it has them."""
    names = ("flips_per_pair", "core_percent", "tortuosity")
    return {name: getattr(result, name) - reference[name] for name in names if name in reference}


PROPERTY = Property(name="diatomics", version=1, settings=Settings, result=Result, compute=compute, compare=compare)
