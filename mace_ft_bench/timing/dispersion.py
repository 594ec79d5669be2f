"""A step of molecular dynamics with D3: ours, s-dftd3 and torch-dftd, at equal cutoffs, functional and threads.

A step moves all atoms and asks the calculator for energy, forces and stress, as a barostat does. Our time includes
rebuilding the lists as often as the motion needs. ``OMP_NUM_THREADS`` sets the threads of all of them.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.units import Bohr

from mace_ft_bench.calculators.d3.parameters import damping_parameters
from mace_ft_bench.calculators.d3.reference import TorchEngine
from mace_ft_bench.calculators.dispersion import D3Calculator, D3Settings
from mace_ft_bench.errors import MissingDependencyError
from mace_ft_bench.timing.interleaved import time_in_turns
from mace_ft_bench.timing.serving import OURS, Comparison
from mace_ft_bench.timing.systems import graphene_with_water

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ase import Atoms
    from ase.calculators.calculator import Calculator

PEER = "s-dftd3"
SETTINGS = D3Settings("pbe", cutoff=40 * Bohr, cn_cutoff=40 * Bohr)
DISPLACEMENT = 0.01
"""Displacement per step [Angstrom] and direction; that of water at 300 K and 1 fs."""
TORCH_UP_TO = 1500
"""Most atoms for torch-dftd on a processor: at 1038 it takes seconds a step and 5 GB."""


def ours(settings: D3Settings) -> Calculator:
    """Return our default."""
    return D3Calculator.from_settings(settings)


def s_dftd3(settings: D3Settings) -> Calculator:
    """Return s-dftd3 at our cutoffs; its defaults differ.

    Raises
    ------
    MissingDependencyError
        If s-dftd3 is not installed.
    """
    refuse_without_peer()
    from dftd3.ase import DFTD3  # noqa: PLC0415 - not installed everywhere

    values = damping_parameters(settings)
    tweaks = {"s6": values["s6"], "s8": values["s18"], "a1": values["rs6"], "a2": values["rs18"], "s9": 0.0}
    cutoffs = {"disp2": settings.cutoff, "disp3": settings.cn_cutoff, "cn": settings.cn_cutoff}
    calculator: Calculator = DFTD3(damping="d3bj", params_tweaks=tweaks, realspace_cutoff=cutoffs)
    return calculator


def refuse_without_peer() -> None:
    """Raise :class:`MissingDependencyError` if s-dftd3 is not installed."""
    if find_spec("dftd3") is None:
        raise MissingDependencyError(
            "s-dftd3, the peer of our D3, is not installed.", fix="pip install dftd3, or leave this comparison out."
        )


def torch_dftd(dtype: str) -> Any:  # noqa: ANN401 - a function of the settings
    """Return a maker of torch-dftd over our neighbour list (its own takes longer than the sum)."""

    def make(settings: D3Settings) -> Calculator:
        calculator = D3Calculator.from_settings(settings)
        calculator._engine = TorchEngine(settings, "cpu", dtype)  # noqa: SLF001 - the dtype is no option
        calculator.implemented_properties = ["energy", "forces", "stress"]
        return calculator

    return make


CALCULATORS: dict[str, Callable[[D3Settings], Calculator]] = {
    OURS: ours,
    PEER: s_dftd3,
    "torch-dftd-float32": torch_dftd("float32"),
    "torch-dftd-float64": torch_dftd("float64"),
}


def step(atoms: Atoms, rng: np.random.Generator) -> None:
    """Move all atoms and evaluate everything."""
    atoms.positions += rng.normal(0, DISPLACEMENT, atoms.positions.shape)
    atoms.get_forces()
    atoms.get_stress()


def steps_beside_peers(sizes: Sequence[int], rounds: int) -> list[Comparison]:
    """Compare our step with that of s-dftd3, and of torch-dftd up to its size, for graphene and water.

    Raises
    ------
    MissingDependencyError
        If s-dftd3 is not installed.
    """
    refuse_without_peer()
    found = []
    for size in sizes:
        atoms = graphene_with_water(size)
        names = [name for name in CALCULATORS if size <= TORCH_UP_TO or not name.startswith("torch")]
        copies = {name: _with(atoms, CALCULATORS[name](SETTINGS)) for name in names}
        difference = float(np.abs(copies[OURS].get_forces() - copies[PEER].get_forces()).max())
        times = time_in_turns({name: _walk(copy) for name, copy in copies.items()}, rounds=rounds)
        found.append(Comparison("D3 step", len(atoms), times, PEER, OURS, difference))
    return found


def _walk(atoms: Atoms) -> Callable[[], None]:
    rng = np.random.default_rng(0)
    return lambda: step(atoms, rng)


def _with(atoms: Atoms, calculator: Calculator) -> Atoms:
    copy: Atoms = atoms.copy()
    copy.calc = calculator
    return copy
