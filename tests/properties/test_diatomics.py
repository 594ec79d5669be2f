"""Pair curves: Lennard-Jones has no fault; wiggles, holes and flat cores are counted."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.data import covalent_radii

from mace_ft_bench.errors import CardError, UnstableError
from mace_ft_bench.properties import diatomics
from mace_ft_bench.properties.diatomics import Settings
from mace_ft_bench.toml_schema import parse

ARGON = bulk("Ar", "fcc", a=5.3)
RADII = 2 * covalent_radii[18]


class Curve(Calculator):
    """A pair whose energy and force are given functions of the distance."""

    implemented_properties = ("energy", "forces")

    def __init__(self, energy) -> None:
        super().__init__()
        self.energy = energy

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        """Fill ``results``; the force is a central difference."""
        super().calculate(atoms, properties, system_changes)
        r, step = atoms.get_distance(0, 1), 1e-5
        force = -(self.energy(r + step) - self.energy(r - step)) / (2 * step)
        self.results = {"energy": self.energy(r), "forces": np.array([[-force, 0, 0], [force, 0, 0]])}


def lennard_jones(r):
    return 4 * ((2.5 / r) ** 12 - (2.5 / r) ** 6)


def faults(energy, **changes):
    return diatomics.compute(ARGON, Curve(energy), Settings(**changes))


def test_lennard_jones_has_no_fault_and_its_curve_is_exact():
    calc = LennardJones(sigma=2.5, epsilon=1.0, rc=9.0)
    result = diatomics.compute(ARGON, calc, Settings())
    assert (result.flips_per_pair, result.core_percent) == (0.0, 0.0)
    assert result.tortuosity == pytest.approx(0.0, abs=1e-12)
    r, energy = (np.array(table["Ar-Ar"]) for table in (result.distance_angstrom, result.energy_ev))
    assert energy == pytest.approx(lennard_jones(r) - lennard_jones(5.5), rel=1e-9, abs=1e-9)
    assert (r[0], r[-1], len(r)) == (pytest.approx(0.4 * RADII), 5.5, 101)
    assert energy[-1] == 0.0


def test_purely_repulsive_and_silent_pairs():
    assert diatomics.compare(faults(lambda r: np.exp(-r)), {"flips_per_pair": 0, "tortuosity": 0}) == pytest.approx(
        {"flips_per_pair": 0.0, "tortuosity": 0.0}, abs=1e-12
    )
    silent = faults(lambda _: 1.0)
    assert (silent.flips_per_pair, silent.core_percent, silent.tortuosity) == (0.0, 100.0, 0.0)


def test_a_wiggle_is_two_flips_and_a_longer_way():
    """A bump of 0.5 eV outside the minimum: up and down again, so that the way is longer by twice its height."""
    bump = faults(lambda r: lennard_jones(r) + 0.5 * np.exp(-(((r - 4.2) / 0.2) ** 2)))
    assert bump.extra_flips == {"Ar-Ar": 2}
    assert bump.core_faults == {"Ar-Ar": 0}
    energy = np.array(bump.energy_ev["Ar-Ar"])
    turns = [i for i in range(1, 100) if (energy[i] - energy[i - 1]) * (energy[i + 1] - energy[i]) < 0]
    lowest, top, bottom = (energy[i] for i in turns)
    longer = 2 * (top - bottom) / (energy[0] + energy[-1] - 2 * lowest)
    assert bump.tortuosity == pytest.approx(longer)
    assert longer > 0


def test_a_hole_at_short_distance_is_counted_in_the_core():
    """Inside 1 Angstrom the energy falls again, as that of a model without short-ranged repulsion."""
    edge = 0.5 * RADII
    hole = faults(lambda r: lennard_jones(max(r, edge)) - 20.0 * max(edge - r, 0.0))
    r = np.array(hole.distance_angstrom["Ar-Ar"])
    assert hole.core_faults["Ar-Ar"] == pytest.approx(np.sum(r < edge), abs=1)
    assert hole.core_percent == pytest.approx(100 * hole.core_faults["Ar-Ar"] / np.sum(r < 0.55 * RADII))
    assert hole.core_percent > 50
    assert hole.extra_flips == {"Ar-Ar": 1}


def test_noise_makes_no_flips():
    rough = faults(lambda r: 1e-6 * np.sin(50 * r))
    assert rough.flips_per_pair == 0
    assert faults(lambda r: np.sin(50 * r)).flips_per_pair > 10


def test_pairs_are_those_of_the_elements_or_those_named():
    alloy = Atoms("CuAuCu", positions=np.eye(3) * 9)
    result = diatomics.compute(alloy, EMT(), Settings(points=20))
    assert list(result.energy_ev) == ["Au-Au", "Au-Cu", "Cu-Cu"]
    assert result.flips_per_pair == np.mean(list(result.extra_flips.values()))
    assert list(diatomics.compute(alloy, EMT(), Settings(points=20, pairs=("Cu-Ag",))).energy_ev) == ["Cu-Ag"]


def test_a_nan_is_unstable():
    with pytest.raises(UnstableError, match="not finite"):
        faults(lambda _: float("nan"))


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"pairs": ["LiS"]}, "Li-S"),
        ({"pairs": ["Li-Xx"]}, "Li-Xx"),
        ({"points": 5}, "points"),
        ({"core": 0.3}, "core"),
        ({"box": 8.0}, "box"),
        ({"noise": 0.0}, "noise"),
    ],
)
def test_nonsense_settings_are_card_errors(bad, word):
    with pytest.raises(CardError, match=word):
        parse(bad, Settings, where="a card")


def test_compare_takes_what_the_reference_has():
    result = faults(lambda _: 1.0)
    assert diatomics.compare(result, {"core_percent": 25.0}) == {"core_percent": 75.0}
    assert diatomics.compare(result, {}) == {}
