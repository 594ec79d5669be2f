"""Surface energies: bonds counted by hand, and slabs that have to agree with each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential

from mace_ft_bench.errors import CardError, StructureError, UnstableError
from mace_ft_bench.properties import surface
from mace_ft_bench.units import EV_PER_A2_IN_J_PER_M2

R0, EPSILON = 2.8, 0.5
A = R0 * np.sqrt(2)
NEAREST = MorsePotential(epsilon=EPSILON, r0=R0, rho0=4.0, rcut1=1.1, rcut2=1.3)


@pytest.mark.parametrize(
    ("miller", "broken", "area"),
    [((1, 1, 1), 3, np.sqrt(3) / 4 * A**2), ((1, 0, 0), 4, A**2 / 2), ((1, 1, 0), 6, A**2 / np.sqrt(2))],
)
def test_bonds_broken_between_neighbours_of_fcc(miller, broken, area):
    """Every atom of the surface lost its bonds across it; those of (110) count the second layer's one."""
    found = surface.compute(bulk("Al", "fcc", a=A, cubic=True), NEAREST, surface.Settings(miller))
    expected = broken * EPSILON / 2 / area * EV_PER_A2_IN_J_PER_M2
    assert found.unrelaxed_j_per_m2 == pytest.approx(expected, rel=1e-6)
    assert found.surface_energy_j_per_m2 == pytest.approx(expected, rel=1e-4)  # nothing draws the layers inwards


def test_copper_agrees_with_a_slab_by_hand():
    found = surface.compute(bulk("Cu", "fcc", a=3.6, cubic=True), EMT(), surface.Settings((1, 1, 1), relax=False))
    slab = fcc111("Cu", (1, 1, found.atoms), a=3.5898, vacuum=10)
    slab.calc = EMT()
    atom = bulk("Cu", "fcc", a=3.5898)
    atom.calc = EMT()
    area = np.linalg.norm(np.cross(slab.cell[0], slab.cell[1]))
    expected = (slab.get_potential_energy() - len(slab) * atom.get_potential_energy()) / 2 / area
    assert found.surface_energy_j_per_m2 == pytest.approx(expected * EV_PER_A2_IN_J_PER_M2, rel=1e-3)


def test_copper_relaxes_to_less_and_thickness_does_not_matter():
    settings = surface.Settings((1, 1, 0), fmax=1e-3)
    thin = surface.compute(bulk("Cu", "fcc", a=3.6, cubic=True), EMT(), settings)
    thick = surface.compute(bulk("Cu", "fcc", a=3.6, cubic=True), EMT(), replace(settings, thickness=30.0))
    assert thin.surface_energy_j_per_m2 < thin.unrelaxed_j_per_m2 - 1e-4
    assert thick.surface_energy_j_per_m2 == pytest.approx(thin.surface_energy_j_per_m2, rel=2e-3)
    assert thick.layers > thin.layers
    assert 0.01 < thin.largest_displacement_angstrom < 0.2


def test_repeats_and_a_rattle_do_not_change_a_stable_surface():
    settings = surface.Settings((1, 1, 1), fmax=1e-3)
    plain = surface.compute(bulk("Cu", "fcc", a=3.6, cubic=True), EMT(), settings)
    shaken = surface.compute(bulk("Cu", "fcc", a=3.6, cubic=True), EMT(), replace(settings, repeat=(2, 2), rattle=0.05))
    assert shaken.surface_energy_j_per_m2 == pytest.approx(plain.surface_energy_j_per_m2, rel=1e-3)
    assert shaken.atoms == 4 * plain.atoms
    assert shaken.unrelaxed_j_per_m2 == pytest.approx(plain.unrelaxed_j_per_m2, rel=1e-6)


