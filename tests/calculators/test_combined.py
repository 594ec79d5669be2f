"""A model plus dispersion: sums, kept results, and what does not belong together."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.calculators.emt import EMT

from mace_ft_bench import list_models, testing
from mace_ft_bench.calculators.combined import CombinedCalculator, resolve_dispersion
from mace_ft_bench.calculators.dispersion import D3Calculator, D3Settings
from mace_ft_bench.errors import CardError, UnknownNameError

OPTIONS = {"cutoff": 8.3, "cn_cutoff": 6.1, "smoothing": 1.0}


class Rich(Calculator):
    """A calculator with more results than energy and forces."""

    implemented_properties = ("energy", "free_energy", "energies", "forces", "stress", "magmoms", "energy_variance")

    def __init__(self):
        super().__init__()
        self.head = "pbe"
        self.asked = []

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.asked.append(tuple(properties))
        count = len(atoms)
        self.results = {
            "energy": 2.0 * count,
            "free_energy": 2.0 * count,
            "energies": np.full(count, 2.0),
            "forces": np.ones((count, 3)),
            "magmoms": np.full(count, 0.5),
            "energy_variance": 0.25,
            "heads": ["pbe"],
        }
        if atoms.cell.rank == 3:
            self.results["stress"] = np.arange(6.0)


def crystal():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=2)
    return atoms


def test_sums_and_parts():
    atoms = crystal()
    dispersion = D3Calculator("pbe", **OPTIONS)
    combined = CombinedCalculator(Rich(), dispersion)
    atoms.calc = combined
    forces, energy, stress = atoms.get_forces(), atoms.get_potential_energy(), atoms.get_stress()
    results = combined.results
    for name in ("energy", "free_energy", "energies", "forces", "stress"):
        np.testing.assert_array_equal(results[name], results[f"model_{name}"] + results[f"dispersion_{name}"])
    alone = crystal()
    alone.calc = D3Calculator("pbe", **OPTIONS)
    assert energy == 8.0 + alone.get_potential_energy()
    np.testing.assert_allclose(forces, 1.0 + alone.get_forces(), atol=1e-12)
    np.testing.assert_allclose(stress, np.arange(6.0) + alone.get_stress(), atol=1e-12)
    assert combined.get_property("dispersion_energy", atoms) == alone.get_potential_energy()
    assert combined.get_property("energy_variance", atoms) == 0.25
    np.testing.assert_array_equal(atoms.get_magnetic_moments(), 0.5)
    assert results["heads"] == ["pbe"]
    assert len(combined.model.asked) == 1, "one evaluation serves all"


class WithMatrix(Rich):
    """A calculator whose stress is a matrix, as CHGNet's."""

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        xx, yy, zz, yz, xz, xy = self.results["stress"]
        self.results["stress"] = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def test_a_model_may_give_its_stress_as_a_matrix():
    dispersion = D3Calculator("pbe", **OPTIONS)
    by_matrix, by_six = (CombinedCalculator(model(), dispersion) for model in (WithMatrix, Rich))
    expected = by_six.get_stress(crystal())
    assert by_matrix.get_stress(crystal()) == pytest.approx(expected, abs=1e-14)
    (found,) = by_matrix.evaluate([crystal()])
    assert found["stress"] == pytest.approx(expected, abs=1e-14)


def test_what_the_model_has_is_reachable():
    combined = CombinedCalculator(Rich(), D3Calculator("pbe", **OPTIONS))
    assert combined.head == "pbe"
    with pytest.raises(AttributeError):
        _ = combined.nonsense


def test_contract():
    """EMT copper and D3, without pickling, which EMT cannot, and what EMT does not refuse D3 does."""
    combined = CombinedCalculator(EMT(), D3Calculator("pbe", **OPTIONS))
    skipped = {"check_pickling", "check_calculator"}
    checks = [name for name in vars(testing) if name.startswith("check_") and name not in skipped]
    assert len(checks) > 8
    for name in checks:
        getattr(testing, name)(combined, testing.sheared_crystal("Cu", "fcc", 3.6), tolerances=testing.FLOAT64)


