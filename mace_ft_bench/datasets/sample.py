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
import itertools
import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args
from zipfile import BadZipFile

import numpy as np
from ase import Atoms, units
from ase.constraints import FixAtoms
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.velocitydistribution import thermalize_momenta

from mace_ft_bench.datasets.frames import CONFIG_TYPE
from mace_ft_bench.datasets.perturb import bare, pair_minima, refuse_closer, refuse_unusable
from mace_ft_bench.errors import CardError, DataError, StructureError, UnknownNameError, suggestion

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ase.calculators.calculator import Calculator

Ensemble = Literal["nvt", "npt", "swap"]

_WINDOW = 5.0
"""Autocorrelation times that the sum over the autocorrelation function covers (Sokal)."""
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


def autocorrelation_time(values: Sequence[float] | np.ndarray) -> float:
    """Return the integrated autocorrelation time 1 + 2 sum(rho) of a series, in its own steps; at least 1.

    The sum ends at the first lag that is five times the sum so far (Sokal, doi 10.1007/978-1-4899-0319-8_6). Values
    this far apart count as independent: the variance of the mean of n values is variance * time / n.
    """
    deviations = np.asarray(values, dtype=float) - np.mean(values)
    count = len(deviations)
    spectrum = np.abs(np.fft.rfft(deviations, 2 * count)) ** 2
    covariance = np.fft.irfft(spectrum)[:count]
    if covariance[0] <= 0 or np.ptp(values) <= 1e-12 * np.abs(values).max():
        return 1.0
    times = 2 * np.cumsum(covariance / covariance[0]) - 1
    wide = np.flatnonzero(np.arange(count) >= _WINDOW * times)
    return max(float(times[wide[0] if wide.size else -1]), 1.0)


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


class _ExplodedError(Exception):
    """The run cannot go on."""


class _Walker(Protocol):
    """What makes steps."""

    energy: float

    @property
    def acceptance(self) -> float: ...
    def set_temperature(self, kelvin: float) -> None: ...
    def step(self) -> None: ...
    def kinetic_temperature(self) -> float: ...
    def state(self) -> dict[str, np.ndarray]: ...
    def restore(self, state: Mapping[str, np.ndarray]) -> None: ...


