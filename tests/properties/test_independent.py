"""CHGNet's elastic constants, phonons, equation of state and vacancy, worked out again by hand.

Nothing of the property modules, of phonopy or of ``elastic`` is used for the second opinion: lattice constants are
roots of the pressure, elastic constants central differences of the stress with the internal strain from Newton steps,
frequencies those of frozen phonons in the smallest cell that holds them, the equation of state a cubic in V^(-2/3),
which Birch-Murnaghan's is (Phys. Rev. 71, 809), and the vacancy is relaxed by another optimiser.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.optimize import FIRE
from scipy.optimize import brentq

from mace_ft_bench import get_calculator
from mace_ft_bench.properties.base import get_property

pytestmark = pytest.mark.skipif(find_spec("chgnet") is None, reason="CHGNet is not installed")

APART = 0.01
"""Largest relative difference of the two ways."""
GPA = 160.21766208
"""GPa in an eV/Angstrom^3."""
CRYSTALS = {"Si": ("diamond", 5.45), "Mo": ("bcc", 3.16)}
STRAIN = 0.005
MOVE = 0.01  # Angstrom


@cache
def chgnet():
    return get_calculator("chgnet", device="cpu")


def computed(name, atoms, **settings):
    item = get_property(name)
    return item.compute(atoms, chgnet(), item.settings(**settings))


def evaluated(atoms):
    moving = atoms.copy()
    moving.calc = chgnet()
    return moving


def crystal(symbol, *, cubic=False, a=None):
    lattice, near = CRYSTALS[symbol]
    return bulk(symbol, lattice, a=a or near, cubic=cubic)


@cache
def lattice_constant(symbol):
    """Return the root of the pressure [Angstrom]."""
    near = CRYSTALS[symbol][1]
    return brentq(lambda a: evaluated(crystal(symbol, a=a)).get_stress()[:3].sum(), 0.97 * near, 1.03 * near, xtol=1e-5)


def relaxed_inside(atoms):
    """Return the strained crystal with its second atom where no force acts, by Newton's method."""
    moving = evaluated(atoms)
    if len(moving) == 1:
        return moving
    for _ in range(3):
        force = moving.get_forces()[1]
        constants = np.array([force_difference(moving, 1, axis)[1] for axis in range(3)]) / (2 * MOVE)
        moving.positions[1] += np.linalg.solve(-constants.T, force)
    assert np.abs(moving.get_forces()).max() < 1e-3
    return moving


def force_difference(atoms, index, axis):
    """Return the forces with an atom moved forwards minus those with it moved backwards [eV/Angstrom]."""
    forces = []
    for sign in (1, -1):
        moved = evaluated(atoms)
        moved.positions[index, axis] += sign * MOVE
        forces.append(moved.get_forces())
    return forces[0] - forces[1]


def stress_slope(symbol, strain):
    """Return the derivative of the stress [GPa] along a symmetric strain."""
    atoms = crystal(symbol, a=lattice_constant(symbol))
    stresses = []
    for sign in (1, -1):
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ (np.eye(3) + sign * STRAIN * strain), scale_atoms=True)
        stresses.append(relaxed_inside(strained).get_stress())
    return (stresses[0] - stresses[1]) / (2 * STRAIN) * GPA


def frozen_phonons(atoms, primitive, phase):
    """Return the frequencies [THz] at a point of the zone of which a cell holds whole waves.

    Parameters
    ----------
    atoms
        That cell, of one element; its atoms are ``primitive`` ones and their images.
    primitive
        Indices of atoms that are no images of each other.
    phase
        Factor exp(iqR) of every atom, real; R is the lattice vector from its image among the primitive ones.
    """
    images = image_of(atoms, primitive)
    matrix = np.zeros((len(primitive), 3, len(primitive), 3))
    for column, index in enumerate(primitive):
        for axis in range(3):
            pushed = -force_difference(atoms, index, axis) / (2 * MOVE)
            for atom, row in enumerate(images):
                matrix[row, :, column, axis] += phase[atom] * pushed[atom]
    matrix = matrix.reshape(3 * len(primitive), -1) / atoms.get_masses()[0]
    squares = np.linalg.eigvalsh((matrix + matrix.T) / 2)
    per_thz = 1e3 * units.fs  # ASE's units of time in a picosecond
    return np.sign(squares) * np.sqrt(np.abs(squares)) * per_thz / (2 * np.pi)


