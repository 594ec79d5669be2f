"""Point defects: bonds counted by hand, and EMT copper by a script of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential
from ase.optimize import BFGS

from mace_ft_bench.errors import CardError, StructureError
from mace_ft_bench.properties import point_defect
from mace_ft_bench.properties.point_defect import Settings

R0, EPSILON = 2.8, 0.5
NEAREST = MorsePotential(epsilon=EPSILON, r0=R0, rho0=4.0, rcut1=1.1, rcut2=1.3)
ORIGIN = (0.0, 0.0, 0.0)
OCTAHEDRAL = (0.5, 0.5, 0.5)


def copper():
    return bulk("Cu", "fcc", a=3.5898, cubic=True)


def test_a_vacancy_costs_half_of_the_bonds_it_breaks():
    """Twelve are broken, and the atom gets six halves of them back elsewhere."""
    crystal = bulk("Al", "fcc", a=R0 * np.sqrt(2), cubic=True)
    found = point_defect.compute(crystal, NEAREST, Settings((2, 2, 2), remove=(ORIGIN,)))
    assert found.unrelaxed_ev == pytest.approx(6 * EPSILON, rel=1e-6)
    assert found.formation_energy_ev == pytest.approx(6 * EPSILON, rel=1e-4)
    assert found.atoms == 31


def test_two_vacancies_share_the_bond_between_them():
    crystal = bulk("Al", "fcc", a=R0 * np.sqrt(2), cubic=True)
    pair = Settings((3, 3, 3), remove=(ORIGIN, (0.5, 0.5, 0.0)), relax=False)
    apart = replace(pair, remove=(ORIGIN, (1.5, 1.5, 1.0)))
    assert point_defect.compute(crystal, NEAREST, apart).unrelaxed_ev == pytest.approx(12 * EPSILON, rel=1e-6)
    assert point_defect.compute(crystal, NEAREST, pair).unrelaxed_ev == pytest.approx(11 * EPSILON, rel=1e-6)


def test_an_interstitial_of_copper_agrees_with_a_script():
    found = point_defect.compute(copper(), EMT(), Settings((3, 3, 3), add=(OCTAHEDRAL,), fmax=1e-3))
    perfect = copper().repeat(3)
    perfect.calc = EMT()
    energy = perfect.get_potential_energy()
    defect = perfect.copy()
    defect.append("Cu")
    defect.positions[-1] = 3.5898 / 2
    defect.calc = EMT()
    unrelaxed = defect.get_potential_energy() - 109 / 108 * energy
    BFGS(defect, logfile=None).run(fmax=1e-3)
    relaxed = defect.get_potential_energy() - 109 / 108 * energy
    assert found.unrelaxed_ev == pytest.approx(unrelaxed, rel=1e-3)
    assert found.formation_energy_ev == pytest.approx(relaxed, rel=1e-3)
    assert found.formation_energy_ev < found.unrelaxed_ev - 0.5


def test_a_frenkel_pair_keeps_the_number_of_atoms():
    settings = Settings((2, 2, 2), remove=(ORIGIN,), add=((1.0, 1.0, 1.5),), relax=False)
    assert point_defect.compute(copper(), EMT(), settings).atoms == 32


def test_a_rattle_lets_the_symmetry_break():
    """An interstitial put half way between neighbours stays there by symmetry, which is no minimum."""
    held = Settings((2, 2, 2), add=((0.25, 0.25, 0.0),), fmax=1e-3)
    still = point_defect.compute(copper(), EMT(), held)
    shaken = point_defect.compute(copper(), EMT(), replace(held, rattle=0.1))
    assert shaken.unrelaxed_ev == still.unrelaxed_ev
    assert shaken.formation_energy_ev < still.formation_energy_ev - 0.01


def test_the_place_of_the_defect_does_not_matter():
    settings = Settings((2, 2, 2), remove=(ORIGIN,))
    shifted = replace(settings, remove=((1.5, 0.5, 1.0),))
    first, second = (point_defect.compute(copper(), EMT(), item) for item in (settings, shifted))
    assert first.formation_energy_ev == pytest.approx(second.formation_energy_ev, abs=1e-4)


def test_errors_are_those_that_were_put_in():
    result = point_defect.Result(1.5, 2.0, 31, 0.1)
    errors = point_defect.compare(result, {"formation_energy_ev": 1.25, "unrelaxed_ev": 2.5})
    assert errors == pytest.approx({"formation_energy_ev": 0.25, "unrelaxed_ev": -0.5})
    assert point_defect.compare(result, {}) == {}


def test_bad_input():
    with pytest.raises(CardError, match="no defect"):
        Settings((2, 2, 2))
    with pytest.raises(CardError, match="repeat"):
        Settings((0, 2, 2), add=(OCTAHEDRAL,))
    with pytest.raises(StructureError, match="several elements"):
        point_defect.compute(bulk("LiCl", "rocksalt", a=5.1), EMT(), Settings((2, 2, 2), remove=(ORIGIN,)))
    with pytest.raises(StructureError, match="No atom is at.*fractions"):
        point_defect.with_defect(copper(), Settings((2, 2, 2), remove=(OCTAHEDRAL,)))
    with pytest.raises(StructureError, match="one atom twice"):
        point_defect.with_defect(copper(), Settings((2, 2, 2), remove=(ORIGIN, (2.0, 0.0, 0.0))))
    with pytest.raises(StructureError, match="0.00 Angstrom from .* to be added"):
        point_defect.with_defect(copper(), Settings((2, 2, 2), add=(ORIGIN,)))
    with pytest.raises(StructureError, match="0.00 Angstrom from .* to be added"):
        point_defect.with_defect(copper(), Settings((2, 2, 2), add=(OCTAHEDRAL, OCTAHEDRAL)))
    with pytest.raises(CardError, match="rattle does nothing"):
        Settings((2, 2, 2), remove=(ORIGIN,), rattle=0.1, relax=False)
    molecule = copper()
    molecule.pbc = False
    with pytest.raises(StructureError, match="A defect needs a crystal"):
        point_defect.compute(molecule, EMT(), Settings((2, 2, 2), remove=(ORIGIN,)))
