"""Time per evaluation with pytest-benchmark: every model over system sizes, EMT as the floor of the machinery.

``mfb timing table`` times whole steps of Langevin dynamics, by accelerator, dispersion, dtype and device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from mace_ft_bench import get_calculator
from mace_ft_bench.properties.base import get_property
from mace_ft_bench.results.tasks import dtype_of
from mace_ft_bench.timing.steps import displaced_step

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from mace_ft_bench.results.model_spec import ModelSpec

REPEATS = (2, 4)


@pytest.mark.parametrize("repeat", REPEATS)
def test_step(benchmark: BenchmarkFixture, model: ModelSpec, repeat: int) -> None:
    """Energy and forces of a bcc Mo supercell, float32 where the model has a choice."""
    dtype = dtype_of(model, get_property("throughput"))
    atoms = bulk("Mo", a=3.16, cubic=True) * (repeat, repeat, repeat)
    calculator = get_calculator(model.source, dtype=dtype)
    benchmark.extra_info.update(atoms=len(atoms), dtype=dtype or "own")
    benchmark.pedantic(displaced_step(atoms, calculator), rounds=7, warmup_rounds=2)


def test_floor(benchmark: BenchmarkFixture) -> None:
    """The same through EMT copper: what ASE itself costs."""
    atoms = bulk("Cu", cubic=True) * (4, 4, 4)
    benchmark.pedantic(displaced_step(atoms, EMT()), rounds=7, warmup_rounds=2)
