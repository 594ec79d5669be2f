"""How fast we serve a model on a processor: steps beside mace's own, accelerators, batches, growth with size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.build import bulk

from mace_ft_bench.calculators.factory import get_calculator
from mace_ft_bench.timing.interleaved import Times, time_in_turns
from mace_ft_bench.timing.scaling import PowerLaw, fit_power_law
from mace_ft_bench.timing.steps import displaced_step
from mace_ft_bench.timing.systems import molybdenum
from mace_ft_bench.torch_env import default_dtype, mace_environment
from mace_ft_bench.zoo import checkpoint
from mace_ft_bench.zoo.registry import find_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from ase.calculators.calculator import Calculator

OURS = "ours"
PEER = "MACECalculator"


@dataclass(frozen=True)
class Comparison:
    """Times of one task at one size."""

    task: str
    atoms: int
    times: Times
    slow: str
    """The way the ratio is taken of."""
    fast: str
    force_difference: float
    """Largest difference of the forces [eV/Angstrom]; 0 where there is nothing to compare."""

    @property
    def ratio(self) -> float:
        """How many times faster ``fast`` is than ``slow``."""
        return self.times.ratio(self.slow, self.fast)


def peer_calculator(model: str, dtype: str) -> Any:  # noqa: ANN401 - mace's calculator
    """Return mace's own ``MACECalculator`` of an embedded model; it would change torch's default dtype for good."""
    import torch  # noqa: PLC0415 - slow to import

    with mace_environment(), default_dtype(torch.get_default_dtype()):
        from mace.calculators import MACECalculator  # noqa: PLC0415 - slow to import

        weights = checkpoint.load_checkpoint(find_model(model).verified_path()).to(getattr(torch, dtype))
        return MACECalculator(models=[weights], device="cpu", default_dtype=dtype)


def steps_beside_mace(model: str, dtype: str, sizes: Sequence[int], rounds: int) -> list[Comparison]:
    """Compare a step of our calculator with one of mace's, the same model and dtype."""
    found = []
    for size in sizes:
        atoms = molybdenum(size)
        ours: Any = get_calculator(model, device="cpu", dtype=dtype)
        peer = peer_calculator(model, dtype)
        forces = [_forces(atoms, calculator) for calculator in (ours, peer)]
        ways = {OURS: displaced_step(atoms, ours), PEER: displaced_step(atoms, peer)}
        times = time_in_turns(ways, rounds=rounds)
        task = f"step, {dtype}, {ours.accelerator}"
        found.append(Comparison(task, len(atoms), times, PEER, OURS, float(np.abs(forces[0] - forces[1]).max())))
    return found


def auto_beside_best(model: str, dtype: str, sizes: Sequence[int], rounds: int) -> list[Comparison]:
    """Compare ``accelerate="auto"`` with every single accelerator; the ratio is of auto to the best of them.

    The best takes turns with auto alone: the threads of a slower one would still spin beside whichever comes next.
    """
    found = []
    for size in sizes:
        atoms = molybdenum(size)
        steps = {
            name: displaced_step(atoms, get_calculator(model, device="cpu", dtype=dtype, accelerate=name))
            for name in ("auto", "e3nn", "fused")
        }
        auto = steps.pop("auto")
        singles = time_in_turns(steps, rounds=3)
        best = min(steps, key=singles.median)
        times = time_in_turns({"auto": auto, best: steps[best]}, rounds=rounds)
        task = f"auto : best single ({best}), {dtype}"
        found.append(Comparison(task, len(atoms), Times(singles.samples | times.samples), "auto", best, 0.0))
    return found


def batches_beside_single(model: str, rounds: int, *, accelerate: str) -> Comparison:
    """Compare ``evaluate`` of 100 strained cells of 2 to 16 atoms with one call per cell."""
    frames = strained_cells(100)
    calculator: Any = get_calculator(model, device="cpu", accelerate=accelerate)

    def single() -> list[float]:
        energies = []
        for frame in frames:
            atoms = frame.copy()
            atoms.calc = calculator
            energies.append(atoms.get_potential_energy())
            atoms.get_forces()
            atoms.get_stress()
        return energies

    times = time_in_turns({"one by one": single, "evaluate": lambda: calculator.evaluate(frames)}, rounds=rounds)
    atoms = sum(len(frame) for frame in frames)
    return Comparison(f"100 cells, {calculator.accelerator}", atoms, times, "one by one", "evaluate", 0.0)


def strained_cells(count: int) -> list[Atoms]:
    """Return bcc cells of 2 to 16 atoms under random strains of up to 2 %."""
    rng = np.random.default_rng(0)
    cells = []
    for index in range(count):
        cell = bulk("Mo", "bcc", a=3.16, cubic=True) * ((1, 1, 1), (2, 1, 1), (2, 2, 1), (2, 2, 2))[index % 4]
        strain = rng.uniform(-0.02, 0.02, size=(3, 3))
        cell.set_cell(cell.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        cells.append(cell)
    return cells


@dataclass(frozen=True)
class Growth:
    """Step time of a model with D3 over the size of the system."""

    dtype: str
    atoms: tuple[int, ...]
    milliseconds: tuple[float, ...]
    law: PowerLaw | None
    """Fitted to the times; None for one size."""


def step_growth(model: str, sizes: Sequence[int], rounds: int, dtype: str = "float64") -> Growth:
    """Time a step of the model with D3 over bcc supercells."""
    atoms, times = [], []
    for size in sizes:
        supercell = molybdenum(size)
        calculator = get_calculator(model, device="cpu", dtype=dtype, dispersion="pbe")
        found = time_in_turns({OURS: displaced_step(supercell, calculator)}, rounds=rounds, warmup=2)
        atoms.append(len(supercell))
        times.append(found.median(OURS))
    return Growth(dtype, tuple(atoms), tuple(times), fit_power_law(atoms, times))


def _forces(atoms: Atoms, calculator: Calculator) -> np.ndarray:
    still = atoms.copy()
    still.calc = calculator
    forces: np.ndarray = still.get_forces()
    return forces
