"""Grain boundaries: mirrors that a crystal has, the coherent twin of copper, the tilt boundary of silicon."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from matscipy.calculators.manybody import Manybody
from matscipy.calculators.manybody.explicit_forms import StillingerWeber
from matscipy.calculators.manybody.explicit_forms.stillinger_weber import Stillinger_Weber_PRB_31_5262_Si

from mace_ft_bench.errors import CardError, StructureError, UnstableError
from mace_ft_bench.properties import grain_boundary
from mace_ft_bench.properties.grain_boundary import Result, Settings, bicrystal
from mace_ft_bench.properties.structures import build
from mace_ft_bench.results.case import OrientedStructure
from mace_ft_bench.toml_schema import parse
from mace_ft_bench.units import EV_PER_A2_IN_J_PER_M2

RIGID = Settings(relax=False)


def block(element, lattice, a, *directions, layers):
    return build(
        OrientedStructure(
            builder="oriented", element=element, lattice=lattice, a=a, directions=directions, size=(1, 1, layers)
        )
    )


def copper_111():
    return block("Cu", "fcc", 3.59, (1, -1, 0), (1, 1, -2), (1, 1, 1), layers=2)


def silicon_112():
    return block("Si", "diamond", 5.43, (1, -1, 0), (1, 1, 1), (-1, -1, 2), layers=2)


def test_a_mirror_that_the_crystal_has_makes_no_boundary():
    """(001) of fcc: the bicrystal is the crystal, relaxed or not."""
    grain = bulk("Cu", a=3.6, cubic=True).repeat((1, 1, 3))
    for choice in (RIGID, Settings(rattle=0.02)):
        result = grain_boundary.compute(grain, EMT(), choice)
        assert result.boundary_energy_j_per_m2 == pytest.approx(0.0, abs=1e-3)
        assert result.unrelaxed_j_per_m2 == pytest.approx(0.0, abs=1e-9)
        assert result.expansion_angstrom == pytest.approx(0.0, abs=5e-3)
    assert result.atoms == 24


def test_the_coherent_twin_of_copper_is_one_layer_of_hcp():
    """A layer with hcp neighbours costs what hcp costs above fcc: the Ising picture to first neighbours of layers."""
    result = grain_boundary.compute(copper_111(), EMT(), RIGID)
    energies = []
    for lattice, scale in (("fcc", np.sqrt(2)), ("hcp", 1.0)):
        atoms = bulk("Cu", lattice, a=scale * 3.5898 / np.sqrt(2))
        atoms.calc = EMT()
        energies.append(atoms.get_potential_energy() / len(atoms))
    area_of_an_atom = 3.5898**2 * np.sqrt(3) / 4
    expected = (energies[1] - energies[0]) / area_of_an_atom * EV_PER_A2_IN_J_PER_M2
    assert abs(expected) > 1e-3
    assert result.unrelaxed_j_per_m2 == pytest.approx(expected, rel=0.05)


def test_both_grains_share_the_layers_of_the_boundaries():
    grain = silicon_112()
    grain.positions += (0.3, 0.2, 1.7)
    both = bicrystal(grain)
    height = grain.cell[2, 2]
    assert len(both) == 2 * len(grain)
    distances = both.get_all_distances(mic=True)[np.triu_indices(len(both), 1)]
    assert distances.min() > 0.9 * 5.43 * np.sqrt(3) / 4
    layers, atoms_in = np.unique((both.positions[:, 2] / height * 12).round(3), return_counts=True)
    assert layers == pytest.approx(np.arange(24))
    assert set(atoms_in) == {2}


def test_tilt_boundary_of_silicon():
    """Published: 0.0756 eV/Angstrom^2 with an epsilon of 2.1675 eV, doi 10.1103/PhysRevX.8.041048."""
    calc = Manybody(**StillingerWeber(Stillinger_Weber_PRB_31_5262_Si))
    result = grain_boundary.compute(silicon_112(), calc, Settings(cell="all"))
    unit = EV_PER_A2_IN_J_PER_M2 * Stillinger_Weber_PRB_31_5262_Si["epsilon"] / 2.1675
    assert result.boundary_energy_j_per_m2 / unit == pytest.approx(0.0756, rel=0.03)
    assert result.atoms == 48
    fixed = grain_boundary.compute(silicon_112(), calc, Settings(cell="none", fmax=0.03))
    normal = grain_boundary.compute(silicon_112(), calc, Settings(fmax=0.03))
    gammas = [item.boundary_energy_j_per_m2 for item in (result, normal, fixed)]
    assert gammas == sorted(gammas)
    assert fixed.unrelaxed_j_per_m2 > fixed.boundary_energy_j_per_m2 + 0.1
    assert fixed.expansion_angstrom == 0
    assert 0.1 < normal.expansion_angstrom < 0.6
    assert normal.area_angstrom2 == pytest.approx(fixed.area_angstrom2)


def test_orientation_and_handedness_do_not_matter():
    grain = copper_111()
    turned = grain.copy()
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    left_handed = grain.copy()
    left_handed.cell[2] *= -1
    left_handed.positions[:, 2] += 1.0
    expected = grain_boundary.compute(grain, EMT(), RIGID).unrelaxed_j_per_m2
    for other in (turned, left_handed):
        assert grain_boundary.compute(other, EMT(), RIGID).unrelaxed_j_per_m2 == pytest.approx(expected, abs=1e-5)


def test_a_tilted_block_and_a_molecule_are_refused(copper):
    tilted = copper.copy()
    tilted.cell[2, 0] = 1.8
    with pytest.raises(StructureError, match="not normal"):
        grain_boundary.compute(tilted, EMT(), RIGID)
    copper.pbc = False
    with pytest.raises(StructureError, match="needs a crystal"):
        grain_boundary.compute(copper, EMT(), RIGID)


def test_a_nan_energy_is_unstable(recorder, copper):
    with pytest.raises(UnstableError, match="not finite"):
        grain_boundary.compute(copper, recorder(energy=lambda _: float("nan")), RIGID)


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"cell": "some"}, "cell"),
        ({"rattle": -1.0}, "rattle"),
        ({"relax": False, "rattle": 0.1}, "rattle"),
        ({"fmax": 0.0}, "fmax"),
    ],
)
def test_nonsense_settings_are_card_errors(bad, word):
    with pytest.raises(CardError, match=word):
        parse(bad, Settings, where="a card")


def test_compare_returns_planted_errors():
    result = Result(1.1, 2.0, 10.0, 48, 0.1)
    assert grain_boundary.compare(result, {"boundary_energy_j_per_m2": 1.0}) == pytest.approx(
        {"boundary_energy_percent": 10.0}
    )
    assert grain_boundary.compare(replace(result, unrelaxed_j_per_m2=1.0), {"unrelaxed_j_per_m2": 2.0}) == {
        "unrelaxed_percent": -50.0
    }
