"""Phases: copper of EMT, the close packings of Lennard-Jones, silicon of Stillinger and Weber, fabricated errors."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.neighborlist import neighbor_list
from matscipy.calculators.manybody import Manybody
from matscipy.calculators.manybody.explicit_forms import StillingerWeber
from matscipy.calculators.manybody.explicit_forms.stillinger_weber import Stillinger_Weber_PRB_31_5262_Si

from mace_ft_bench.errors import CardError, StructureError, UnconvergedError
from mace_ft_bench.properties import eos, phases
from mace_ft_bench.properties.phases import PROTOTYPES, Result, Settings, build
from mace_ft_bench.properties.relax import relaxed
from mace_ft_bench.toml_schema import parse

COORDINATION = {
    "diamond": 4,
    "hexagonal_diamond": 4,
    "bc8": 4,
    "st12": 4,
    "beta_sn": 6,
    "simple_hexagonal": 8,
    "bcc": 8,
    "fcc": 12,
    "hcp": 12,
}
ATOMS = {"diamond": 2, "hexagonal_diamond": 4, "bc8": 8, "st12": 12, "beta_sn": 2, "hcp": 2}


@pytest.mark.parametrize("name", PROTOTYPES)
def test_prototypes_are_primitive_at_the_volume_asked_for_and_have_their_coordination(name):
    atoms = build(name, "Si", 20.0)
    assert atoms.cell.volume / len(atoms) == pytest.approx(20.0)
    assert len(atoms) == ATOMS.get(name, 1)
    i, length = neighbor_list("id", atoms, 5.0)
    for atom in range(len(atoms)):
        sorted_lengths = np.sort(length[i == atom])
        shell = COORDINATION[name]
        assert sorted_lengths[shell - 1] < 1.12 * sorted_lengths[0]
        assert sorted_lengths[shell] > 1.05 * sorted_lengths[shell - 1]


def test_copper_agrees_with_its_equation_of_state_and_with_relaxations_by_hand():
    calc = EMT()
    result = phases.compute(bulk("Cu", cubic=True), calc, Settings({"fcc": 1.05, "hcp": 1.0, "bcc": 1.0}))
    whole = eos.compute(bulk("Cu"), calc, eos.Settings(points=7, strain=0.03))
    assert result.volume_angstrom3_per_atom["fcc"] == pytest.approx(whole.v0_angstrom3_per_atom, rel=1e-4)
    assert result.b0_gpa["ground"] == pytest.approx(whole.b0_gpa, rel=1e-3)
    assert result.energy_mev_per_atom["fcc"] == pytest.approx(0.0, abs=1e-2)
    assert result.energy_mev_per_atom["ground"] == 0.0
    minima = {name: relaxed(bulk("Cu", name, a=a), calc, cell=True) for name, a in (("hcp", 2.55), ("bcc", 2.9))}
    for name, final in minima.items():
        above = 1000 * (final.get_potential_energy() / len(final) - whole.e0_ev_per_atom)
        assert result.energy_mev_per_atom[name] == pytest.approx(above, abs=0.05)
    assert result.energy_mev_per_atom["hcp"] < -0.5
    assert result.energy_mev_per_atom["bcc"] > 20


def test_lennard_jones_prefers_hcp_by_the_difference_of_the_lattice_sums():
    """E = -A6^2 / (2 A12) epsilon: A6 and A12 are 14.45392 and 12.13188 of fcc, 14.45489 and 12.13229 of hcp.

    T. Kihara and S. Koba, J. Phys. Soc. Jpn. 7, 348 (1952), doi 10.1143/JPSJ.7.348.
    """
    calc = LennardJones(sigma=1.0, epsilon=1.0, rc=9.0)
    result = phases.compute(bulk("Ar", "fcc", a=1.54), calc, Settings({"hcp": 1.0}, points=5, strain=0.02))
    sums = {"fcc": (14.45392, 12.13188), "hcp": (14.45489, 12.13229)}
    energies = {name: -1000 * a6**2 / (2 * a12) for name, (a6, a12) in sums.items()}
    assert result.energy_mev_per_atom["hcp"] == pytest.approx(energies["hcp"] - energies["fcc"], rel=0.08)


@pytest.fixture(scope="module")
def stillinger_weber() -> Result:
    calc = Manybody(**StillingerWeber(Stillinger_Weber_PRB_31_5262_Si))
    starts = {"hexagonal_diamond": 1.0, "bc8": 0.9, "st12": 0.9, "beta_sn": 0.85, "simple_hexagonal": 0.9, "bcc": 0.85}
    return phases.compute(bulk("Si", a=5.43), calc, Settings(starts))


@pytest.mark.parametrize(
    ("name", "energy", "volume"),
    [
        ("hexagonal_diamond", 0.0, 20.0233),
        ("bc8", 187.75, 17.892),
        ("st12", 177.99, 17.569),
        ("beta_sn", 200.00, 17.218),
        ("simple_hexagonal", 376.84, 18.058),
        ("bcc", 281.30, 17.083),
    ],
)
def test_silicon_of_stillinger_and_weber_is_as_published(stillinger_weber, name, energy, volume):
    """Our fits to the curves of Bartok et al., doi 10.1103/PhysRevX.8.041048, of another unit of energy: 2.1675 eV."""
    published = energy * Stillinger_Weber_PRB_31_5262_Si["epsilon"] / 2.1675
    assert stillinger_weber.energy_mev_per_atom[name] == pytest.approx(published, abs=1.5)
    assert stillinger_weber.volume_angstrom3_per_atom[name] == pytest.approx(volume, rel=1e-3)
    assert not stillinger_weber.without_minimum


def test_a_phase_without_a_minimum_is_named_and_the_others_stay():
    crystal = relaxed(bulk("Cu"), EMT(), cell=True, fmax=1e-4)
    result = phases.compute(crystal, EMT(), Settings({"hcp": 0.7, "fcc": 1.0}, max_steps=1))
    assert set(result.energy_mev_per_atom) == {"ground", "fcc"}
    assert "did not converge in 1 steps" in result.without_minimum["hcp"]


def test_a_ground_state_without_a_minimum_is_an_error(recorder):
    with pytest.raises(UnconvergedError, match="no minimum"):
        phases.compute(bulk("Cu"), recorder(), Settings({"fcc": 1.0}))


def test_compounds_and_molecules_are_refused():
    with pytest.raises(StructureError, match="several elements"):
        phases.compute(bulk("NaCl", "rocksalt", a=5.6), EMT(), Settings({"fcc": 1.0}))
    with pytest.raises(StructureError, match="needs a crystal"):
        phases.compute(Atoms("Cu"), EMT(), Settings({"fcc": 1.0}))


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"phases": {}}, "no phases"),
        ({"phases": {"beta_tin": 0.8}}, "beta_sn"),
        ({"phases": {"fcc": 0.0}}, "not positive"),
        ({"phases": {"fcc": 1.0}, "points": 4}, "points"),
        ({"phases": {"fcc": 1.0}, "strain": 0.5}, "strain"),
        ({"phases": {"fcc": 1.0}, "fmax": 0.0}, "fmax"),
    ],
)
def test_nonsense_settings_are_card_errors(bad, word):
    with pytest.raises(CardError, match=word):
        parse(bad, Settings, where="a card")


RESULT = Result(
    energy_mev_per_atom={"ground": 0.0, "fcc": 30.0, "bcc": 40.0},
    volume_angstrom3_per_atom={"ground": 10.0, "fcc": 9.0, "bcc": 8.0},
    b0_gpa={},
    curve_angstrom3_per_atom={},
    curve_mev_per_atom={},
)


def test_compare_returns_planted_errors():
    reference = {
        "energy_mev_per_atom_fcc": 27.0,
        "energy_mev_per_atom_bcc": 44.0,
        "volume_angstrom3_per_atom_fcc": 10.0,
        "volume_angstrom3_per_atom_ground": 5.0,
    }
    assert phases.compare(RESULT, reference) == pytest.approx(
        {
            "energy_mev_per_atom_fcc": 3.0,
            "energy_mev_per_atom_bcc": -4.0,
            "energy_rms_mev_per_atom": np.sqrt(12.5),
            "volume_percent_fcc": -10.0,
            "volume_rms_percent": 10.0,
        }
    )
    assert phases.compare(RESULT, {}) == {}


def test_a_missing_phase_cannot_improve_the_mean():
    reference = {"energy_mev_per_atom_fcc": 27.0, "energy_mev_per_atom_hcp": 44.0}
    assert phases.compare(RESULT, reference) == {"energy_mev_per_atom_fcc": 3.0}
