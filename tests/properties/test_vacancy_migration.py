"""Vacancy migration in EMT copper: the saddle point is known by symmetry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.optimize import BFGS

from mace_ft_bench.errors import CardError, StructureError, UnconvergedError, UnstableError
from mace_ft_bench.properties import vacancy_migration
from mace_ft_bench.properties.vacancy_migration import Settings

A_EMT = 3.5898  # lattice constant of EMT copper [Angstrom], computed in test_relax
JUMP = Settings((2, 2, 2), vacancy=(0.0, 0.0, 0.0), jump_from=(0.5, 0.5, 0.0), images=3)


@pytest.fixture(scope="module")
def copper():
    return vacancy_migration.compute(bulk("Cu", "fcc", a=A_EMT, cubic=True), EMT(), JUMP)


def test_the_saddle_is_half_way_by_symmetry(copper):
    """The jumping atom held half way feels no force along the path, whatever the others do."""
    start, end = vacancy_migration.before_and_after(bulk("Cu", "fcc", a=A_EMT, cubic=True), JUMP)
    (jumper,) = np.flatnonzero(np.linalg.norm(end.positions - start.positions, axis=1) > 0.1)
    saddle = start.copy()
    saddle.positions = (start.positions + end.positions) / 2
    saddle.set_constraint(FixAtoms([jumper]))
    energies = []
    for atoms in (start, saddle):
        atoms.calc = EMT()
        BFGS(atoms, logfile=None).run(fmax=1e-3)
        energies.append(atoms.get_potential_energy())
    assert copper.barrier_ev == pytest.approx(energies[1] - energies[0], abs=2e-3)
    assert copper.barrier_ev > 0.2


def test_both_ends_are_equivalent(copper):
    assert copper.energy_difference_ev == pytest.approx(0, abs=1e-4)
    assert copper.path_ev[1] == pytest.approx(copper.path_ev[-2], abs=5e-3)
    assert np.all(np.diff(copper.path_angstrom) > 0)
    assert copper.atoms == 31


def test_a_jump_across_the_boundary_is_the_same(copper):
    across = replace(JUMP, jump_from=(1.5, 1.5, 0.0))
    found = vacancy_migration.compute(bulk("Cu", "fcc", a=A_EMT, cubic=True), EMT(), across)
    assert found.barrier_ev == pytest.approx(copper.barrier_ev, abs=2e-3)


def test_a_jump_of_half_the_supercell_goes_one_way():
    """Both images of the hole are equally near: the path must not turn half way."""
    half = Settings((2, 3, 3), vacancy=(0.0, 0.0, 0.0), jump_from=(1.0, 0.0, 0.0), images=3, fmax=0.05)
    found = vacancy_migration.compute(bulk("Cu", "fcc", a=A_EMT), EMT(), half)
    steps = np.diff(found.path_angstrom)
    assert steps.max() < 1.5 * steps.min()
    assert found.path_angstrom[-1] == pytest.approx(A_EMT / np.sqrt(2), rel=0.15)


def test_an_uneven_path_keeps_its_direction():
    """Away from a gold atom, then back: one path is the other, read from its end."""
    ends = {}
    for name, places in {
        "away": ((0.0, 0.0, 0.0), (0.5, 0.5, 0.0)),
        "back": ((0.5, 0.5, 0.0), (0.0, 0.0, 0.0)),
    }.items():
        crystal = bulk("Cu", "fcc", a=A_EMT, cubic=True) * (2, 2, 2)
        crystal.symbols[np.linalg.norm(crystal.positions - A_EMT * np.array([1.0, 0.5, 0.5]), axis=1).argmin()] = "Au"
        settings = Settings((1, 1, 1), *(tuple(np.array(place) / 2) for place in places), images=3, fmax=0.05)
        ends[name] = vacancy_migration.compute(crystal, EMT(), settings)
    assert abs(ends["away"].energy_difference_ev) > 0.01
    assert ends["back"].energy_difference_ev == pytest.approx(-ends["away"].energy_difference_ev, abs=2e-3)
    assert ends["back"].barrier_ev - ends["away"].barrier_ev == pytest.approx(
        ends["back"].energy_difference_ev, abs=0.01
    )
    assert ends["away"].path_ev[0] == ends["back"].path_ev[0] == 0


def test_ends_that_fall_into_one_state_are_no_path():
    crystal = bulk("Cu", "fcc", a=A_EMT, cubic=True)
    start, _ = vacancy_migration.before_and_after(crystal, JUMP)
    with pytest.raises(UnstableError, match="one state"):
        vacancy_migration.compute(crystal, Wells(start.positions), replace(JUMP, max_steps=2000))


class Wells(EMT):
    """Springs that draw every atom to where it is before the jump."""

    def __init__(self, sites):
        super().__init__()
        self.sites = sites

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        """Fill ``results``; only the supercell with the vacancy has springs."""
        super().calculate(atoms, properties, system_changes)
        if len(atoms) == len(self.sites):
            away = atoms.positions - self.sites
            self.results["energy"] = self.results["free_energy"] = float((away**2).sum())
            self.results["forces"] = -2 * away


def test_errors_are_those_that_were_put_in(copper):
    place = np.array(copper.path_angstrom) / copper.path_angstrom[-1]
    curve = np.interp(np.linspace(0, 1, 401), place, copper.path_ev) - 0.1
    errors = vacancy_migration.compare(copper, {"barrier_ev": copper.barrier_ev + 0.25, "path_ev": curve.tolist()})
    assert errors["barrier_ev"] == pytest.approx(-0.25)
    assert errors["path_rms_ev"] == pytest.approx(0.1, abs=1e-3)
    assert vacancy_migration.compare(copper, {}) == {}


def test_bad_input():
    crystal = bulk("Cu", "fcc", a=A_EMT, cubic=True)
    with pytest.raises(CardError, match="one place"):
        replace(JUMP, jump_from=JUMP.vacancy)
    with pytest.raises(StructureError, match="one atom of the supercell"):
        vacancy_migration.before_and_after(crystal, replace(JUMP, jump_from=(2.0, 0.0, 0.0)))
    with pytest.raises(StructureError, match="No atom is at"):
        vacancy_migration.before_and_after(crystal, replace(JUMP, vacancy=(0.25, 0.0, 0.0)))
    with pytest.raises(UnconvergedError, match="band did not converge in 12 steps"):
        vacancy_migration.compute(crystal, EMT(), replace(JUMP, max_steps=12, fmax=1e-6, fmax_ends=0.5))
