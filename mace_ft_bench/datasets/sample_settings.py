"""What is sampled: the ensemble, its temperatures one after another, and how long each takes."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from mace_ft_bench.datasets.perturb import pair_minima
from mace_ft_bench.errors import CardError, UnknownNameError, suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping

Ensemble = Literal["nvt", "npt", "swap"]


@dataclass(frozen=True)
class SampleSettings:
    """How a structure is sampled."""

    ensemble: Ensemble = "nvt"
    """``nvt``, ``npt`` (isotropic), or ``swap`` (Monte Carlo swaps at fixed positions)."""
    temperatures_k: tuple[float, ...] = (300.0,)
    """Temperatures, visited one after another [K]."""
    ramp: bool = False
    """Change the temperature linearly from each to the next, instead of staying at each."""
    equilibration: int = 1000
    """Steps (or trial swaps) before frames are taken: at every temperature, or at the first of a ramp."""
    production: int = 5000
    """Steps (or trial swaps) from which frames are taken, at every temperature or on every ramp."""
    frames: int | None = None
    """Largest number of frames per temperature or ramp; by default as many as are uncorrelated."""
    spacing: int | None = None
    """Steps between frames; by default from the autocorrelation time of the energy."""
    interval: int = 10
    """Steps between candidates for frames where the spacing is estimated, and between checks of distances."""
    timestep_fs: float = 1.0
    friction_per_fs: float = 0.01
    """Friction of the thermostat."""
    pressure_gpa: float = 0.0
    barostat_fs: float = 1000.0
    """Time constant of the barostat."""
    explosion_factor: float = 3.0
    """The run ends when the temperature exceeds this many times the target (more in small systems, by their natural
    fluctuations)."""
    min_distances: Mapping[str, float] = field(default_factory=dict)
    """Distances below which the run ends, by pair of elements [Angstrom], ``{"Mo-Mo": 1.8}``."""
    min_distance_factor: float = 0.5
    """The same for other pairs, in sums of covalent radii."""
    seed: int = 0
    checkpoint_every: int = 1000
    """Steps between checkpoints."""
    config_type: str = ""
    """Group of the frames; by default ensemble and temperature, ``nvt-300K``, or ends of a ramp, ``nvt-300-900K``."""

    def __post_init__(self) -> None:
        if self.ensemble not in get_args(Ensemble):
            raise UnknownNameError(
                f'No ensemble is called "{self.ensemble}".', fix=suggestion(self.ensemble, get_args(Ensemble))
            )
        for temperature in self.temperatures_k:
            _require(0 < temperature < math.inf, f"A temperature of {temperature} K", "a positive number")
        fewest = 2 if self.ramp else 1
        _require(
            len(self.temperatures_k) >= fewest,
            f"A list of {len(self.temperatures_k)} temperatures",
            f"{fewest} or more",
        )
        _require(math.isfinite(self.pressure_gpa), f"A pressure of {self.pressure_gpa} GPa", "a finite number")
        _require(self.explosion_factor > 1, f"explosion_factor = {self.explosion_factor}", "above 1")
        _require(self.min_distance_factor >= 0, f"min_distance_factor = {self.min_distance_factor}", "0 or more")
        for name in ("timestep_fs", "friction_per_fs", "barostat_fs"):
            _require(0 < getattr(self, name) < math.inf, f"{name} = {getattr(self, name)}", "a positive number")
        for name, lowest in (("production", 1), ("equilibration", 0), ("interval", 1), ("checkpoint_every", 1)):
            _require(getattr(self, name) >= lowest, f"{name} = {getattr(self, name)}", f"{lowest} or more")
        for name in ("frames", "spacing"):
            _require(
                getattr(self, name) is None or getattr(self, name) >= 1, f"{name} = {getattr(self, name)}", "1 or more"
            )
        shortest = self.spacing or self.interval
        _require(self.production >= shortest, f"A production of {self.production} steps", f"{shortest} or more")
        _require(self.seed >= 0, f"seed = {self.seed}", "0 or more")
        pair_minima(np.array([], dtype=int), self.min_distances, self.min_distance_factor)

    @property
    def stages(self) -> list[Stage]:
        """Temperatures and ramps, in order."""
        temperatures = self.temperatures_k
        if self.ramp:
            pairs = itertools.pairwise(temperatures)
            return [
                Stage(number, low, high, self.equilibration if number == 0 else 0, self.production)
                for number, (low, high) in enumerate(pairs)
            ]
        return [Stage(number, one, one, self.equilibration, self.production) for number, one in enumerate(temperatures)]


def _require(holds: bool, what: str, rule: str) -> None:
    if not holds:  # also of nan, which no comparison holds for
        raise CardError(f"{what} makes no sense.", fix=f"it has to be {rule}.")


@dataclass(frozen=True)
class Stage:
    """One temperature, or one ramp between two."""

    number: int
    start_k: float
    end_k: float
    equilibration: int
    production: int

    @property
    def steps(self) -> int:
        """All steps."""
        return self.equilibration + self.production

    @property
    def label(self) -> str:
        """Temperature, or the two ends, for the group of the frames."""
        ends = dict.fromkeys((f"{self.start_k:g}", f"{self.end_k:g}"))
        return f"{'-'.join(ends)}K"

    def temperature_k(self, step: int) -> float:
        """Return the target at a step of the stage, from 0."""
        share = max(step - self.equilibration, 0) / self.production
        return self.start_k + (self.end_k - self.start_k) * share
