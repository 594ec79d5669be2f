"""Time of one energy-and-forces call for supercells of growing size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_ft_bench.properties.base import Property
from mace_ft_bench.properties.checks import require, require_positive
from mace_ft_bench.timing.interleaved import time_in_turns
from mace_ft_bench.timing.steps import displaced_step
from mace_ft_bench.toml_schema import StrictTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms
    from ase.calculators.calculator import Calculator


@dataclass(frozen=True)
class Settings(StrictTable):
    """Settings of a timing."""

    repeats: tuple[int, ...] = (2, 4, 6)
    """Supercells n x n x n of the given cell."""
    samples: int = 5
    """Timed calls per supercell, after one that is not timed."""
    amplitude: float = 0.01
    """Standard deviation of the displacement of every atom from its site before every call [Angstrom]."""
    seed: int = 0
    """Seed of the displacements."""

    def __post_init__(self) -> None:
        require_positive(self, "samples", "amplitude")
        sensible = bool(self.repeats) and all(repeat > 0 for repeat in self.repeats)
        require(sensible, f"repeats = {self.repeats} names no supercell.", fix="use for example [2, 4, 6].")
        require(self.seed >= 0, f"seed = {self.seed} is negative.", fix="use 0.")


@dataclass(frozen=True)
class Result:
    """Times, one entry per supercell."""

    atoms: tuple[int, ...]
    """Number of atoms."""
    median_ms_per_step: tuple[float, ...]
    interquartile_ms_per_step: tuple[float, ...]
    """Third minus first quartile."""
    median_us_per_atom: tuple[float, ...]
    """Median time per step and atom."""


def compute(atoms: Atoms, calc: Calculator, settings: Settings) -> Result:
    """Time energy and forces of displaced supercells; every call sees new positions, so no cached result counts."""
    sizes = [len(atoms) * repeat**3 for repeat in settings.repeats]
    times = [_times_ms(atoms.repeat(repeat), calc, settings) for repeat in settings.repeats]
    quartiles = np.array([np.percentile(sample, [25, 50, 75]) for sample in times])
    return Result(
        atoms=tuple(sizes),
        median_ms_per_step=tuple(quartiles[:, 1].tolist()),
        interquartile_ms_per_step=tuple((quartiles[:, 2] - quartiles[:, 0]).tolist()),
        median_us_per_atom=tuple((1000 * quartiles[:, 1] / sizes).tolist()),
    )


def _times_ms(supercell: Atoms, calc: Calculator, settings: Settings) -> tuple[float, ...]:
    """Return ``samples`` times [ms]; the first call compiles, allocates and builds lists, and is dropped."""
    step = displaced_step(supercell, calc, amplitude=settings.amplitude, seed=settings.seed)
    return time_in_turns({"step": step}, rounds=settings.samples).samples["step"]


def compare(result: Result, reference: Mapping[str, Any]) -> dict[str, float]:  # noqa: ARG001 - the protocol's signature
    """Return nothing: a time has no reference."""
    return {}


PROPERTY = Property(
    name="throughput", version=1, settings=Settings, result=Result, compute=compute, compare=compare, timing=True
)
