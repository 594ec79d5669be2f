"""Time per evaluation with pytest-benchmark: every model over system sizes, EMT as the floor of the machinery."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from mace_ft_bench import get_calculator
from mace_ft_bench.properties.base import get_property
from mace_ft_bench.results.runner import ModelSpec, dtype_of

if TYPE_CHECKING:
    from ase import Atoms
    from pytest_benchmark.fixture import BenchmarkFixture

REPEATS = (2, 4)


def step(atoms: Atoms, amplitude: float = 1e-3) -> None:
    """Move all atoms a little and ask for forces, as a molecular-dynamics step does."""
    atoms.rattle(amplitude, seed=len(atoms))
    atoms.get_forces()


@pytest.mark.parametrize("repeat", REPEATS)
def test_step(benchmark: BenchmarkFixture, model: ModelSpec, repeat: int) -> None:
    """Energy and forces of a bcc Mo supercell, float32 where the model has a choice."""
    dtype = dtype_of(model, get_property("throughput"))
    atoms = bulk("Mo", a=3.16, cubic=True) * (repeat, repeat, repeat)
    atoms.calc = get_calculator(model.source, dtype=dtype)
    benchmark.extra_info.update(atoms=len(atoms), dtype=dtype or "own")
    benchmark.pedantic(step, args=(atoms,), rounds=7, warmup_rounds=2)


def test_floor(benchmark: BenchmarkFixture) -> None:
    """The same through EMT copper: what ASE itself costs."""
    atoms = bulk("Cu", cubic=True) * (4, 4, 4)
    atoms.calc = EMT()
    benchmark.pedantic(step, args=(atoms,), rounds=7, warmup_rounds=2)
