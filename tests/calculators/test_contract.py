"""Every calculator keeps the public contract."""

from __future__ import annotations

import numpy as np
import pytest
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT

from mace_ft_bench import get_calculator, testing

CALCULATORS = {
    "mo-ft float64": (lambda: get_calculator("mo-ft"), testing.FLOAT64),
    "mo-ft float32": (lambda: get_calculator("mo-ft", dtype="float32"), testing.FLOAT32),
    "chgnet": (lambda: get_calculator("chgnet"), testing.FLOAT32),
    "emt": (lambda: get_calculator("emt"), testing.FLOAT64),
}

CHECKS = [
    testing.check_forces,
    testing.check_stress,
    testing.check_net_force,
    testing.check_rotation,
    testing.check_translation,
    testing.check_permutation,
    testing.check_extensivity,
    testing.check_no_state,
    testing.check_pickling,
    testing.check_energies,
    testing.check_refusals,
]


@pytest.fixture(scope="module", params=CALCULATORS)
def served(request):
    build, tolerances = CALCULATORS[request.param]
    return build(), tolerances


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(served, check):
    calculator, tolerances = served
    crystal = ("Cu", "fcc", 3.6) if calculator.label_name == "emt" else ("Mo", "bcc", 3.16)
    check(calculator, testing.sheared_crystal(*crystal), tolerances=tolerances)


@pytest.mark.parametrize(
    "check", [check for check in CHECKS if check not in {testing.check_pickling, testing.check_refusals}]
)
def test_emt_keeps_the_contract(check):
    """The kit itself, on a calculator that is known to be right (but cannot be pickled, nor refuses NaN)."""
    check(EMT(), testing.sheared_crystal("Cu", "fcc", 3.6), tolerances=testing.FLOAT64)


class Broken(EMT):
    """EMT with one defect."""

    defect = ""

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        forces = self.results["forces"].copy()
        if self.defect == "forces":
            self.results["forces"] = -forces
        elif self.defect == "stress":
            self.results["stress"] = -self.results["stress"]
        elif self.defect == "voigt":
            self.results["stress"] = self.results["stress"][[0, 1, 2, 5, 4, 3]]
        elif self.defect == "net":
            self.results["forces"] = forces + 1e-3
        elif self.defect == "frame":
            self.results["energy"] += 1e-3 * float(self.atoms.cell[0, 0])
        elif self.defect == "origin":
            self.results["energy"] += 1e-3 * float(self.atoms.positions[0, 0])
        elif self.defect == "sites":
            self.results["energies"] = self.results["energies"] + 0.1
        elif self.defect == "extensive":
            self.results["energy"] /= len(self.atoms)


def named(check, defect):
    return pytest.param(check, defect, id=defect)


@pytest.mark.parametrize(
    ("check", "defect"),
    [
        named(testing.check_forces, "forces"),
        named(testing.check_stress, "stress"),
        named(testing.check_stress, "voigt"),
        named(testing.check_net_force, "net"),
        named(testing.check_rotation, "frame"),
        named(testing.check_translation, "origin"),
        named(testing.check_permutation, "origin"),
        named(testing.check_extensivity, "extensive"),
        named(testing.check_energies, "sites"),
    ],
)
@pytest.mark.parametrize("tolerances", [testing.FLOAT64, testing.FLOAT32], ids=["float64", "float32"])
def test_the_kit_notices(check, defect, tolerances):
    calculator = Broken()
    calculator.defect = defect
    with pytest.raises(AssertionError, match="largest deviation"):
        check(calculator, testing.sheared_crystal("Cu", "fcc", 3.6), tolerances=tolerances)


class Remembering(Calculator):
    """Returns the energy of the first structure it saw."""

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms=None, properties=None, system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.count = getattr(self, "count", 0) + 1
        self.results = {"energy": float(self.count), "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}


def test_the_kit_notices_state():
    with pytest.raises(AssertionError, match="another structure in between"):
        testing.check_no_state(Remembering(), testing.sheared_crystal("Cu", "fcc", 3.6), tolerances=testing.FLOAT64)
