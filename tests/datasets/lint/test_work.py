"""Work of labels against energies where frames are far apart, and several crystals share a config_type."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from mace_ft_bench.datasets.frames import labelled
from mace_ft_bench.datasets.lint.run import lint_frames
from mace_ft_bench.datasets.lint.work import _independent, find_pairs
from mace_ft_bench.units import EV_PER_A3_IN_GPA

S = "REF_stress"


def emt():
    return EMT()


def stiff():
    """Return a calculator for a crystal that hardens steeply, as ions that touch do."""
    return LennardJones(sigma=2.3, epsilon=0.4, rc=6.0, ro=5.0, smooth=True)


def shaken(calculator, seed, *, rattle, strain, frames=20):
    """Return frames of two crystals, fcc and hcp: three near rest each, the others strained and shaken by far."""
    generator = np.random.default_rng(seed)
    found = []
    for crystal in (bulk("Cu", a=3.6, cubic=True), bulk("Cu", "hcp", a=2.55, c=4.16, orthorhombic=True)):
        for number in range(frames):
            at_rest = number < 3
            gradient = np.zeros((3, 3)) if at_rest else generator.uniform(-strain, strain, size=(3, 3))
            atoms = crystal.copy()
            atoms.set_cell(atoms.cell @ (np.eye(3) + (gradient + gradient.T) / 2), scale_atoms=True)
            atoms.rattle(0.003 if at_rest else rattle * generator.uniform(0.3, 1), rng=generator)
            atoms.calc = calculator
            found.append(
                labelled(
                    atoms,
                    energy=atoms.get_potential_energy(),
                    forces=atoms.get_forces(),
                    stress=atoms.get_stress(),
                    config_type="shaken",
                )
            )
            atoms.calc = None
    return found


def lint(frames):
    return {f.check: f for f in lint_frames(frames).findings if f.check in {"stress", "energy-forces"}}


@pytest.mark.parametrize(("seed", "rattle", "strain"), [(3, 0.14, 0.05), (3, 0.16, 0.04), (11, 0.16, 0.04)])
def test_third_order_of_a_stiff_crystal_is_no_other_convention(seed, rattle, strain):
    """From rest to far away the work is too much; a wrong order or unit makes it less, and would look better."""
    frames = shaken(stiff(), seed, rattle=rattle, strain=strain)
    assert "stress" not in lint(frames)
    for frame in frames:
        frame.info[S] = -frame.info[S]
    assert "sign" in lint(frames)["stress"].message


@pytest.mark.parametrize("seed", [1, 4])
def test_frames_far_from_rest_are_not_foreign(seed):
    frames = shaken(emt(), seed, rattle=0.12, strain=0.04)
    assert not lint(frames)
    frames[9].info["REF_energy"] += 2.0
    assert lint(frames)["energy-forces"].frames == (9,)


@pytest.mark.parametrize(
    ("taken", "message"),
    [
        ([0, 1, 2, 4, 3, 5], "wrong is the order, which would be xx yy zz xz yz xy"),
        ([0, 1, 2, 5, 4, 3], "wrong is the order, which would be xx yy zz xy xz yz"),
        ([0, 1, 2, 5, 3, 4], "wrong is the order, which would be xx yy zz xy yz xz"),
    ],
)
def test_exchanged_shears_are_told_all_the_same(taken, message):
    frames = shaken(emt(), 1, rattle=0.12, strain=0.04)
    for frame in frames:
        frame.info[S] = frame.info[S][taken]
    assert message in lint(frames)["stress"].message


def test_a_unit_is_told_without_an_order_that_fits_by_chance():
    frames = shaken(stiff(), 3, rattle=0.14, strain=0.05)
    for frame in frames:
        frame.info[S] = frame.info[S] * EV_PER_A3_IN_GPA
    message = lint(frames)["stress"].message
    assert "unit" in message
    assert "order" not in message


def test_crystals_of_one_composition_have_no_common_bulk_modulus():
    """The larger one is under pressure, and each of them gets softer when it grows."""
    frames = []
    for order, lattice, pull in (("CuAu", 3.8, 0.0), ("AuCu", 4.4, 0.9)):
        for linear in np.linspace(-0.02, 0.02, 6):
            atoms = bulk(order, "rocksalt", a=lattice * (1 + linear), cubic=False)
            pressure = pull - linear
            frames.append(
                labelled(
                    atoms,
                    energy=linear**2,
                    forces=np.zeros((2, 3)),
                    stress=np.array([-pressure] * 3 + [0.0] * 3),
                    config_type="compounds",
                )
            )
    assert "stress" not in lint(frames)
    for frame in frames[:6]:
        frame.info[S] = -frame.info[S]
    assert "sign is wrong" in lint(frames)["stress"].message
    assert lint(frames)["stress"].frames == tuple(range(6))


def test_independent_pairs_are_a_tree_for_each_crystal():
    frames = shaken(emt(), 0, rattle=0.05, strain=0.02)
    (pairs,) = find_pairs(dict(enumerate(frames)))
    tree = pairs.some(_independent(pairs))
    assert len(pairs.energy) > len(tree.energy) == len(frames) - 2
    assert set(tree.members.ravel()) == set(range(len(frames)))
    assert all((pair < 20).all() or (pair >= 20).all() for pair in tree.members)