def test_pickling():
    combined = CombinedCalculator(Rich(), D3Calculator("pbe", **OPTIONS))
    testing.check_pickling(combined, crystal(), tolerances=testing.FLOAT64)
    assert pickle.loads(pickle.dumps(combined)).head == "pbe"  # noqa: S301 - our own bytes


def test_no_site_energies_where_dispersion_has_none():
    """Site energies that do not add up to the energy would be worse than none."""
    atoms = crystal()
    atoms.calc = CombinedCalculator(Rich(), D3Calculator("pbe", engine="torch-dftd", **(OPTIONS | {"smoothing": 0.0})))
    atoms.get_forces()
    assert "energies" not in atoms.calc.results
    assert atoms.calc.results["model_energies"].tolist() == [2.0] * 4
    assert "energies" not in atoms.calc.implemented_properties


def test_no_stress_without_a_cell():
    atoms = molecule("CH4")
    atoms.calc = CombinedCalculator(Rich(), D3Calculator("pbe", **OPTIONS))
    assert atoms.get_potential_energy() < 10.0
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


# --- which dispersion belongs to which model ------------------------------------------------------------------------


def card(**changes):
    return replace(next(card for card in list_models() if card.name == "mo-ft"), **changes)


@pytest.mark.parametrize("nothing", [None, False])
def test_none(nothing):
    assert resolve_dispersion(card(), nothing) is None
    assert resolve_dispersion(card(dispersion="included"), nothing) is None


@pytest.mark.parametrize(
    ("functional", "dispersion", "expected"),
    [
        ("PBE (VASP, Mo_pv, 520 eV)", "pbe", "pbe"),
        ("PBE (VASP, Mo_pv, 520 eV)", True, "PBE"),
        ("PBE / PBE+U, VASP (MPtrj), Materials Project corrections", "PBE", "PBE"),
        ("B3LYP/def2-TZVP", "b3-lyp", "b3-lyp"),
        ("r2SCAN (VASP)", True, "r2SCAN"),
    ],
)
def test_the_functional_of_the_card(functional, dispersion, expected):
    assert resolve_dispersion(card(functional=functional), dispersion) == D3Settings(functional=expected)


def test_settings_are_taken_as_they_are():
    settings = D3Settings("pbe", "zero", cutoff=12.0)
    assert resolve_dispersion(card(), settings) is settings
    assert resolve_dispersion(None, settings) is settings
    assert resolve_dispersion(None, "b3lyp") == D3Settings("b3lyp")


def test_double_counting_is_refused():
    included = card(dispersion="included")
    with pytest.raises(CardError, match="count it twice.*allow_double_counting=True"):
        resolve_dispersion(included, "pbe")
    assert resolve_dispersion(included, "pbe", allow_double_counting=True) == D3Settings("pbe")


def test_a_card_that_does_not_know_is_refused():
    unknown = card(dispersion="unknown")
    with pytest.raises(CardError, match="does not say.*into the card"):
        resolve_dispersion(unknown, "pbe")
    assert resolve_dispersion(unknown, None) is None
    assert resolve_dispersion(unknown, "pbe", allow_double_counting=True) == D3Settings("pbe")


@pytest.mark.parametrize("other", ["b3lyp", "pbesol", "rpbe"])
def test_another_functional_is_refused(other):
    with pytest.raises(CardError, match="allow_other_functional=True"):
        resolve_dispersion(card(), other)
    assert resolve_dispersion(card(), other, allow_other_functional=True) == D3Settings(other)


def test_unknown_functionals():
    with pytest.raises(UnknownNameError, match='did you mean "pbe"'):
        resolve_dispersion(None, "pbx")
    with pytest.raises(UnknownNameError, match="name the functional"):
        resolve_dispersion(None, dispersion=True)
    with pytest.raises(UnknownNameError, match="no parameters for the functional"):
        resolve_dispersion(card(functional="CCSD(T)"), dispersion=True)
