"""Labels of perturbed structures: their physics, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT

from mace_ft_bench.datasets.frames import CONFIG_TYPE, ENERGY, FORCES, STRESS
from mace_ft_bench.errors import StructureError
from mace_ft_bench.learning.label import Labeller, harvest, repeated
from mace_ft_bench.learning.parent import Parent
from mace_ft_bench.learning.recipe import FamilyConfig

EVERYTHING = 1e6


class Refusing(Calculator):
    """A teacher that accepts nothing."""

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, *_arguments, **_options):
        raise StructureError("No.", fix="none.")


def copper():
    return Parent("copper", "elements", bulk("Cu", cubic=True))


def of(parent, settings, teacher=None, **changes):
    options = {"correction": 0.0, "max_force": EVERYTHING, "seed": 1} | changes
    return harvest(parent, settings, teacher or EMT(), **options)


def test_the_stress_is_the_slope_of_the_energy_with_volume_in_ases_sign():
    labeller = Labeller(EMT(), 0.0, EVERYTHING, "")
    step = 1e-4
    for scale in (0.97, 0.97 * (1 - step), 0.97 * (1 + step)):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell.array * scale, scale_atoms=True)
        labeller.label(atoms)
    here, less, more = labeller.harvest.frames
    slope = (more.info[ENERGY] - less.info[ENERGY]) / (more.get_volume() - less.get_volume())
    pressure = -here.info[STRESS][:3].mean()
    assert pressure > 0  # compressed
    assert pressure == pytest.approx(-slope, rel=1e-5)


def test_forces_are_the_slope_of_the_energy():
    labeller = Labeller(EMT(), 0.0, EVERYTHING, "")
    step = 1e-4
    for shift in (0.1, 0.1 - step, 0.1 + step):
        atoms = bulk("Cu", cubic=True)
        atoms.positions[1, 2] += shift
        labeller.label(atoms)
    here, less, more = labeller.harvest.frames
    slope = (more.info[ENERGY] - less.info[ENERGY]) / (2 * step)
    assert here.arrays[FORCES][1, 2] == pytest.approx(-slope, rel=1e-5)


def test_a_correction_is_taken_out_of_every_atom_also_of_repeated_cells():
    settings = FamilyConfig(volumes=(1.0,), frames=2, least_atoms=8)
    plain, corrected = of(copper(), settings), of(copper(), settings, correction=-0.5)
    assert {len(frame) for frame in plain.frames} == {4, 8}
    for one, other in zip(plain.frames, corrected.frames, strict=True):
        assert other.info[ENERGY] - one.info[ENERGY] == pytest.approx(0.5 * len(one))
        assert (one.arrays[FORCES] == other.arrays[FORCES]).all()
        assert (one.positions == other.positions).all()


def test_relaxation_and_perturbation_start_from_the_best_volume():
    settings = FamilyConfig(volumes=(0.8, 1.0, 1.3), frames=3, rattle=(0.01, 0.01))
    frames = of(copper(), settings).frames
    volumes = [frame.get_volume() / bulk("Cu", cubic=True).get_volume() for frame in frames]
    assert volumes == pytest.approx([0.8, 1.0, 1.3, 1.0, 1.0, 1.0])
    assert [frame.info[CONFIG_TYPE] for frame in frames] == ["elements"] * 6


def test_the_best_volume_is_labelled_once():
    frames = of(copper(), FamilyConfig(volumes=(1.0, 1.1), relax_steps=8)).frames
    positions = {(frame.get_volume(), frame.positions.tobytes()) for frame in frames}
    assert len(positions) == len(frames) == 2


class RefusingDense(EMT):
    """A teacher that accepts no dense structure."""

    def calculate(self, atoms=None, *arguments, **options):
        if atoms.get_volume() < 0.9 * bulk("Cu", cubic=True).get_volume():
            raise StructureError("No.", fix="none.")
        super().calculate(atoms, *arguments, **options)


def test_without_a_volume_that_serves_the_structure_stays_as_it_was():
    settings = FamilyConfig(volumes=(0.6, 0.7), frames=1, rattle=(0.01, 0.01))
    found = of(copper(), settings, teacher=RefusingDense())
    assert found.refused == 2
    assert [frame.get_volume() for frame in found.frames] == pytest.approx([bulk("Cu", cubic=True).get_volume()])


def test_relaxation_goes_downhill():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.2, seed=2)
    frames = of(Parent("rattled", "elements", atoms), FamilyConfig(relax_steps=24)).frames
    energies = [frame.info[ENERGY] for frame in frames]
    assert len(frames) > 3
    assert energies[-1] < energies[0] - 0.1


def test_seeds_make_frames():
    settings = FamilyConfig(frames=2)
    first, again, other = (of(copper(), settings, seed=seed).frames for seed in (1, 1, 2))
    assert (first[0].positions == again[0].positions).all()
    assert (first[0].positions != other[0].positions).any()


def test_violent_frames_are_counted_and_left_out():
    settings = FamilyConfig(frames=4, rattle=(0.3, 0.3))
    assert of(copper(), settings, max_force=0.01).violent == 4
    kept = of(copper(), settings, max_force=3.0)
    assert kept.violent + len(kept.frames) == 4
    assert all(np.abs(frame.arrays[FORCES]).max() <= 3.0 for frame in kept.frames)


def test_what_a_teacher_refuses_is_counted():
    found = of(copper(), FamilyConfig(volumes=(1.0, 1.1), relax_steps=5, frames=3), Refusing())
    assert not found.frames
    assert found.refused == 2 + 1 + 3


def test_structures_too_dense_for_a_neighbour_list_never_reach_the_teacher():
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(atoms.cell.array * 0.3, scale_atoms=True)
    found = of(Parent("dense", "elements", atoms), FamilyConfig(volumes=(1.0,)))
    assert (found.refused, found.frames) == (1, [])


def test_cells_grow_along_their_shortest_vector():
    atoms = bulk("Cu", cubic=True) * (1, 1, 2)
    assert repeated(atoms, 16).cell.lengths() == pytest.approx(np.array([2, 1, 2]) * 3.61)
    assert len(repeated(atoms, 8)) == 8
