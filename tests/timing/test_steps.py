"""Steps that are timed, how they are timed, and the power law through their times."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from scipy.stats import linregress

from mace_ft_bench.errors import UnstableError
from mace_ft_bench.timing.interleaved import time_in_turns
from mace_ft_bench.timing.scaling import fit_power_law
from mace_ft_bench.timing.steps import Thermostat, displaced_step, langevin_steps

SIZES = [128, 372, 1038, 2900]


class Counting(EMT):
    calls = 0
    temperature = 0.0

    def calculate(self, *arguments, **options):
        self.calls += 1
        super().calculate(*arguments, **options)
        self.temperature = self.atoms.get_temperature()


def copper():
    atoms = bulk("Cu", cubic=True) * 2
    atoms.rattle(0.05, seed=0)
    return atoms


def test_a_displaced_step_asks_again_and_leaves_the_sites_alone():
    atoms, calculator = copper(), Counting()
    before = atoms.positions.copy()
    step = displaced_step(atoms, calculator)
    step()
    step()
    assert calculator.calls == 2
    assert (atoms.positions == before).all()


def test_dynamics_go_on_from_call_to_call():
    atoms, calculator = copper(), Counting()
    before = atoms.copy()
    proceed = langevin_steps(atoms, calculator, Thermostat(), steps=5)
    proceed()
    assert calculator.calls == 6  # the forces of the start
    first = calculator.atoms.positions.copy()
    proceed()
    assert calculator.calls == 11
    moved = np.abs(calculator.atoms.positions - first).max()
    assert 0.005 < moved < 0.5  # the way of 5 fs at 300 K
    assert atoms == before


def test_dynamics_are_the_same_for_every_calculator_and_follow_the_thermostat():
    calculators = [Counting(), Counting()]
    for calculator in calculators:
        langevin_steps(copper(), calculator, Thermostat(friction_per_fs=0.1), steps=300)()
    assert (calculators[0].atoms.positions == calculators[1].atoms.positions).all()
    hot = Counting()
    langevin_steps(copper(), hot, Thermostat(900, friction_per_fs=0.1), steps=300)()
    assert 200 < calculators[0].temperature < 420  # one frame of 32 atoms: its deviation is 14 %
    assert hot.temperature > 1.5 * calculators[0].temperature


def test_what_comes_apart_is_no_timing():
    atoms = copper()
    atoms.positions[0] = atoms.positions[1] + 0.4
    with pytest.raises(UnstableError, match="came apart"):
        langevin_steps(atoms, EMT(), Thermostat(), steps=20)()


def test_rounds_are_told_as_they_come():
    told = []
    times = time_in_turns({"a": list, "b": list}, rounds=2, warmup=1, on_round=lambda found: told.append(dict(found)))
    assert told == [{"a": times.samples["a"][turn], "b": times.samples["b"][turn]} for turn in range(2)]


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_power_laws_come_back(exponent):
    law = fit_power_law(SIZES, [3 * size**exponent for size in SIZES])
    assert law.exponent == pytest.approx(exponent)
    assert law.factor == pytest.approx(3)
    assert law.standard_error == pytest.approx(0, abs=1e-6)
    assert law(500) == pytest.approx(3 * 500**exponent)


def test_the_error_of_an_exponent_is_that_of_a_linear_regression():
    times = [658.0, 1008.0, 2031.0, 5084.0]  # Table 7 of the tutorial, without cuEquivariance
    law = fit_power_law(SIZES, times)
    known = linregress(np.log(SIZES), np.log(times))
    assert law.exponent == pytest.approx(known.slope)
    assert law.standard_error == pytest.approx(known.stderr)
    assert str(law) == f"{known.slope:.2f} ± {known.stderr:.2f}"


def test_few_sizes():
    assert fit_power_law([100, 100], [1.0, 2.0]) is None
    law = fit_power_law([100, 1000], [1.0, 10.0])
    assert (law.exponent, law.standard_error) == (pytest.approx(1.0), None)
    assert str(law) == "1.00"


PEAKS = """
import numpy as np
from mace_ft_bench.timing.dynamics import resident_peak_mb
before = resident_peak_mb()
held = np.ones(40_000_000)
print(before, resident_peak_mb())
"""


def test_resident_memory_is_that_of_python_and_what_it_holds():
    # In a process of its own: the peak of this one is that of whatever ran in it before.
    said = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True).stdout.split()
    if said[0] == "None":
        pytest.skip("the system does not tell")
    before, after = map(float, said)
    assert 20 < before < 1000
    assert 300 < after - before < 400
