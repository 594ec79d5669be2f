"""A step beside mace's own calculator, batches beside single calls, lists with a skin beside fresh ones.

``mfb timing`` prints the same comparisons as a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mace_ft_bench import get_calculator
from mace_ft_bench.timing.serving import peer_calculator, strained_cells
from mace_ft_bench.timing.skin import check_skin
from mace_ft_bench.timing.steps import displaced_step
from mace_ft_bench.timing.systems import molybdenum

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

MODEL = "mo-ft"
SIZES = (16, 128, 1024)
LIST_ENERGY = 1e-9
"""Largest difference by a kept list [eV/atom]."""
LIST_FORCES = 1e-8
"""Largest difference by a kept list [eV/Angstrom]."""


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("atoms", SIZES)
@pytest.mark.parametrize("who", ["ours", "MACECalculator"])
def test_step(benchmark: BenchmarkFixture, who: str, atoms: int, dtype: str) -> None:
    """Energy and forces after a small displacement, the same weights."""
    calculator = get_calculator(MODEL, dtype=dtype) if who == "ours" else peer_calculator(MODEL, dtype)
    benchmark.group = f"step, {atoms} atoms, {dtype}"
    benchmark.pedantic(displaced_step(molybdenum(atoms), calculator), rounds=5, warmup_rounds=2)


@pytest.mark.parametrize("how", ["evaluate", "one by one"])
def test_many_small_cells(benchmark: BenchmarkFixture, how: str) -> None:
    """Energy, forces and stress of 100 strained cells of 2 to 16 atoms."""
    calculator = get_calculator(MODEL)
    frames = strained_cells(100)

    def one_by_one() -> None:
        for frame in frames:
            atoms = frame.copy()
            atoms.calc = calculator
            atoms.get_forces()
            atoms.get_stress()

    benchmark.group = "100 cells"
    benchmark.pedantic(
        one_by_one if how == "one by one" else lambda: calculator.evaluate(frames), rounds=5, warmup_rounds=1
    )


@pytest.mark.parametrize("ensemble", ["NVT", "NPT"])
def test_skin_changes_nothing_but_the_time(ensemble: str) -> None:
    """Every frame of a trajectory, evaluated again with a fresh list."""
    found = check_skin(MODEL, ensemble, atoms=54, steps=200)
    assert found.builds < found.frames / 3
    assert found.energy_difference < LIST_ENERGY
    assert found.force_difference < LIST_FORCES
