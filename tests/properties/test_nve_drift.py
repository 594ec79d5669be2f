"""Conservation of energy: EMT conserves it, forces that are no gradient do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT

from mace_ft_bench.errors import CardError, StructureError, UnstableError
from mace_ft_bench.properties import nve_drift
from mace_ft_bench.properties.nve_drift import Settings

SHORT = Settings(repeat=(2, 2, 2), steps=200, timestep=2.0)


class Counting(Calculator):
    """No forces, and an energy that grows with every call: the drift is known exactly."""

    implemented_properties = ("energy", "forces")
    rise, calls = 0.003, 0

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        """Fill ``results``."""
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": self.rise * self.calls, "forces": np.zeros((len(atoms), 3))}
        self.calls += 1


class Pumped(EMT):
    """EMT with a force that turns the atoms about an axis: no potential has it."""

    strength = 0.3

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        """Fill ``results``."""
        super().calculate(atoms, properties, system_changes)
        away = atoms.positions - atoms.positions.mean(axis=0)
        self.results["forces"] = self.results["forces"] + self.strength * np.cross([0, 0, 1.0], away)


def copper():
    return bulk("Cu", "fcc", a=3.5898, cubic=True)


@pytest.mark.parametrize("rise", [0.003, -0.003])
def test_a_drift_that_was_put_in_is_found_with_its_sign_and_scale(rise):
    counting = Counting()
    counting.rise = rise  # eV every 2 fs, in 32 atoms
    found = nve_drift.compute(copper(), counting, SHORT)
    assert found.drift_mev_per_atom_per_ps == pytest.approx(1000 * rise / 32 / 0.002, rel=1e-6)
    assert found.fluctuation_mev_per_atom == pytest.approx(0, abs=1e-6)


def test_emt_conserves_energy():
    found = nve_drift.compute(copper(), EMT(), SHORT)
    assert abs(found.drift_mev_per_atom_per_ps) < 0.05
    assert 200 < found.mean_temperature_k < 450  # from a minimum, half of the kinetic energy goes into the potential
    assert len(found.time_ps) == len(found.total_energy_mev_per_atom) == 201
    assert found.time_ps[-1] == pytest.approx(0.4)


def test_the_fluctuation_grows_with_the_square_of_the_timestep():
    fine = nve_drift.compute(copper(), EMT(), replace(SHORT, timestep=2.0, steps=200))
    coarse = nve_drift.compute(copper(), EMT(), replace(SHORT, timestep=4.0, steps=100))
    ratio = coarse.fluctuation_mev_per_atom / fine.fluctuation_mev_per_atom
    assert ratio == pytest.approx(4, rel=0.3)


def test_a_force_without_a_potential_shows():
    found = nve_drift.compute(copper(), Pumped(), replace(SHORT, steps=400))
    assert abs(found.drift_mev_per_atom_per_ps) > 1  # its sign depends on the phases of the vibrations


def test_a_trajectory_that_comes_apart_is_unstable(recorder):
    violent = Pumped()
    violent.strength = 20.0
    with pytest.raises(UnstableError, match="came apart"):
        nve_drift.compute(copper(), violent, SHORT)
    with pytest.raises(UnstableError, match="an energy"):
        nve_drift.compute(copper(), recorder(energy=lambda _atoms: np.nan), SHORT)


def test_the_seed_fixes_the_trajectory():
    first, second = (nve_drift.compute(copper(), EMT(), replace(SHORT, steps=20)) for _ in range(2))
    assert first == second
    assert nve_drift.compute(copper(), EMT(), replace(SHORT, steps=20, seed=1)) != first


def test_errors_are_those_that_were_put_in():
    result = nve_drift.Result(0.75, 0.1, 300.0, (0.0,), (0.0,))
    assert nve_drift.compare(result, {"drift_mev_per_atom_per_ps": 0.0}) == {"drift_mev_per_atom_per_ps": 0.75}
    assert nve_drift.compare(result, {}) == {}


def test_bad_input():
    with pytest.raises(CardError, match="timestep"):
        Settings(timestep=0.0)
    with pytest.raises(StructureError, match="single atom"):
        nve_drift.compute(bulk("Cu"), EMT(), Settings())
    with pytest.raises(CardError, match="repeat"):
        Settings(repeat=(0, 1, 1))
