"""Relaxation: EMT copper against its energy minimum, springs, and what must fail."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixedLine
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.spatial.transform import Rotation

from mace_ft_bench.errors import CardError, DataError, StructureError, UnconvergedError, UnstableError
from mace_ft_bench.properties import relax
from mace_ft_bench.toml_schema import parse


def emt_energy(a: float) -> float:
    atoms = bulk("Cu", "fcc", a=a)
    atoms.calc = EMT()
    return atoms.get_potential_energy()


@pytest.fixture(scope="module")
def a_emt() -> float:
    """Lattice constant of EMT copper by minimising the energy alone."""
    return float(minimize_scalar(emt_energy, bounds=(3.4, 3.8), method="bounded", options={"xatol": 1e-7}).x)


def fabricated(**changes) -> relax.Result:
    values = {
        "a_angstrom": 3.2,
        "volume_angstrom3_per_atom": 16.0,
        "energy_ev_per_atom": -10.0,
        "residual_fmax_ev_per_angstrom": 0.0,
        "residual_stress_gpa": 0.0,
        "steps": 1,
        "lengths_angstrom": (3.2, 3.2, 3.2),
        "angles_degree": (90.0, 90.0, 90.0),
    }
    return relax.Result(**(values | changes))


def test_copper_reaches_the_minimum_of_the_energy(a_emt):
    result = relax.compute(bulk("Cu", "fcc", a=3.45, cubic=True), EMT(), relax.Settings(fmax=1e-5))
    assert result.a_angstrom == pytest.approx(a_emt, abs=2e-5)
    assert result.volume_angstrom3_per_atom == pytest.approx(a_emt**3 / 4, rel=1e-5)
    assert result.energy_ev_per_atom == pytest.approx(emt_energy(a_emt), abs=1e-7)
    assert result.residual_stress_gpa < 1e-3
    assert result.angles_degree == pytest.approx((90, 90, 90))


def test_a_lattice_constant_is_not_claimed_for_a_primitive_cell(copper):
    assert relax.compute(bulk("Cu"), EMT(), relax.Settings()).a_angstrom is None
    assert relax.lattice_constant(copper, start=copper) == pytest.approx(3.6)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000))
def test_result_does_not_depend_on_orientation_or_origin(seed):
    start = bulk("Cu", "fcc", a=3.7, cubic=True)
    moved = start.copy()
    rng = np.random.default_rng(seed)
    rotation = Rotation.random(rng=rng).as_matrix()
    moved.set_cell(start.cell.array @ rotation, scale_atoms=True)
    moved.positions += rng.normal(size=3)
    results = [relax.compute(atoms, EMT(), relax.Settings(fmax=1e-5)) for atoms in (start, moved)]
    assert results[1].a_angstrom == pytest.approx(results[0].a_angstrom, abs=2e-5)
    assert results[1].energy_ev_per_atom == pytest.approx(results[0].energy_ev_per_atom, abs=1e-7)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000))
def test_springs_pull_a_distorted_crystal_back(springs, seed):
    crystal = bulk("Si", "diamond", a=5.4, cubic=True)
    calc = springs(crystal, [8.0, 2.0])
    rng = np.random.default_rng(seed)
    distorted = crystal.copy()
    distorted.set_cell(crystal.cell.array @ (np.eye(3) + rng.normal(scale=0.01, size=(3, 3))), scale_atoms=True)
    distorted.positions += rng.normal(scale=0.05, size=(8, 3))
    final = relax.relaxed(distorted, calc, cell=True)
    assert final.get_potential_energy() < 1e-7
    assert final.get_all_distances(mic=True) == pytest.approx(crystal.get_all_distances(mic=True), abs=1e-3)


def test_input_is_not_modified_and_result_is_frozen(copper):
    copper.rattle(0.05, seed=1)
    before, calc = copper.copy(), EMT()
    final = relax.relaxed(copper, calc, cell=True)
    energy = final.get_potential_energy()
    calc.calculate(before, ["energy"])
    assert copper == before
    assert copper.calc is None
    assert final.get_potential_energy() == energy
    assert final.get_stress().shape == (6,)


def test_only_unmasked_strains_relax(copper):
    start = copper.cell.lengths()
    final = relax.relaxed(copper, EMT(), cell=True, mask=(False, False, True, False, False, False))
    assert final.cell.lengths()[:2] == pytest.approx(start[:2])
    assert abs(final.cell.lengths()[2] - start[2]) > 1e-4


def test_constraints_are_obeyed(copper):
    copper.rattle(0.1, seed=2)
    copper.set_constraint(FixAtoms([0, 1]))  # one alone would come to rest in a perfect crystal
    final = relax.relaxed(copper, EMT(), cell=False)
    assert final.positions[:2] == pytest.approx(copper.positions[:2])
    assert np.abs(final.get_forces(apply_constraint=False)[0]).max() > 0.01
    assert np.linalg.norm(final.positions[2:] - copper.positions[2:], axis=1).min() > 0.01


def test_a_molecule_relaxes_without_a_cell():
    result = relax.compute(molecule("N2"), EMT(), relax.Settings(cell=False))
    assert result.residual_stress_gpa is None
    with pytest.raises(StructureError, match="cell = false"):
        relax.compute(molecule("N2"), EMT(), relax.Settings())


def test_too_few_steps_are_unconverged(copper):
    copper.set_cell(copper.cell * 1.05, scale_atoms=True)
    with pytest.raises(UnconvergedError, match=r"1 steps: force .* stress .* GPa"):
        relax.relaxed(copper, EMT(), cell=True, max_steps=1)


def test_an_exploding_crystal_is_unstable(copper, recorder):
    with pytest.raises(UnstableError, match="volume changed by a factor"):
        relax.relaxed(copper, recorder(stress=-0.5), cell=True)


def test_a_nan_energy_is_unstable(copper, recorder):
    with pytest.raises(UnstableError, match="not finite"):
        relax.relaxed(copper, recorder(energy=lambda _: float("nan")), cell=False)


@pytest.mark.parametrize("bad", [{"fmax": 0}, {"fmax": float("nan")}, {"max_steps": -1}, {"mask": [False] * 6}])
def test_nonsense_settings_are_card_errors(bad):
    with pytest.raises(CardError, match=next(iter(bad))):
        parse(bad, relax.Settings, where="a card")


def test_unknown_setting_is_a_card_error():
    with pytest.raises(CardError, match="max_steps"):
        parse({"maxsteps": 3}, relax.Settings, where="a card")


def test_compare_returns_the_planted_error_with_its_sign():
    reference = {"a_angstrom": 3.2, "volume_angstrom3_per_atom": 16.0}
    assert relax.compare(fabricated(a_angstrom=3.232), reference) == pytest.approx(
        {"a_percent": 1.0, "volume_percent": 0.0}
    )
    assert relax.compare(fabricated(volume_angstrom3_per_atom=15.2), reference)["volume_percent"] == pytest.approx(-5)
    assert relax.compare(fabricated(), {}) == {}


def test_compare_refuses_a_reference_for_an_undefined_lattice_constant():
    with pytest.raises(DataError, match="a_angstrom"):
        relax.compare(fabricated(a_angstrom=None), {"a_angstrom": 3.2})


def test_calculator_without_stress_still_relaxes_positions(springs):
    crystal = Atoms("Cu2", positions=[(0, 0, 0), (1.4, 1.6, 1.5)], cell=[3, 3, 3], pbc=True)
    calc = springs(bulk("Cu", "bcc", a=3.0, cubic=True), [5.0])
    calc.implemented_properties = ("energy", "forces")
    final = relax.relaxed(crystal, calc, cell=False)
    assert relax.max_stress_gpa(final) is None
    assert final.get_potential_energy() < 1e-8


def test_constant_volume_changes_the_shape_alone():
    """A tetragonal cell of copper returns to the cubic one of the same volume, which is not that of the minimum."""
    start = bulk("Cu", "fcc", a=3.7, cubic=True)
    stretched = start.copy()
    stretched.set_cell(start.cell.array @ np.diag([1.05, 1.0, 1 / 1.05]), scale_atoms=True)
    final = relax.relaxed(stretched, EMT(), cell=True, constant_volume=True)
    assert final.cell.volume == pytest.approx(3.7**3, rel=1e-9)
    assert final.cell.lengths() == pytest.approx(3.7, rel=1e-3)
    assert final.get_potential_energy() == pytest.approx(4 * emt_energy(3.7), abs=1e-5)
    with pytest.raises(CardError, match="constant_volume does nothing"):
        relax.Settings(cell=False, constant_volume=True)


class Batched(EMT):
    """Evaluates many structures in one call, as a model does, and counts the calls."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def evaluate(self, frames):
        """Return results of all frames."""
        frames = list(frames)
        self.batches.append(len(frames))
        results = []
        for frame in frames:
            atoms = frame.copy()
            atoms.set_constraint()
            atoms.calc = EMT()
            atoms.get_stress()
            results.append(dict(atoms.calc.results))
        return results