class _Dynamics:
    """Langevin dynamics, at constant volume or pressure."""

    acceptance = math.nan

    def __init__(self, atoms: Atoms, settings: SampleSettings, generator: np.random.Generator) -> None:
        temperature = settings.temperatures_k[0]
        thermalize_momenta(atoms, temperature, rng=generator)
        barostat: dict[str, Any] = {}
        if settings.ensemble == "npt":
            tau = settings.barostat_fs * units.fs
            # The mass of Martyna, Tobias and Klein, doi 10.1063/1.467468.
            mass = 3 * (len(atoms) + 1) * units.kB * temperature * tau**2
            barostat = {"externalstress": -settings.pressure_gpa * units.GPa, "P_tau": tau, "P_mass": mass}
        self._atoms = atoms
        self._dynamics = LangevinBAOAB(
            atoms,
            settings.timestep_fs * units.fs,
            temperature_K=temperature,
            T_tau=units.fs / settings.friction_per_fs,
            hydrostatic=True,
            rng=generator,
            **barostat,
        )
        self._kept = ("accel", "p_eps", "force_eps") if barostat else ("accel",)
        self.energy = float(atoms.get_potential_energy())

    def set_temperature(self, kelvin: float) -> None:
        self._dynamics.set_temperature(kelvin)

    def step(self) -> None:
        self._dynamics.step()
        self.energy = float(self._atoms.get_potential_energy())
        if not np.isfinite(self._dynamics.accel).all():
            raise _ExplodedError("a force is not finite")

    def kinetic_temperature(self) -> float:
        return float(self._atoms.get_temperature())

    def state(self) -> dict[str, np.ndarray]:
        own = {name: np.asarray(getattr(self._dynamics, name)) for name in self._kept}
        return own | {"momenta": self._atoms.get_momenta()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._atoms.set_momenta(state["momenta"], apply_constraint=False)
        for name in self._kept:
            value = state[name]
            setattr(self._dynamics, name, float(value) if value.ndim == 0 else value)


class _Swaps:
    """Exchange two unlike atoms, chosen uniformly among the pairs of unlike atoms of a uniformly chosen first one.

    A swap and its reverse are proposed equally often, because the numbers of atoms of every element stay the same.
    """

    def __init__(self, atoms: Atoms, settings: SampleSettings, generator: np.random.Generator) -> None:
        if len(set(atoms.numbers.tolist())) == 1:
            raise CardError("There are no unlike atoms to swap.", fix='use the ensemble "nvt" or "npt".')
        self._atoms = atoms
        self._generator = generator
        self.set_temperature(settings.temperatures_k[0])
        self._tried = self._accepted = 0
        self.energy = float(atoms.get_potential_energy())

    @property
    def acceptance(self) -> float:
        return self._accepted / max(self._tried, 1)

    def set_temperature(self, kelvin: float) -> None:
        self._kt = units.kB * kelvin

    def step(self) -> None:
        first = int(self._generator.integers(len(self._atoms)))
        second = int(self._generator.choice(np.flatnonzero(self._atoms.numbers != self._atoms.numbers[first])))
        self._exchange(first, second)
        energy = float(self._atoms.get_potential_energy())
        self._tried += 1
        chance = math.exp(min((self.energy - energy) / self._kt, 0.0)) if math.isfinite(energy) else 1.0
        if self._generator.random() < chance:
            self.energy = energy  # also where it is not finite: the run must end there
            self._accepted += 1
        else:
            self._exchange(first, second)

    def _exchange(self, first: int, second: int) -> None:
        self._atoms.positions[[first, second]] = self._atoms.positions[[second, first]]

    def kinetic_temperature(self) -> float:
        return math.nan

    def state(self) -> dict[str, np.ndarray]:
        return {"counts": np.array([self._tried, self._accepted]), "energy_now": np.array(self.energy)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._tried, self._accepted = state["counts"].tolist()
        self.energy = float(state["energy_now"])


class _Run:
    """A run that can be stopped after every step and continued."""

    def __init__(self, atoms: Atoms, calculator: Calculator, settings: SampleSettings) -> None:
        self._settings = settings
        self._atoms = _prepared(atoms, calculator, settings)
        self._first = self._atoms.copy()
        self._minima = pair_minima(self._atoms.numbers, settings.min_distances, settings.min_distance_factor)
        refuse_closer(self._atoms, self._minima)
        self._generator = np.random.default_rng(settings.seed)
        kind: type[_Swaps | _Dynamics] = _Swaps if settings.ensemble == "swap" else _Dynamics
        self._walker: _Walker = kind(self._atoms, settings, self._generator)
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
        except (_ExplodedError, StructureError) as error:
            reason = error.message if isinstance(error, StructureError) else str(error)
            self._stopped = f"step {self.total}, {stage.temperature_k(self._step - 1):g} K: {reason.rstrip('.')}"
        else:
            self._record(stage)
        if self._stopped or self._step == stage.steps:
            self._finish(stage)

    def _check(self, stage: Stage) -> None:
        if not math.isfinite(self._walker.energy):
            raise _ExplodedError("the energy is not finite")
        hottest = max(stage.start_k, stage.end_k, self._stages[max(self._stage - 1, 0)].end_k)
        freedom = self._atoms.get_number_of_degrees_of_freedom()
        limit = self._settings.explosion_factor * hottest * (1 + _FLUCTUATION * math.sqrt(2 / freedom))
        found = self._walker.kinetic_temperature()
        if found > limit or not np.isfinite(self._atoms.positions).all():
            raise _ExplodedError(f"the kinetic temperature is {found:.0f} K")
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
        temporary = path.with_name(f".{path.name}.tmp")
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        temporary.replace(path)

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
