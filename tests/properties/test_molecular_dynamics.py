"""Dynamics at constant temperature: EMT copper has the temperature asked for, what explodes is unstable."""

from __future__ import annotations

import time
from dataclasses import fields, replace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT

from mace_ft_bench.errors import CardError, DataError, StructureError, TooSlowError, UnstableError
from mace_ft_bench.properties import molecular_dynamics
from mace_ft_bench.properties.molecular_dynamics import BondSettings, ProfileSettings, Result, Settings, compute

SHORT = Settings(repeat=(2, 2, 2), temperature=400.0, timestep=4.0, equilibration_ps=0.4, production_ps=2.0)


class Free(Calculator):
    """No forces: an ideal gas, whose velocities are the thermostat's alone."""

    implemented_properties = ("energy", "forces")
    push = 0.0

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        """Fill ``results``."""
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": self.push * (atoms.positions - atoms.positions.mean(axis=0))}


class Wells(Calculator):
    """Every atom in a harmonic well of its own, of an angular frequency [rad/fs]."""

    implemented_properties = ("energy", "forces")

    def __init__(self, sites, frequency):
        super().__init__()
        self.sites, self.k = sites.positions.copy(), sites.get_masses()[:, None] * (frequency / units.fs) ** 2

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        """Fill ``results``."""
        super().calculate(atoms, properties, system_changes)
        away = atoms.positions - self.sites
        self.results = {"energy": 0.5 * float(np.sum(self.k * away**2)), "forces": -self.k * away}


def copper():
    return bulk("Cu", "fcc", a=3.62, cubic=True)


@pytest.fixture(scope="module")
def run():
    settings = replace(SHORT, rdf=("Cu", "Cu"), diffusing="Cu", bonds=BondSettings(("Cu", "Cu"), 3.3))
    return compute(copper(), EMT(), settings)


def test_copper_has_the_temperature_of_the_thermostat(run):
    assert run.atoms == 32
    assert abs(run.mean_temperature_k - 400) < 3 * run.temperature_error_k
    assert 1 < run.temperature_error_k < 40
    assert len(run.time_ps) == len(run.temperature_k) == len(run.potential_energy_mev_per_atom) == 400
    assert run.time_ps[-1] == pytest.approx(2.4, abs=0.01)


def test_half_of_the_heat_is_potential_energy(run):
    """Of a harmonic crystal: 3/2 k T per atom above the minimum, which 3.62 Angstrom is close to."""
    late = np.array(run.potential_energy_mev_per_atom)[np.array(run.time_ps) > run.equilibration_ps]
    assert late.mean() == pytest.approx(1.5 * 0.08617 * 400, rel=0.15)


def test_copper_stays_a_crystal(run):
    assert run.rdf_first_peak_angstrom == pytest.approx(3.62 / np.sqrt(2), rel=0.02)
    assert run.bonds_kept_percent > 99
    assert abs(run.diffusion_cm2_per_s) < 2e-6  # a liquid has 4e-5
    assert 0.01 < run.msd_angstrom2["Cu"][-1] < 0.2


def test_what_is_not_asked_for_is_not_there(run):
    assert run.profile_first_peak_nm is None
    assert run.profile_per_angstrom3 == ()
    plain = compute(copper(), EMT(), replace(SHORT, production_ps=0.2))
    assert (plain.rdf, plain.rdf_first_peak_angstrom, plain.diffusion_cm2_per_s) == ((), None, None)
    assert plain.bonds_kept_percent is None


def test_the_seed_fixes_the_trajectory():
    short = replace(SHORT, equilibration_ps=0.0, production_ps=0.1)
    first, second = (compute(copper(), EMT(), short) for _ in range(2))
    assert first == second
    assert compute(copper(), EMT(), replace(short, seed=1)) != first


