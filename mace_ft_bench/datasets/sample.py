"""Sample structures with any ASE calculator: molecular dynamics (NVT, NPT) or Monte Carlo swaps of unlike atoms.

Dynamics are ASE's ``LangevinBAOAB`` (doi 10.1063/1.4802990), whose averages over positions are accurate to higher order
in the timestep than those of its ``Langevin``, and whose Langevin barostat (doi 10.1063/1.1755657) samples NPT; all its
state is a few arrays, so that a run can be continued from a file. The barostat scales the cell and keeps its shape.
Swaps keep the positions and exchange two unlike atoms, accepted by Metropolis (doi 10.1063/1.1699114).

Frames are taken so far apart that their energies are uncorrelated: the integrated autocorrelation time of the potential
energy is estimated from the run itself. A run that explodes ends, and keeps what came before.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from ase.constraints import FixAtoms

from mace_ft_bench.atomic import replacing
from mace_ft_bench.datasets.correlation import autocorrelation_time
from mace_ft_bench.datasets.frames import CONFIG_TYPE
from mace_ft_bench.datasets.perturb import bare, pair_minima, refuse_closer, refuse_unusable
from mace_ft_bench.datasets.walkers import Dynamics, ExplodedError, Swaps, Walker
from mace_ft_bench.errors import CardError, DataError, StructureError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from mace_ft_bench.datasets.sample_settings import SampleSettings, Stage

_SHORTEST_TRACE = 20
"""Autocorrelation times below which a trace says little about its own autocorrelation time."""
_FLUCTUATION = 5.0
"""Standard deviations of the temperature of a system that is not exploding."""
_TEMPERATURE_TOLERANCE = 0.05
_ERRORS = 4.0
"""Share of the target, and standard errors, by which a mean kinetic temperature may differ from it."""
_ENERGY_TOLERANCE = 1e-4
"""Difference [eV/atom] of the energy of the first structure above which a checkpoint is another calculator's."""


@dataclass(frozen=True)
class StageReport:
    """What one temperature or ramp gave."""

    temperature_k: float
    """Mean target [K]."""
    kinetic_temperature_k: float
    """Mean kinetic temperature over the production [K]; nan for swaps."""
    is_thermal: bool
    """Whether that is the target, to 5 % and four standard errors; it is not if the timestep is too long, or the
    equilibration too short."""
    energy_ev: float
    """Mean potential energy over the production [eV]."""
    correlation_steps: float
    """Integrated autocorrelation time of the potential energy (1 for uncorrelated steps)."""
    is_long_enough: bool
    """Whether the production is long beside that time."""
    spacing: int
    """Steps between frames."""
    frames: int
    acceptance: float
    """Share of swaps accepted in the run so far; nan for dynamics."""


@dataclass(frozen=True)
class Sampling:
    """Frames, and how they came about."""

    frames: tuple[Atoms, ...]
    """Bare frames with ``sample_ensemble``, ``sample_temperature`` [K], ``sample_step`` (from the start of the run),
    ``sample_energy`` (of the calculator, no label) [eV], ``sample_seed`` and ``config_type`` in ``info``."""
    stages: tuple[StageReport, ...]
    stopped: str
    """Why the run ended early; empty if it did not."""


@dataclass(frozen=True)
class Progress:
    """Where a run is."""

    stage: int
    stages: int
    step: int
    """Of the whole run."""
    steps: int
    target_k: float
    temperature_k: float
    """Kinetic; nan for swaps."""
    energy_ev: float


