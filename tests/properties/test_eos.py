"""Equation of state: analytic Birch-Murnaghan curves and EMT copper."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_ft_bench.errors import CardError, UnconvergedError, UnstableError
from mace_ft_bench.properties import elastic, eos, relax
from mace_ft_bench.toml_schema import parse
from mace_ft_bench.units import EV_PER_A3_IN_GPA

A_EMT = 3.5898  # lattice constant of EMT copper [Angstrom], computed in test_relax


def birch_murnaghan(v, e0, b0, b0_prime, v0):
    """Third-order form as Birch printed it, not as ASE writes it (doi 10.1103/PhysRev.71.809)."""
    f = ((v0 / v) ** (2 / 3) - 1) / 2  # Eulerian finite strain
    return e0 + 4.5 * v0 * b0 * f**2 * (1 + (b0_prime - 4) * f)


@settings(max_examples=25, deadline=None)
@given(
    v0=st.floats(8, 40),
    b0=st.floats(20, 450),
    b0_prime=st.floats(2.5, 7),
    e0=st.floats(-6000, 10),
    off_centre=st.floats(-0.02, 0.02),
)
def test_fit_returns_the_parameters_of_an_analytic_curve(v0, b0, b0_prime, e0, off_centre):
    volumes = v0 * (1 + off_centre + np.linspace(-0.06, 0.06, 11)) ** 3
    fit = eos.fit_birch_murnaghan(volumes, birch_murnaghan(volumes, e0, b0 / EV_PER_A3_IN_GPA, b0_prime, v0))
    assert fit.v0_angstrom3_per_atom == pytest.approx(v0, rel=1e-5)
    assert fit.b0_gpa == pytest.approx(b0, rel=1e-4)
    assert fit.b0_prime == pytest.approx(b0_prime, rel=1e-3)
    assert fit.e0_ev_per_atom == pytest.approx(e0, abs=1e-5)
    assert fit.fit_rms_mev_per_atom < 1e-3


def test_b0_prime_is_the_pressure_derivative_of_the_bulk_modulus():
    b0, b0_prime, v0 = 1.5, 5.2, 16.0
    v = v0 * (1 + np.linspace(-1e-2, 1e-2, 2001))
    pressure = -np.gradient(birch_murnaghan(v, 0, b0, b0_prime, v0), v)
    modulus = -v * np.gradient(pressure, v)
    middle = slice(900, 1101)
    assert np.polyfit(pressure[middle], modulus[middle], 2)[-2] == pytest.approx(b0_prime, rel=1e-2)


def test_copper_agrees_with_relaxation_and_elastic_constants(copper):
    fit = eos.compute(copper, EMT(), eos.Settings(strain=0.01))
    relaxed = relax.compute(copper, EMT(), relax.Settings())
    cij = elastic.compute(copper, EMT(), elastic.Settings())
    assert fit.v0_angstrom3_per_atom == pytest.approx(relaxed.volume_angstrom3_per_atom, rel=1e-3)
    assert fit.e0_ev_per_atom == pytest.approx(relaxed.energy_ev_per_atom, abs=1e-4)
    assert fit.b0_gpa == pytest.approx(cij.bulk_modulus_gpa, rel=0.02)


def test_supercell_gives_the_same_per_atom(copper):
    one, eight = (eos.compute(copper.repeat(n), EMT(), eos.Settings(points=5)) for n in (1, 2))
    assert eight.b0_gpa == pytest.approx(one.b0_gpa, rel=1e-3)
    assert eight.volumes_angstrom3_per_atom == pytest.approx(one.volumes_angstrom3_per_atom, rel=1e-4)


@pytest.mark.parametrize("factor", [0.965, 1.035])
def test_an_off_centre_start_is_recentred(factor):
    start = bulk("Cu", "fcc", a=A_EMT * factor)
    fit = eos.compute(start, EMT(), eos.Settings(relax=False))
    middle = fit.volumes_angstrom3_per_atom[5]
    assert (fit.v0_angstrom3_per_atom / middle) ** (1 / 3) == pytest.approx(1, abs=0.012)
    assert middle != pytest.approx(start.cell.volume, rel=0.02)


@pytest.mark.parametrize("factor", [0.85, 1.2])
def test_a_start_without_a_minimum_in_range_is_unconverged(factor):
    with pytest.raises(UnconvergedError, match="end of the range"):
        eos.compute(bulk("Cu", "fcc", a=A_EMT * factor), EMT(), eos.Settings(relax=False))


def test_internal_relaxation_restores_displaced_atoms(copper):
    displaced = copper.copy()
    displaced.positions[0] += (0.1, 0.05, 0.0)
    choice = eos.Settings(points=5, relax=False, internal=True)
    perfect = eos.compute(copper, EMT(), replace(choice, internal=False))
    assert eos.compute(displaced, EMT(), choice).energies_ev_per_atom == pytest.approx(
        perfect.energies_ev_per_atom, abs=1e-6
    )
    rigid = eos.compute(displaced, EMT(), replace(choice, internal=False))
    assert min(np.subtract(rigid.energies_ev_per_atom, perfect.energies_ev_per_atom)) > 1e-3


def test_a_curve_without_curvature_is_unconverged():
    volumes = np.linspace(10, 12, 7)
    with pytest.raises(UnconvergedError, match="no minimum"):
        eos.fit_birch_murnaghan(volumes, -((volumes - 11) ** 2))


def test_a_wandering_centre_is_unconverged(copper, monkeypatch):
    def fit(volumes, energies):
        return eos.Result(1.2 * volumes[5], 1.0, 4.0, 0.0, 0.0, tuple(volumes), tuple(energies))

    monkeypatch.setattr(eos, "fit_birch_murnaghan", fit)
    with pytest.raises(UnconvergedError, match="moved with every one"):
        eos.compute(copper, EMT(), eos.Settings(relax=False))


def test_a_nan_energy_is_unstable(copper, recorder):
    with pytest.raises(UnstableError, match="not finite"):
        eos.compute(copper, recorder(energy=lambda _: float("nan")), eos.Settings(relax=False))


def test_too_few_steps_are_unconverged():
    with pytest.raises(UnconvergedError, match="1 steps"):
        eos.compute(bulk("Cu", "fcc", a=3.8), EMT(), eos.Settings(max_steps=1))


@pytest.mark.parametrize("bad", [{"points": 10}, {"points": 3}, {"strain": -0.1}, {"strain": 6}, {"fmax": 0}])
def test_nonsense_settings_are_card_errors(bad):
    with pytest.raises(CardError, match=next(iter(bad))):
        parse(bad, eos.Settings, where="a card")


def test_compare_returns_the_planted_error_with_its_sign():
    result = eos.Result(16.0, 250.0, 4.5, -10.0, 0.1, (15.0, 17.0), (-9.0, -9.0))
    assert eos.compare(result, {"v0_angstrom3_per_atom": 16.0}) == {"v0_percent": 0.0}
    errors = eos.compare(result, {"v0_angstrom3_per_atom": 20.0, "b0_gpa": 200.0, "b0_prime": 5.0})
    assert errors == pytest.approx({"v0_percent": -20.0, "b0_percent": 25.0, "b0_prime": -0.5})


def test_shape_relaxes_at_every_volume():
    """Hcp copper with a wrong c/a: energies fall to those of the relaxed c/a at the same volumes."""
    start = bulk("Cu", "hcp", a=2.5, c=4.3)
    start.set_cell(start.cell.array * (A_EMT**3 / 2 / start.cell.volume) ** (1 / 3), scale_atoms=True)
    how = eos.Settings(points=5, strain=0.02, relax=False)
    rigid, free = (eos.compute(start, EMT(), replace(how, shape=shape)) for shape in (False, True))
    best = eos.compute(start, EMT(), replace(how, relax=True))
    assert free.e0_ev_per_atom < rigid.e0_ev_per_atom - 1e-3
    assert free.e0_ev_per_atom == pytest.approx(best.e0_ev_per_atom, abs=2e-5)
    assert free.b0_gpa <= best.b0_gpa * 1.001
