"""Molecular dynamics to be timed: a model, how it is served, the steps; and the memory of one such run by itself."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mace_ft_bench.calculators.factory import get_calculator
from mace_ft_bench.timing.steps import Thermostat, langevin_steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from ase import Atoms
    from ase.calculators.calculator import Calculator

OWN_DTYPE = "own"
"""Of a model that has one dtype."""
_STATUS = Path("/proc/self/status")
_MEMORY_STEPS = 2
"""Steps after which a run takes the memory that it goes on taking."""


@dataclass(frozen=True)
class Configuration:
    """One way to serve a model."""

    model: str
    """Name or path."""
    accelerate: str
    dispersion: str
    """``off``, ``on`` for the functional that the model's card names, or a functional."""
    dtype: str
    device: str
    head: str | None = None
    trust: bool = False

    def calculator(self) -> Calculator:
        """Return a new calculator; errors are those of :func:`mace_ft_bench.calculators.factory.get_calculator`."""
        dispersion: str | bool = {"off": False, "on": True}.get(self.dispersion, self.dispersion)
        return get_calculator(
            self.model,
            device=self.device,
            dtype=None if self.dtype == OWN_DTYPE else self.dtype,
            head=self.head,
            accelerate=self.accelerate,
            dispersion=dispersion,
            trust=self.trust,
        )


@dataclass(frozen=True)
class Protocol:
    """What is timed."""

    thermostat: Thermostat = field(default_factory=Thermostat)
    steps: int = 20
    """Steps of one sample."""

    def of(self, atoms: Atoms, calculator: Calculator) -> Callable[[], None]:
        """Return a function that runs the steps, each call further along one trajectory."""
        return langevin_steps(atoms, calculator, self.thermostat, steps=self.steps)


def peak_memory_mb(atoms: Atoms, configuration: Configuration, protocol: Protocol) -> float | None:
    """Return the most memory that dynamics take in a process that does nothing else [MB]; None where it is unknown.

    On a GPU it is what torch has allocated there. On a processor it is the resident memory of the process, Python and
    libraries included, which Linux alone tells without mixing in that of the parent.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as executor:
        return executor.submit(_measured, atoms, configuration, protocol).result()


def _measured(atoms: Atoms, configuration: Configuration, protocol: Protocol) -> float | None:
    Protocol(protocol.thermostat, _MEMORY_STEPS).of(atoms, configuration.calculator())()
    if configuration.device.startswith("cuda"):
        import torch  # noqa: PLC0415 - slow to import

        return torch.cuda.max_memory_allocated() / 1e6
    return resident_peak_mb()


def resident_peak_mb() -> float | None:
    """Return the most resident memory of this process so far [MB]; None where the system does not tell."""
    if not _STATUS.is_file():
        return None
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    kilobytes = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
    return None if kilobytes is None else 1.024e-3 * kilobytes