def sample(
    atoms: Atoms,
    calculator: Calculator,
    settings: SampleSettings,
    *,
    checkpoint: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Sampling:
    """Run dynamics or swaps and return uncorrelated frames.

    Parameters
    ----------
    atoms
        Where to start; not changed. Fixed atoms stay fixed in ``nvt``.
    calculator
        Any ASE calculator; ``npt`` needs its stress.
    settings
        What to run.
    checkpoint
        File that holds the state of the run every ``settings.checkpoint_every`` steps, replaced atomically. If it
        exists, the run goes on from it. Positions, velocities, barostat, random numbers and recorded frames are
        restored bit by bit, so the frames are those of an unbroken run if the calculator's forces depend on nothing
        but the structure. A calculator that keeps neighbour lists rounds differently after a restart; the continuation
        is then another one of the same ensemble. The file of a finished run returns its frames at once.
    on_progress
        Called every ``settings.interval`` steps.

    Raises
    ------
    StructureError
        If the structure cannot be sampled.
    DataError
        If the checkpoint is unreadable, or that of another structure, calculator or settings.
    CardError
        If the ensemble needs what the calculator or the structure does not have.
    """
    run = _Run(atoms, calculator, settings)
    if checkpoint is not None and checkpoint.exists():
        run.restore(checkpoint)
    while not run.is_finished:
        run.advance()
        if on_progress is not None and run.total % settings.interval == 0:
            on_progress(run.progress())
        if checkpoint is not None and (run.total % settings.checkpoint_every == 0 or run.is_finished):
            run.save(checkpoint)
    return run.result()


def _is_thermal(temperatures: np.ndarray, target: float) -> bool:
    error = temperatures.std() * math.sqrt(autocorrelation_time(temperatures) / len(temperatures))
    off = abs(float(temperatures.mean()) - target)
    return not off > _TEMPERATURE_TOLERANCE * target + _ERRORS * error  # true of swaps, whose temperature is nan


def _without_trend(values: np.ndarray) -> np.ndarray:
    times = np.arange(len(values)) - (len(values) - 1) / 2
    rest: np.ndarray = values - times * (times @ values) / max(times @ times, 1.0)
    return rest


@dataclass(frozen=True)
class _Snapshot:
    """A candidate for a frame."""

    stage: int
    step: int
    """Of the whole run."""
    energy: float
    positions: np.ndarray
    cell: np.ndarray


class _Run:
    """A run that can be stopped after every step and continued."""

    def __init__(self, atoms: Atoms, calculator: Calculator, settings: SampleSettings) -> None:
        self._settings = settings
        self._atoms = _prepared(atoms, calculator, settings)
        self._first = self._atoms.copy()
        self._minima = pair_minima(self._atoms.numbers, settings.min_distances, settings.min_distance_factor)
        refuse_closer(self._atoms, self._minima)
        self._generator = np.random.default_rng(settings.seed)
        kind: type[Swaps | Dynamics] = Swaps if settings.ensemble == "swap" else Dynamics
        self._walker: Walker = kind(self._atoms, settings, self._generator)
        self._first_energy = self._walker.energy
        if not math.isfinite(self._first_energy):
            raise StructureError("Its energy is not finite.", fix="look at the structure and at the calculator.")
        self._stages = settings.stages
        self._stage = self._step = self.total = 0
        self._energies: list[float] = []
        self._temperatures: list[float] = []
        self._candidates: list[_Snapshot] = []
        self._kept: list[_Snapshot] = []
        self._reports: list[StageReport] = []
        self._stopped = ""

    @property
    def is_finished(self) -> bool:
        return bool(self._stopped) or self._stage == len(self._stages)

    def advance(self) -> None:
        """Make one step; the last one of a stage chooses its frames."""
        stage = self._stages[self._stage]
        self._walker.set_temperature(stage.temperature_k(self._step))
        self._step += 1
        self.total += 1
        try:
            self._walker.step()
            self._check(stage)
        except (ExplodedError, StructureError) as error:
            reason = error.message if isinstance(error, StructureError) else str(error)
            self._stopped = f"step {self.total}, {stage.temperature_k(self._step - 1):g} K: {reason.rstrip('.')}"
        else:
            self._record(stage)
        if self._stopped or self._step == stage.steps:
            self._finish(stage)

    def _check(self, stage: Stage) -> None:
        if not math.isfinite(self._walker.energy):
            raise ExplodedError("the energy is not finite")
        hottest = max(stage.start_k, stage.end_k, self._stages[max(self._stage - 1, 0)].end_k)
        freedom = self._atoms.get_number_of_degrees_of_freedom()
        limit = self._settings.explosion_factor * hottest * (1 + _FLUCTUATION * math.sqrt(2 / freedom))
        found = self._walker.kinetic_temperature()
        if found > limit or not np.isfinite(self._atoms.positions).all():
            raise ExplodedError(f"the kinetic temperature is {found:.0f} K")
        if (self._step - stage.equilibration) % self._interval == 0:  # at every candidate, and as often before
            refuse_closer(self._atoms, self._minima)

    @property
    def _interval(self) -> int:
        return self._settings.spacing or self._settings.interval

    def _record(self, stage: Stage) -> None:
        made = self._step - stage.equilibration
        if made <= 0:
            return
        self._energies.append(self._walker.energy)
        self._temperatures.append(self._walker.kinetic_temperature())
        if made % self._interval == 0:
            positions, cell = self._atoms.positions.copy(), self._atoms.cell.array.copy()
            self._candidates.append(_Snapshot(stage.number, self.total, self._walker.energy, positions, cell))

    def _finish(self, stage: Stage) -> None:
        if self._energies:
            energies, target = np.array(self._energies), (stage.start_k + stage.end_k) / 2
            time = autocorrelation_time(energies if stage.start_k == stage.end_k else _without_trend(energies))
            every = 1 if self._settings.spacing else math.ceil(time / self._interval)
            chosen = _evenly(self._candidates[::every], self._settings.frames)
            self._kept += chosen
            self._reports.append(
                StageReport(
                    temperature_k=target,
                    kinetic_temperature_k=float(np.mean(self._temperatures)),
                    is_thermal=_is_thermal(np.array(self._temperatures), target),
                    energy_ev=float(energies.mean()),
                    correlation_steps=time,
                    is_long_enough=len(energies) >= _SHORTEST_TRACE * time,
                    spacing=every * self._interval,
                    frames=len(chosen),
                    acceptance=self._walker.acceptance,
                )
            )
        self._energies, self._temperatures, self._candidates = [], [], []
        self._stage, self._step = self._stage + 1, 0

    def progress(self) -> Progress:
        """Return where the run is."""
        stage = self._stages[min(self._stage, len(self._stages) - 1)]
        return Progress(
            stage=stage.number,
            stages=len(self._stages),
            step=self.total,
            steps=sum(one.steps for one in self._stages),
            target_k=stage.temperature_k(self._step),
            temperature_k=self._walker.kinetic_temperature(),
            energy_ev=self._walker.energy,
        )

    def result(self) -> Sampling:
        """Return the frames so far."""
        return Sampling(tuple(map(self._frame, self._kept)), tuple(self._reports), self._stopped)

    def _frame(self, snapshot: _Snapshot) -> Atoms:
        frame = bare(self._first)
        frame.set_cell(snapshot.cell)
        frame.positions = snapshot.positions
        stage = self._stages[snapshot.stage]
        before = sum(one.steps for one in self._stages[: snapshot.stage])
        target = stage.temperature_k(snapshot.step - 1 - before)
        frame.info = {
            CONFIG_TYPE: self._settings.config_type or f"{self._settings.ensemble}-{stage.label}",
            "sample_ensemble": self._settings.ensemble,
            "sample_temperature": target,
            "sample_step": snapshot.step,
            "sample_energy": snapshot.energy,
            "sample_seed": self._settings.seed,
        }
        return frame

    def save(self, path: Path) -> None:
        """Write the state, atomically."""
        known = {
            "fingerprint": self._fingerprint(),
            "first_energy": self._first_energy,
            "at": [self._stage, self._step, self.total],
            "stopped": self._stopped,
            "reports": [asdict(report) for report in self._reports],
            "random": self._generator.bit_generator.state,
        }
        arrays = {
            "known": np.array(json.dumps(known)),
            "positions": self._atoms.positions,
            "cell": self._atoms.cell.array,
            "energies": np.array(self._energies),
            "temperatures": np.array(self._temperatures),
            **_packed("candidates", self._candidates, len(self._atoms)),
            **_packed("kept", self._kept, len(self._atoms)),
            **{f"walker_{name}": value for name, value in self._walker.state().items()},
        }
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    def restore(self, path: Path) -> None:
        """Go on from a file.

        Raises
        ------
        DataError
            If it is unreadable or that of another run.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = dict(file)
            known = json.loads(str(arrays["known"]))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise DataError(f"{path} is no checkpoint: {error!r}.", fix="delete it to start anew.") from error
        self._refuse_others(path, known)
        self._stage, self._step, self.total = known["at"]
        self._stopped = known["stopped"]
        self._reports = [StageReport(**report) for report in known["reports"]]
        self._generator.bit_generator.state = known["random"]
        self._atoms.set_cell(arrays["cell"])
        self._atoms.positions = arrays["positions"]
        self._energies, self._temperatures = arrays["energies"].tolist(), arrays["temperatures"].tolist()
        self._candidates, self._kept = _unpacked("candidates", arrays), _unpacked("kept", arrays)
        self._walker.restore({name.removeprefix("walker_"): value for name, value in arrays.items()})

    def _refuse_others(self, path: Path, known: Mapping[str, Any]) -> None:
        if known["fingerprint"] != self._fingerprint():
            what = "another structure or other settings"
        elif abs(known["first_energy"] - self._first_energy) > _ENERGY_TOLERANCE * len(self._atoms):
            what = "another calculator"
        else:
            return
        raise DataError(f"{path} is the checkpoint of {what}.", fix="delete it to start anew, or repeat that run.")

    def _fingerprint(self) -> str:
        settings = {key: value for key, value in asdict(self._settings).items() if key != "checkpoint_every"}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        start = self._first
        for array in (start.numbers, start.positions, start.cell.array, start.pbc, start.get_masses()):
            digest.update(np.ascontiguousarray(array).tobytes())
        for constraint in self._atoms.constraints:
            digest.update(np.sort(constraint.index).tobytes())
        return digest.hexdigest()


def _prepared(atoms: Atoms, calculator: Calculator, settings: SampleSettings) -> Atoms:
    """Return the structure to move, with its calculator."""
    refuse_unusable(atoms)
    moving = bare(atoms)
    if any(not isinstance(one, FixAtoms) for one in atoms.constraints) or (
        atoms.constraints and settings.ensemble != "nvt"
    ):
        raise StructureError(
            "It has constraints that this ensemble does not know.", fix="remove them; nvt knows FixAtoms."
        )
    moving.set_constraint(atoms.constraints)
    if moving.get_number_of_degrees_of_freedom() == 0:
        raise StructureError("All its atoms are fixed.", fix="free some of them.")
    if settings.ensemble == "npt":
        if not moving.pbc.all():
            raise StructureError("It is not periodic in three directions, as npt needs.", fix="use nvt.")
        if "stress" not in calculator.implemented_properties:
            raise CardError("The calculator has no stress, which npt needs.", fix="use nvt, or another calculator.")
    moving.calc = calculator
    return moving


def _evenly(snapshots: list[_Snapshot], count: int | None) -> list[_Snapshot]:
    if count is None or count >= len(snapshots):
        return snapshots
    return [snapshots[index] for index in np.linspace(0, len(snapshots) - 1, count).round().astype(int)]


def _packed(name: str, snapshots: list[_Snapshot], atoms: int) -> dict[str, np.ndarray]:
    return {
        f"{name}_numbers": np.array([(one.stage, one.step) for one in snapshots], dtype=int).reshape(-1, 2),
        f"{name}_energies": np.array([one.energy for one in snapshots], dtype=float),
        f"{name}_positions": np.array([one.positions for one in snapshots]).reshape(-1, atoms, 3),
        f"{name}_cells": np.array([one.cell for one in snapshots]).reshape(-1, 3, 3),
    }


def _unpacked(name: str, arrays: Mapping[str, np.ndarray]) -> list[_Snapshot]:
    columns = [arrays[f"{name}_{part}"] for part in ("numbers", "energies", "positions", "cells")]
    return [
        _Snapshot(int(stage), int(step), float(energy), positions, cell)
        for (stage, step), energy, positions, cell in zip(*columns, strict=True)
    ]
