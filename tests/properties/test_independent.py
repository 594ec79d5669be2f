"""CHGNet's elastic constants, phonons, equation of state and vacancy, worked out again by hand.

Nothing of the property modules, of phonopy or of ``elastic`` is used for the second opinion: lattice constants are
roots of the pressure, elastic constants slopes of the stress with the internal strain from Newton steps,
frequencies those of a dynamical matrix summed by hand, the equation of state a cubic in V^(-2/3),
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
STRETCHES = np.array([-0.005, -0.0025, 0.0025, 0.005])
SHEARS = np.linspace(0.0005, 0.005, 5)  # one-sided, as `elastic` has them
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
        constants = np.array([force_difference(moving, 1, axis)[1] for axis in np.eye(3)]) / (2 * MOVE)
        moving.positions[1] += np.linalg.solve(-constants.T, force)
    assert np.abs(moving.get_forces()).max() < 1e-3
    return moving


def force_difference(atoms, index, direction):
    """Return the forces with an atom moved forwards minus those with it moved backwards [eV/Angstrom]."""
    forces = []
    for sign in (1, -1):
        moved = evaluated(atoms)
        moved.positions[index] += sign * MOVE * direction
        forces.append(moved.get_forces())
    return forces[0] - forces[1]


def stress_slope(symbol, strain, shares):
    """Return the derivative of the stress [GPa] along a symmetric strain, by least squares over shares of it.

    These have to be those of the property: the stress of CHGNet bends, so that C11 of silicon is 151 GPa from strains
    of 0.2 % and 117 GPa from 1 %.
    """
    atoms = crystal(symbol, a=lattice_constant(symbol))
    stresses = []
    for share in shares:
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ (np.eye(3) + share * strain), scale_atoms=True)
        stresses.append(relaxed_inside(strained).get_stress())
    return shares @ np.array(stresses) / (shares @ shares) * GPA


def frozen_phonons(atoms, primitive, images, phase):
    """Return the frequencies [THz] at a point of the zone of which a supercell holds whole waves.

    Parameters
    ----------
    atoms
        That supercell, of one element.
    primitive
        Indices of atoms that are no images of each other.
    images
        Of every atom the place in ``primitive`` of the atom that it is an image of.
    phase
        Factor exp(iqR) of every atom, real; R is the lattice vector from its image among the primitive ones.
    """
    matrix = np.zeros((len(primitive), 3, len(primitive), 3))
    directions = atoms.cell.array / atoms.cell.lengths()[:, None]
    for column, index in enumerate(primitive):
        along = [-force_difference(atoms, index, direction) / (2 * MOVE) for direction in directions]
        constants = np.einsum("xk,kna->nax", np.linalg.inv(directions), along)
        for atom, row in enumerate(images):
            matrix[row, :, column] += phase[atom] * constants[atom]
    matrix = matrix.reshape(3 * len(primitive), -1) / atoms.get_masses()[0]
    squares = np.linalg.eigvalsh((matrix + matrix.T) / 2)
    per_thz = 1e3 * units.fs  # ASE's units of time in a picosecond
    return np.sign(squares) * np.sqrt(np.abs(squares)) * per_thz / (2 * np.pi)


def image_of(atoms, a, primitive):
    """Return for every atom which primitive one it is an image of: from the sum of its coordinates in quarters of a."""
    quarters = np.rint(4 * atoms.positions / a).astype(int).sum(axis=1)
    kinds = quarters % 2 if len(primitive) > 1 else np.zeros(len(atoms), int)
    return [int(kind) for kind in kinds]


@pytest.mark.parametrize("symbol", CRYSTALS)
def test_elastic_constants(symbol):
    result = computed("elastic", crystal(symbol, cubic=True))
    stretched = stress_slope(symbol, np.diag([1.0, 0.0, 0.0]), STRETCHES)
    sheared = stress_slope(symbol, np.array([[0, 0, 0], [0, 0, 0.5], [0, 0.5, 0]]), SHEARS)
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


@pytest.mark.parametrize(("symbol", "repeats", "points"), [("Si", 4, "GX"), ("Mo", 6, "H")])
def test_phonons(symbol, repeats, points):
    """At Gamma and at q = (0, 0, 1) 2 pi / a, which is X of silicon and H of molybdenum.

    One atom moves in the supercell of the property, as far and along the same directions, the vectors of the cell: the
    forces of CHGNet bend even at such steps (its mode at H is 2.5 THz from 0.01 Angstrom, 1.7 from 0.004, 1.0 from
    0.002), for which reason modes that the symmetry of the crystal makes equal are so in the mean only.
    """
    found = computed("phonons", crystal(symbol))
    assert found.supercell == (repeats,) * 3
    a = lattice_constant(symbol)
    atoms = crystal(symbol, a=a) * repeats
    kinds = image_of(atoms, a, [0, 1] if symbol == "Si" else [0])
    primitive = [kinds.index(kind) for kind in sorted(set(kinds))]
    heights = atoms.positions[:, 2] - atoms.positions[[primitive[kind] for kind in kinds], 2]
    for point in points:
        phase = np.ones(len(atoms)) if point == "G" else np.cos(2 * np.pi * heights / a)
        frequencies = frozen_phonons(atoms, primitive, kinds, phase)
        if point == "G":
            np.testing.assert_allclose(frequencies[:3], 0, atol=0.3)
        optical = slice(3, None) if point == "G" else slice(None)
        expected = np.array(found.thz_at[point][optical])
        equal = np.isclose(expected[:, None], expected, rtol=1e-4)
        np.testing.assert_allclose(expected, equal @ frequencies[optical] / equal.sum(axis=1), rtol=APART)


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
