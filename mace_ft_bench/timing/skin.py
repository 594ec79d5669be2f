"""Whether a neighbour list with a skin changes anything but the time: trajectories evaluated again with fresh lists."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from ase import units
from ase.md.nose_hoover_chain import IsotropicMTKNPT
from ase.md.velocitydistribution import thermalize_momenta

from mace_ft_bench.calculators.factory import get_calculator
from mace_ft_bench.calculators.graph import pair_table
from mace_ft_bench.calculators.neighbors import NeighborList, SkinSettings
from mace_ft_bench.timing.steps import Thermostat, langevin
from mace_ft_bench.timing.systems import molybdenum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from ase.md.md import MolecularDynamics

TEMPERATURE_K = 1200
Ensemble = Literal["NVT", "NPT"]


@dataclass(frozen=True)
class SkinCheck:
    """A trajectory run with a skin, against fresh lists."""

    ensemble: str
    atoms: int
    frames: int
    builds: int
    """Lists built during the trajectory."""
    energy_difference: float
    """Largest over the frames [eV/atom]."""
    force_difference: float
    """Largest component over the frames [eV/Angstrom]."""
    kept_ms: float
    """Time of all lists with the skin [ms]."""
    fresh_ms: float
    """Time of a fresh list for every frame [ms]."""

    @property
    def ratio(self) -> float:
        """How many times less time the lists take with the skin."""
        return self.fresh_ms / self.kept_ms


def check_skin(model: str, ensemble: Ensemble, *, atoms: int, steps: int) -> SkinCheck:
    """Run molecular dynamics with the default skin and evaluate every frame again with a fresh list."""
    moving = molybdenum(atoms)
    calculator: Any = get_calculator(model, device="cpu")
    moving.calc = calculator
    thermalize_momenta(moving, TEMPERATURE_K, rng=np.random.default_rng(0))
    frames: list[Atoms] = []
    energies: list[float] = []
    forces: list[np.ndarray] = []

    def keep() -> None:
        frames.append(moving.copy())
        energies.append(moving.get_potential_energy())
        forces.append(moving.get_forces().copy())

    dynamics = _dynamics(moving, ensemble)
    dynamics.attach(keep)
    dynamics.run(steps)
    again = calculator.evaluate(frames)
    return SkinCheck(
        ensemble=ensemble,
        atoms=len(moving),
        frames=len(frames),
        builds=calculator.neighbors.builds,
        energy_difference=max(abs(new["energy"] - old) for new, old in zip(again, energies, strict=True)) / len(moving),
        force_difference=max(float(np.abs(new["forces"] - old).max()) for new, old in zip(again, forces, strict=True)),
        kept_ms=_list_time_ms(frames, calculator.r_max, SkinSettings()),
        fresh_ms=_list_time_ms(frames, calculator.r_max, SkinSettings(skin=0)),
    )


def _dynamics(atoms: Atoms, ensemble: Ensemble) -> MolecularDynamics:
    if ensemble == "NVT":
        return langevin(atoms, Thermostat(TEMPERATURE_K, timestep_fs=2.0), seed=1)
    return IsotropicMTKNPT(
        atoms, 2 * units.fs, temperature_K=TEMPERATURE_K, pressure_au=0.0, tdamp=100 * units.fs, pdamp=500 * units.fs
    )


def _list_time_ms(frames: Sequence[Atoms], cutoff: float, settings: SkinSettings) -> float:
    """Return the time of what a calculator does for its pairs: the list, sorted when it is new."""
    search = NeighborList(cutoff, settings)
    before = None
    start = perf_counter()
    for frame in frames:
        candidates = search.candidates(frame)
        if candidates is not before:
            pair_table(candidates, len(frame))
            before = candidates
    return 1000 * (perf_counter() - start)