def image_of(atoms, primitive):
    """Return for every atom which primitive one it is an image of: from the sum of its fractions in quarters."""
    quarters = np.rint(4 * atoms.get_scaled_positions()).astype(int).sum(axis=1)
    kinds = quarters % 2 if len(primitive) > 1 else np.zeros(len(atoms), int)
    return [int(kind) for kind in kinds]


@pytest.mark.parametrize("symbol", CRYSTALS)
def test_elastic_constants(symbol):
    result = computed("elastic", crystal(symbol, cubic=True))
    stretched = stress_slope(symbol, np.diag([1.0, 0.0, 0.0]))
    sheared = stress_slope(symbol, np.array([[0, 0, 0], [0, 0, 0.5], [0, 0.5, 0]]))
    assert result.a_angstrom == pytest.approx(lattice_constant(symbol), rel=APART / 10)
    assert result.c11_gpa == pytest.approx(stretched[0], rel=APART)
    assert result.c12_gpa == pytest.approx((stretched[1] + stretched[2]) / 2, rel=APART)
    assert result.c44_gpa == pytest.approx(sheared[3], rel=APART)


@pytest.mark.parametrize("symbol", CRYSTALS)
def test_equation_of_state(symbol):
    strain, points = 0.03, 11
    result = computed("eos", crystal(symbol), strain=strain, points=points)
    volumes, energies = [], []
    for scale in 1 + np.linspace(-strain, strain, points):
        atoms = evaluated(crystal(symbol, a=scale * lattice_constant(symbol)))
        volumes.append(atoms.cell.volume / len(atoms))
        energies.append(atoms.get_potential_energy() / len(atoms))
    curve = np.poly1d(np.polyfit(np.array(volumes) ** (-2 / 3), energies, 3))
    (minimum,) = (root.real for root in curve.deriv().roots if curve.deriv(2)(root.real) > 0 and abs(root.imag) < 1e-9)
    volume = minimum ** (-3 / 2)
    assert result.v0_angstrom3_per_atom == pytest.approx(volume, rel=APART / 10)
    assert result.b0_gpa == pytest.approx(4 / 9 * curve.deriv(2)(minimum) * volume ** (-7 / 3) * GPA, rel=APART)


def test_phonons_of_silicon_at_gamma_and_at_the_zone_boundary():
    found = computed("phonons", crystal("Si")).thz_at
    primitive = crystal("Si", a=lattice_constant("Si"))
    gamma = frozen_phonons(primitive, [0, 1], np.ones(2))
    np.testing.assert_allclose(found["G"][3:], gamma[3:], rtol=APART)
    np.testing.assert_allclose(gamma[:3], 0, atol=0.3)
    cubic = crystal("Si", cubic=True, a=lattice_constant("Si"))
    atoms = cubic.get_scaled_positions()
    kinds = image_of(cubic, [0, 1])
    two = [kinds.index(0), kinds.index(1)]
    steps = atoms - atoms[[two[kind] for kind in kinds]]  # from an atom's image, in cubic lattice constants
    phase = np.cos(2 * np.pi * steps[:, 2])  # q = (0, 0, 1) 2 pi / a is the point X
    np.testing.assert_allclose(found["X"], frozen_phonons(cubic, two, phase), rtol=APART)


def test_phonons_of_molybdenum_at_the_zone_boundary():
    found = computed("phonons", crystal("Mo")).thz_at
    cubic = crystal("Mo", cubic=True, a=lattice_constant("Mo"))
    # q = (0, 0, 1) 2 pi / a is the point H, where the two atoms of the cubic cell move against each other.
    np.testing.assert_allclose(found["H"], frozen_phonons(cubic, [0], np.array([1.0, -1.0])), rtol=APART)


def test_vacancy():
    result = computed("point_defect", crystal("Mo", cubic=True), repeat=(2, 2, 2), remove=((0.0, 0.0, 0.0),))
    supercell = evaluated(crystal("Mo", cubic=True, a=lattice_constant("Mo")) * 2)
    perfect = supercell.get_potential_energy()
    defect = evaluated(Atoms(supercell[1:]))
    rigid = defect.get_potential_energy()
    FIRE(defect, logfile=None).run(fmax=0.005, steps=300)
    share = len(defect) / len(supercell)
    assert result.unrelaxed_ev == pytest.approx(rigid - share * perfect, rel=APART)
    assert result.formation_energy_ev == pytest.approx(defect.get_potential_energy() - share * perfect, rel=APART)
    assert result.formation_energy_ev < result.unrelaxed_ev