@pytest.mark.parametrize("miller", [(1, 0, 0), (1, 1, 0), (1, 1, 1), (2, 1, 1), (0, 0, 2)])
def test_noise_of_a_relaxed_crystal_does_not_roughen_the_faces(miller):
    """Atoms of a layer stay on one side of the cut, and the faces are alike."""
    crystal = bulk("Mo", "bcc", a=3.17, cubic=True)
    clean, _ = surface.cut(crystal, surface.Settings(miller))
    noisy = crystal.copy()
    noisy.positions += 1e-7 * np.random.default_rng(0).normal(size=(2, 3))
    noisy.set_cell(crystal.cell + 1e-7 * np.random.default_rng(1).normal(size=(3, 3)))
    slab, _ = surface.cut(noisy, surface.Settings(miller))
    assert np.sort(slab.positions[:, 2]) == pytest.approx(np.sort(clean.positions[:, 2]), abs=1e-4)
    heights = np.sort(slab.positions[:, 2]).round(3)
    _, atoms = np.unique(heights, return_counts=True)
    assert len(set(atoms)) == 1


@pytest.mark.parametrize("seed", range(6))
def test_noise_does_not_choose_among_equal_gaps_of_unlike_layers(seed):
    stack = Atoms(
        "CuAuAg", scaled_positions=[(0, 0, 0), (0.5, 0.5, 1 / 3), (0, 0, 2 / 3)], cell=(2.6, 2.6, 6), pbc=True
    )
    stack.positions += 1e-6 * np.random.default_rng(seed).normal(size=(3, 3))
    slab, _ = surface.cut(stack, surface.Settings((0, 0, 1)))
    ordered = slab.symbols[np.argsort(slab.positions[:, 2])]
    assert (ordered[0], ordered[-1]) == ("Au", "Cu")


def test_displacements_are_counted_from_the_cut_crystal_whatever_the_rattle():
    settings = surface.Settings((1, 1, 0), fmax=1e-3)
    plain = surface.compute(bulk("Cu", "fcc", a=3.6, cubic=True), EMT(), settings)
    shaken = surface.compute(bulk("Cu", "fcc", a=3.6, cubic=True), EMT(), replace(settings, rattle=0.05))
    assert shaken.largest_displacement_angstrom == pytest.approx(plain.largest_displacement_angstrom, abs=0.03)


def test_diamond_is_cut_between_the_layers_that_one_bond_joins():
    slab, _ = surface.cut(bulk("Si", "diamond", a=5.43, cubic=True), surface.Settings((1, 1, 1)))
    below = np.unique(slab.positions[:, 2].round(3))
    assert np.diff(below)[0] == pytest.approx(5.43 * np.sqrt(3) / 12, abs=1e-3)  # the short gap is inside


def test_errors_are_those_that_were_put_in():
    result = surface.Result(2.2, 2.4, 10.0, 5, 5, 0.1)
    reference = {"surface_energy_j_per_m2": 2.0, "unrelaxed_j_per_m2": 3.0}
    assert surface.compare(result, reference) == pytest.approx({"surface_energy_percent": 10, "unrelaxed_percent": -20})
    assert surface.compare(result, {}) == {}


def test_bad_input(recorder):
    with pytest.raises(CardError, match="indices of a plane"):
        surface.Settings((0, 0, 0))
    with pytest.raises(CardError, match="thickness"):
        surface.Settings((1, 0, 0), thickness=-1)
    with pytest.raises(CardError, match="rattle does nothing"):
        surface.Settings((1, 0, 0), rattle=0.1, relax=False)
    with pytest.raises(CardError, match="rattle"):
        surface.Settings((1, 0, 0), rattle=-1)
    with pytest.raises(StructureError, match="needs a crystal"):
        surface.compute(Atoms("Cu"), EMT(), surface.Settings((1, 0, 0)))
    empty = recorder(energy=lambda atoms: np.nan if atoms.cell[2, 2] > 20 else 0.0)
    with pytest.raises(UnstableError, match="an energy"):
        surface.compute(bulk("Cu", "fcc", a=3.6, cubic=True), empty, surface.Settings((1, 0, 0)))
