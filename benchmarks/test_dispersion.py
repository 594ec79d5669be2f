"""A step of molecular dynamics with D3: ours, s-dftd3 and torch-dftd, on the structures of the tutorial.

:mod:`mace_ft_bench.timing.dispersion` says what a step is.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase.io import read

from mace_ft_bench.calculators.dispersion import D3Calculator
from mace_ft_bench.timing.dispersion import CALCULATORS, PEER, SETTINGS, TORCH_UP_TO, step
from mace_ft_bench.timing.serving import OURS

if TYPE_CHECKING:
    from ase import Atoms
    from pytest_benchmark.fixture import BenchmarkFixture

SIZES = (128, 372, 1038, 2900)
MOST_MEMORY_GB = 1.5


def graphene_water(request: pytest.FixtureRequest, count: int) -> Atoms:
    """Return the structure of the mirror; 2900 atoms are cut from three images of the one of 1038."""
    folder = request.config.getoption("--data") or os.environ.get("MFB_MIRROR")
    name = f"graphene-{min(count, 1038)}.xyz"
    found = sorted(Path(folder).rglob(name)) if folder else []
    if not found:
        pytest.skip(f"{name} is not on this machine: pass --data or set MFB_MIRROR")
    atoms: Atoms = read(found[0])
    atoms.pbc = True
    if count > len(atoms):
        atoms = (atoms * (1, 1, 3))[:count]
    return atoms


@pytest.mark.parametrize("name", CALCULATORS)
@pytest.mark.parametrize("count", SIZES)
def test_step(benchmark: BenchmarkFixture, request: pytest.FixtureRequest, count: int, name: str) -> None:
    """PBE-D3(BJ), 40 bohr both cutoffs, graphene and water."""
    if name == PEER:
        pytest.importorskip("dftd3")
    if name.startswith("torch") and count > TORCH_UP_TO:
        pytest.skip("torch-dftd keeps several dozen arrays of all pairs")
    atoms = graphene_water(request, count)
    atoms.calc = CALCULATORS[name](SETTINGS)
    rng = np.random.default_rng(0)
    benchmark.group = f"D3 step, {count} atoms"
    benchmark.pedantic(step, args=(atoms, rng), rounds={OURS: 15, PEER: 5}.get(name, 2), warmup_rounds=1)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    benchmark.extra_info.update(atoms=count, threads=os.environ.get("OMP_NUM_THREADS", "all"), peak_memory_gb=memory)
    if name == OURS:
        benchmark.extra_info["builds"] = atoms.calc.builds


def test_memory(request: pytest.FixtureRequest) -> None:
    """At 2900 atoms the step adds little to what Python and its libraries take."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    atoms = graphene_water(request, max(SIZES))
    atoms.calc = D3Calculator.from_settings(SETTINGS)
    step(atoms, np.random.default_rng(0))
    added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6
    assert added < MOST_MEMORY_GB
