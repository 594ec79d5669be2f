"""Formation energies of frames: vacancies of EMT copper against the point defect, and what cannot be compared."""

from __future__ import annotations

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from mace_ft_bench.errors import CardError, StructureError, UnconvergedError
from mace_ft_bench.properties import formation_energy, point_defect
from mace_ft_bench.properties.formation_energy import Result, Settings
from mace_ft_bench.properties.relax import relaxed
from mace_ft_bench.results.case import BulkStructure
from mace_ft_bench.toml_schema import parse

COPPER = BulkStructure(element="Cu", lattice="fcc", a=3.6)
CHOICE = Settings(of=("one", "two"), crystal=COPPER, cell=False)


@pytest.fixture(scope="module")
def frames():
    """Return a vacancy and a divacancy in relaxed copper, and the perfect crystal."""
    supercell = relaxed(bulk("Cu", a=3.6, cubic=True), EMT(), cell=True).repeat(2)
    perfect, one, two = (supercell.copy() for _ in range(3))
    del one[0]
    del two[[0, 1]]
    for name, frame in (("perfect", perfect), ("one", one), ("two", two)):
        frame.info["config_type"] = name
    return [perfect, one, two]


def test_a_vacancy_is_that_of_the_point_defect(frames):
    where = point_defect.Settings(repeat=(2, 2, 2), remove=((0.0, 0.0, 0.0),))
    expected = point_defect.compute(bulk("Cu", a=3.6, cubic=True), EMT(), where)
    result = formation_energy.compute(frames, EMT(), CHOICE)
    assert result.formation_energy_ev["one"] == pytest.approx(expected.formation_energy_ev, abs=1e-4)
    assert result.unrelaxed_ev["one"] == pytest.approx(expected.unrelaxed_ev, abs=1e-4)
    assert result.largest_displacement_angstrom["one"] == pytest.approx(
        expected.largest_displacement_angstrom, abs=0.01
    )
    assert 1.5 < result.formation_energy_ev["two"] / result.formation_energy_ev["one"] < 2  # neighbours bind


def test_the_perfect_crystal_costs_nothing_from_any_lattice_constant(frames):
    choice = Settings(of=("perfect",), crystal=COPPER)
    strained = frames[0].copy()
    strained.set_cell(strained.cell.array * 1.02, scale_atoms=True)
    result = formation_energy.compute([strained], EMT(), choice)
    assert result.formation_energy_ev["perfect"] == pytest.approx(0.0, abs=1e-3)
    assert result.unrelaxed_ev["perfect"] > 0.1
    assert result.largest_displacement_angstrom["perfect"] < 1e-3  # strain is none


def test_a_cell_that_relaxes_lowers_the_energy_and_the_frames_stay(frames):
    before = [frame.copy() for frame in frames]
    fixed = formation_energy.compute(frames, EMT(), CHOICE).formation_energy_ev
    free = formation_energy.compute(frames, EMT(), Settings(of=("one", "two"), crystal=COPPER)).formation_energy_ev
    assert all(free[name] < fixed[name] - 1e-3 for name in free)
    assert frames == before


def test_unrelaxed_energies_are_of_the_geometries_given(frames):
    result = formation_energy.compute(frames, EMT(), Settings(of=("one",), crystal=COPPER, relax=False))
    assert result.formation_energy_ev == result.unrelaxed_ev
    assert result.largest_displacement_angstrom == {"one": 0.0}


def test_what_cannot_be_computed_is_named(frames):
    with pytest.raises(StructureError, match='0 frames have.*"three"'):
        formation_energy.compute(frames, EMT(), Settings(of=("three",), crystal=COPPER))
    silver = Settings(of=("one",), crystal=BulkStructure(element="Ag", lattice="fcc", a=4.1))
    with pytest.raises(StructureError, match="one is Cu31 and the crystal Ag4"):
        formation_energy.compute(frames, EMT(), silver)
    with pytest.raises(UnconvergedError):
        formation_energy.compute(frames, EMT(), Settings(of=("one",), crystal=COPPER, max_steps=1))


@pytest.mark.parametrize(
    ("change", "word"),
    [({"of": []}, "empty"), ({"of": ["one", "one"]}, "twice"), ({"fmax": 0.0}, "fmax"), ({"crystal": None}, "crystal")],
)
def test_nonsense_settings_are_card_errors(change, word):
    table = {"of": ["one"], "crystal": {"element": "Cu", "lattice": "fcc", "a": 3.6}}
    with pytest.raises(CardError, match=word):
        parse(table | change, Settings, where="a card")


def test_compare_returns_planted_errors():
    result = Result({"a": 3.0, "b": 5.0, "c": 1.0}, {}, {})
    reference = {"formation_energy_ev_a": 3.3, "formation_energy_ev_b": 4.6}
    assert formation_energy.compare(result, reference) == pytest.approx(
        {"formation_energy_ev_a": -0.3, "formation_energy_ev_b": 0.4, "formation_rms_ev": 0.125**0.5}
    )
    assert formation_energy.compare(result, {}) == {}
    more = reference | {"formation_energy_ev_hard": 9.0}  # leaving it out must not improve the mean
    assert "formation_rms_ev" not in formation_energy.compare(result, more)