def rattled_copper(copper, count=4):
    frames = [copper.copy() for _ in range(count)]
    for index, frame in enumerate(frames):
        frame.rattle(0.02 + 0.04 * index, seed=index)
    frames[1].set_constraint(FixAtoms([0, 1]))
    frames[2].set_cell(copper.cell * 1.02, scale_atoms=True)
    frames[3].set_constraint(FixedLine(range(4), [1, 0, 0]))
    return frames


@pytest.mark.parametrize("make", [EMT, Batched])
def test_side_by_side_or_one_after_the_other_is_the_same(copper, make):
    frames = rattled_copper(copper)
    before = [frame.copy() for frame in frames]
    together = relax.relaxed_together(frames, make(), fmax=1e-4, max_steps=100)
    for start, found, kept in zip(frames, together, before, strict=True):
        alone = relax.relaxed(start, EMT(), cell=False, fmax=1e-4, max_steps=100)
        np.testing.assert_allclose(found.positions, alone.positions, atol=1e-9)
        np.testing.assert_allclose(found.get_stress(), alone.get_stress(), atol=1e-9)
        assert found.get_potential_energy() == pytest.approx(alone.get_potential_energy(), abs=1e-10)
        assert np.linalg.norm(found.get_forces(), axis=1).max() < 1e-4
        assert (start.positions == kept.positions).all()
        assert np.abs(found.positions - start.positions).max() > 1e-3


def test_every_step_is_one_batch_of_those_that_still_move(copper):
    calculator = Batched()
    relax.relaxed_together([copper, *rattled_copper(copper)], calculator, fmax=1e-3, max_steps=100)
    assert calculator.batches[0] == 5
    assert calculator.batches == sorted(calculator.batches, reverse=True)
    assert calculator.batches[1] == 4  # the perfect crystal does not move
    steps = [relax._relax(frame, EMT(), relax.Settings(fmax=1e-3, cell=False))[1] for frame in rattled_copper(copper)]
    assert len(calculator.batches) == max(steps) + 1


def test_one_that_does_not_converge_or_explodes_is_named(copper, recorder):
    with pytest.raises(UnconvergedError, match=r"2 steps: force .* stress .* GPa"):
        relax.relaxed_together([copper, *rattled_copper(copper)], Batched(), fmax=1e-6, max_steps=2)
    with pytest.raises(UnstableError):
        relax.relaxed_together([copper], recorder(energy=lambda _atoms: float("nan")), fmax=1e-4, max_steps=5)