def test_a_free_particle_diffuses_by_the_friction_of_the_thermostat():
    """Einstein: D = k T / (m friction), here of 200 particles of the mass of argon."""
    gas = Atoms("Ar200", positions=30 * np.random.default_rng(0).random((200, 3)), cell=[30] * 3, pbc=True)
    times = {"timestep": 5.0, "equilibration_ps": 0.5, "production_ps": 20.0, "interval": 50}
    settings = Settings(temperature=300.0, friction_per_fs=0.02, closest=1e-4, diffusing="Ar", **times)
    found = compute(gas, Free(), settings)
    exact = 0.025852 / 39.948 * 9648.53 / 20.0 * 1e-4  # [Angstrom^2/ps] from eV/u, over a friction of 20/ps
    assert abs(found.diffusion_cm2_per_s - exact) < 4 * found.diffusion_error_cm2_per_s
    assert found.diffusion_error_cm2_per_s < 0.15 * exact
    assert abs(found.mean_temperature_k - 300) < 4 * found.temperature_error_k


def test_stiff_bonds_do_not_look_cold():
    """Of oscillators as stiff as an O-H bond the momenta at the steps are 12 % too cold at 1 fs."""
    sites = bulk("Al", "fcc", a=4.05, cubic=True) * (3, 3, 3)
    settings = Settings(temperature=300.0, equilibration_ps=0.3, production_ps=1.5, friction_per_fs=0.02)
    found = compute(sites, Wells(sites, frequency=0.697), settings)
    assert found.temperature_error_k < 8
    assert abs(found.mean_temperature_k - 300) < 3 * found.temperature_error_k
    late = np.array(found.potential_energy_mev_per_atom)[np.array(found.time_ps) > 0.3]
    assert late.mean() == pytest.approx(1.5 * 0.08617 * 300, rel=0.05)


def test_held_elements_stay_and_the_others_have_the_temperature():
    alloy = copper().repeat((2, 2, 2))
    alloy.symbols[:8] = "Au"
    found = compute(alloy, EMT(), replace(SHORT, repeat=(1, 1, 1), fixed=("Au",)))
    assert set(found.msd_angstrom2["Au"]) == {0.0}
    assert min(found.msd_angstrom2["Cu"]) > 0.001
    assert abs(found.mean_temperature_k - 400) < 4 * found.temperature_error_k


def test_a_profile_above_a_plane_that_is_held():
    layers = Atoms("CHe", positions=[[0, 0, 1], [0, 0, 4.5]], cell=[4, 4, 20], pbc=True).repeat((2, 2, 1))
    settings = Settings(
        temperature=1e-3,
        equilibration_ps=0.0,
        production_ps=0.2,
        fixed=("C",),
        profile=ProfileSettings(species="He", above="C"),
    )
    found = compute(layers, Free(), settings)
    assert found.profile_first_peak_nm == pytest.approx(0.35, abs=0.0051)


def test_what_comes_apart_is_unstable(recorder):
    violent = Free()
    violent.push = 20.0
    with pytest.raises(UnstableError, match=r"came apart after \d+ fs: \d+ K"):
        compute(copper(), violent, SHORT)
    collapsing = Free()
    collapsing.push = -0.1  # the thermostat keeps up: no temperature shows it
    with pytest.raises(UnstableError, match="Cu and Cu are .* apart"):
        compute(copper(), collapsing, replace(SHORT, friction_per_fs=0.1, closest=0.9))
    with pytest.raises(UnstableError, match="an energy or a force, at 0 fs"):
        compute(copper(), recorder(energy=lambda _atoms: np.nan), SHORT)


def test_forces_that_are_not_finite_end_the_run():
    class Broken(EMT):
        def calculate(self, *arguments, **options):
            super().calculate(*arguments, **options)
            self.results["forces"] = np.full_like(self.results["forces"], np.nan)

    with pytest.raises(UnstableError, match="an energy or a force, at 4 fs"):
        compute(copper(), Broken(), SHORT)


