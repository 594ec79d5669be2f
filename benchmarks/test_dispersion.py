"""A step of molecular dynamics with D3: ours, s-dftd3 and torch-dftd, at equal cutoffs, functional and threads.

A step moves all atoms and asks the calculator for energy, forces and stress, as a barostat does. Our time includes
rebuilding the lists as often as the motion needs. ``OMP_NUM_THREADS`` sets the threads of all of them.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ase.io import read
from ase.units import Bohr

from mace_ft_bench.calculators.d3.parameters import damping_parameters
from mace_ft_bench.calculators.d3.reference import TorchEngine
from mace_ft_bench.calculators.dispersion import D3Calculator, D3Settings

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from pytest_benchmark.fixture import BenchmarkFixture

CUTOFF = 40 * Bohr
SIZES = (128, 372, 1038, 2900)
DISPLACEMENT = 0.01
"""Displacement per step [Angstrom] and direction; that of water at 300 K and 1 fs."""
MOST_MEMORY_GB = 1.5
TORCH_UP_TO = 1500
"""Most atoms for torch-dftd on a processor: at 1038 it takes 10 s a step and 5 GB."""


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


def ours(settings: D3Settings) -> Calculator:
    """Return our default."""
    return D3Calculator.from_settings(settings)


def s_dftd3(settings: D3Settings) -> Calculator:
    """Return s-dftd3 at our cutoffs; its defaults differ."""
    dftd3 = pytest.importorskip("dftd3.ase")
    values = damping_parameters(settings)
    tweaks = {"s6": values["s6"], "s8": values["s18"], "a1": values["rs6"], "a2": values["rs18"], "s9": 0.0}
    cutoffs = {"disp2": settings.cutoff, "disp3": settings.cn_cutoff, "cn": settings.cn_cutoff}
    calculator: Calculator = dftd3.DFTD3(damping="d3bj", params_tweaks=tweaks, realspace_cutoff=cutoffs)
    return calculator


def torch_dftd(dtype: str) -> Any:  # noqa: ANN401 - a function of the settings
    """Return a maker of torch-dftd over our neighbour list (its own takes longer than the sum)."""

    def make(settings: D3Settings) -> Calculator:
        calculator = D3Calculator.from_settings(settings)
        calculator._engine = TorchEngine(settings, "cpu", dtype)  # noqa: SLF001 - the dtype is no option
        calculator.implemented_properties = ["energy", "forces", "stress"]
        return calculator

    return make


CALCULATORS = {
    "ours": ours,
    "s-dftd3": s_dftd3,
    "torch-dftd-float32": torch_dftd("float32"),
    "torch-dftd-float64": torch_dftd("float64"),
}


def step(atoms: Atoms, rng: np.random.Generator) -> None:
    """Move all atoms and evaluate everything."""
    atoms.positions += rng.normal(0, DISPLACEMENT, atoms.positions.shape)
    atoms.get_forces()
    atoms.get_stress()


@pytest.mark.parametrize("name", CALCULATORS)
@pytest.mark.parametrize("count", SIZES)
def test_step(benchmark: BenchmarkFixture, request: pytest.FixtureRequest, count: int, name: str) -> None:
    """PBE-D3(BJ), 40 bohr both cutoffs, graphene and water."""
    if name.startswith("torch") and count > TORCH_UP_TO:
        pytest.skip("torch-dftd keeps several dozen arrays of all pairs")
    atoms = graphene_water(request, count)
    atoms.calc = CALCULATORS[name](D3Settings("pbe", cutoff=CUTOFF, cn_cutoff=CUTOFF))
    rng = np.random.default_rng(0)
    benchmark.group = f"D3 step, {count} atoms"
    benchmark.pedantic(step, args=(atoms, rng), rounds={"ours": 15, "s-dftd3": 5}.get(name, 2), warmup_rounds=1)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    benchmark.extra_info.update(atoms=count, threads=os.environ.get("OMP_NUM_THREADS", "all"), peak_memory_gb=memory)
    if name == "ours":
        benchmark.extra_info["builds"] = atoms.calc.builds


def test_memory(request: pytest.FixtureRequest) -> None:
    """At 2900 atoms the step adds little to what Python and its libraries take."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    atoms = graphene_water(request, max(SIZES))
    atoms.calc = D3Calculator("pbe", cutoff=CUTOFF, cn_cutoff=CUTOFF)
    step(atoms, np.random.default_rng(0))
    added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6
    assert added < MOST_MEMORY_GB