def result(**changes):
    empty = dict.fromkeys((field.name for field in fields(Result)), None)
    right = {"mean_temperature_k": 300.0, "target_temperature_k": 300.0, "temperature_error_k": 1.0}
    return Result(**(empty | right | changes))


def test_errors_are_those_that_were_put_in():
    found = result(
        mean_temperature_k=308.0,
        target_temperature_k=298.0,
        temperature_error_k=1.0,
        profile_first_peak_nm=0.33,
        bonds_kept_percent=90.0,
    )
    assert molecular_dynamics.compare(found, {"profile_first_peak_nm": 0.36}) == pytest.approx(
        {"mean_temperature_k": 7.0, "profile_first_peak_nm": -0.03, "bonds_kept_percent": -10.0}
    )
    assert molecular_dynamics.compare(result(), {}) == {"mean_temperature_k": 0.0}
    cold = result(mean_temperature_k=290.0, target_temperature_k=298.0, temperature_error_k=2.0)
    assert molecular_dynamics.compare(cold, {})["mean_temperature_k"] == pytest.approx(-2.0)
    assert molecular_dynamics.compare(replace(cold, temperature_error_k=4.0), {})["mean_temperature_k"] == 0.0
    with pytest.raises(DataError, match="diffusion_cm2_per_s was not computed"):
        molecular_dynamics.compare(found, {"diffusion_cm2_per_s": 1e-5})


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"timestep": 0.0}, "timestep"),
        ({"repeat": (0, 1, 1)}, "repeat"),
        ({"production_ps": 0.01}, "0 frames"),
        ({"equilibration_ps": -1.0}, "equilibration_ps"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_settings(changes, match):
    with pytest.raises(CardError, match=match):
        replace(SHORT, **changes)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"rdf": ("Cu", "O")}, "no O in"),
        ({"diffusing": "Li"}, "no Li in"),
        ({"fixed": ("Cu",)}, "Nothing can move"),
        ({"bonds": BondSettings(("P", "S"), 2.0)}, "no P in"),
        ({"profile": ProfileSettings("O", "C")}, "no O in"),
        ({"bonds": BondSettings(("Cu", "Cu"), 1.0)}, "No Cu and Cu are within 1"),
        ({"diffusing": "Cu", "production_ps": 0.02, "interval": 2}, "a longer trajectory"),
    ],
)
def test_what_cannot_work_is_refused_before_the_first_step(changes, match):
    with pytest.raises(StructureError, match=match):
        compute(copper(), None, replace(SHORT, **changes))


def test_a_molecule_is_no_crystal():
    with pytest.raises(StructureError, match="needs a crystal"):
        compute(Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.2]]), EMT(), SHORT)


class Slow(EMT):
    """Takes its time over every step, and more over the first ones."""

    def __init__(self, milliseconds):
        super().__init__()
        self.milliseconds, self.calls = milliseconds, 0

    def calculate(self, *arguments, **options):
        """Wait, then compute."""
        self.calls += 1
        time.sleep(1e-3 * self.milliseconds * (5 if self.calls < 4 else 1))
        super().calculate(*arguments, **options)


def test_a_model_that_is_too_slow_costs_some_steps_and_no_more():
    calculator = Slow(20)
    with pytest.raises(TooSlowError, match=r"600 of them .* allows 5 s") as caught:
        compute(copper(), calculator, replace(SHORT, longest_s=5.0))  # 600 steps of 20 ms take 12 s
    assert calculator.calls < 20
    assert "--mode standard" in caught.value.fix


def test_the_limit_is_on_the_steps_after_the_first_and_changes_nothing():
    short = replace(SHORT, repeat=(1, 1, 1), equilibration_ps=0.0, production_ps=0.4)
    bounded = compute(copper(), Slow(1), replace(short, longest_s=30.0))
    assert bounded == compute(copper(), EMT(), short)
    with pytest.raises(CardError, match="longest_s"):
        replace(SHORT, longest_s=0.0)
