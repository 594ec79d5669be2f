"""Molecular dynamics at constant temperature: whether a model holds a structure together, and what it looks like then.

Dynamics are ASE's ``LangevinBAOAB`` (doi 10.1063/1.4802990), as in :mod:`mace_ft_bench.datasets.walkers`. A trajectory
that comes apart ends and is reported as unstable. The temperature is that of the momenta half a step on, which the
scheme samples without error in a harmonic crystal; those at the steps lack (angular frequency * timestep)^2 / 4 of
their kinetic energy, 12 % in an O-H bond at 1 fs. Means over the trajectory have statistical errors, see
:mod:`mace_ft_bench.properties.trajectory_analysis`, which also says how structure and motion are measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from ase import units
from ase.constraints import FixAtoms
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.neighborlist import natural_cutoffs, neighbor_list

from mace_ft_bench.errors import DataError, StructureError, TooSlowError, UnstableError
from mace_ft_bench.properties import trajectory_analysis as analysis
from mace_ft_bench.properties.base import Property
from mace_ft_bench.properties.checks import require, require_crystal, require_finite, require_positive
from mace_ft_bench.toml_schema import StrictTable
from mace_ft_bench.units import MEV

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms
    from ase.calculators.calculator import Calculator

_EXPLODED = 10.0
"""Multiple of the target temperature at which a trajectory has come apart."""
_MOST_POINTS = 400
"""Points of a trace that a result keeps; each is the mean over its share of the steps."""
_STANDARD_ERRORS = 3.0
"""A mean temperature within so many of its standard errors is right; those of short trajectories are too small."""
_TIMED_STEPS = range(6, 16)
"""Steps whose fastest says how long a trajectory will take; those before compile and build the first lists."""
_AXES = {"a": 0, "b": 1, "c": 2}


@dataclass(frozen=True)
class ProfileSettings(StrictTable):
    """Settings of a density profile."""

    species: str
    """Element that is counted."""
    above: str
    """Element whose mean plane is at zero."""
    axis: Literal["a", "b", "c"] = "c"
    """Cell vector that leads out of the plane."""


@dataclass(frozen=True)
class BondSettings(StrictTable):
    """Settings of a count of bonds."""

    pair: tuple[str, str]
    """Two elements."""
    length: float
    """Distance up to which they are bonded [Angstrom]; leave room for vibrations."""

    def __post_init__(self) -> None:
        require_positive(self, "length")


@dataclass(frozen=True)
class Settings(StrictTable):
    """Settings of a trajectory at constant temperature and volume."""

    repeat: tuple[int, int, int] = (1, 1, 1)
    """Supercell of the structure."""
    temperature: float = 300.0
    """Temperature of the thermostat and of the first velocities [K]."""
    timestep: float = 1.0
    """Timestep [fs]: 0.5 to 1 where there is hydrogen, 2 where the lightest element is lithium or heavier."""
    equilibration_ps: float = 1.0
    """Time before anything is measured [ps]; may be zero."""
    production_ps: float = 5.0
    """Time that is measured [ps]."""
    friction_per_fs: float = 0.01
    """Friction of the thermostat [1/fs]; it slows diffusion of light atoms down, so take less there."""
    interval: int = 10
    """Steps between the frames that are analysed, and between checks of distances."""
    fixed: tuple[str, ...] = ()
    """Elements that are held where they are."""
    closest: float = 0.5
    """Distance, in sums of covalent radii, below which two atoms have collapsed."""
    longest_s: float | None = None
    """Wall time that the trajectory may be expected to take [s]; by default any. It is estimated from the first steps,
    so that a slow model costs seconds. The trajectory itself is as long for all models."""
    seed: int = 0
    """Seed of the velocities and of the thermostat."""
    rdf: tuple[str, str] | None = None
    """Elements of a radial distribution function; with a profile, relative to an ideal gas of that profile."""
    rdf_reach: float = 8.0
    """Its largest distance [Angstrom]; half of the smallest height of the cell at most."""
    profile: ProfileSettings | None = None
    """Density profile."""
    diffusing: str | None = None
    """Element whose diffusion coefficient is computed; the mean-square displacements are those of all elements."""
    bonds: BondSettings | None = None
    """Bonds of the start that are looked for again."""

    def __post_init__(self) -> None:
        require_positive(self, "temperature", "timestep", "production_ps", "friction_per_fs", "interval")
        require_positive(self, "closest", "rdf_reach")
        require(min(self.repeat) > 0, f"repeat = {self.repeat} is not positive.", fix="give a supercell, as [2, 2, 2].")
        if self.longest_s is not None:
            require_positive(self, "longest_s")
        require(self.seed >= 0, f"seed = {self.seed} is negative.", fix="use 0.")
        require(self.equilibration_ps >= 0, "equilibration_ps is negative.", fix="use 0 for none.")
        frames = self.steps_of(self.production_ps) // self.interval
        require(frames > 1, f"production_ps = {self.production_ps} has {frames} frames.", fix="lengthen it.")

    def steps_of(self, time_ps: float) -> int:
        """Return the number of steps of a time."""
        return round(1000 * time_ps / self.timestep)


@dataclass(frozen=True)
class Result:
    """A trajectory, and what was asked of it; None and empty where it was not."""

    atoms: int
    target_temperature_k: float
    """That of the thermostat."""
    mean_temperature_k: float
    """Mean kinetic temperature of the production."""
    temperature_error_k: float
    """Standard error of that mean, from blocks."""
    profile_first_peak_nm: float | None
    """Distance of the first maximum of the density profile from the plane."""
    rdf_first_peak_angstrom: float | None
    rdf_first_peak_height: float | None
    diffusion_cm2_per_s: float | None
    diffusion_error_cm2_per_s: float | None
    """Standard error over the atoms."""
    bonds_kept_percent: float | None
    """Share of the bonds of the start, on average over the production."""
    equilibration_ps: float
    """Where the production begins in the traces."""
    time_ps: tuple[float, ...]
    """Of the traces, from the start of the equilibration."""
    temperature_k: tuple[float, ...]
    potential_energy_mev_per_atom: tuple[float, ...]
    """Above that of the start."""
    rdf_r_angstrom: tuple[float, ...]
    rdf: tuple[float, ...]
    profile_height_angstrom: tuple[float, ...]
    profile_per_angstrom3: tuple[float, ...]
    msd_time_ps: tuple[float, ...]
    msd_angstrom2: dict[str, tuple[float, ...]]
    """Mean-square displacement by element; without the motion of the centre of mass, unless atoms are held."""


@dataclass(frozen=True)
class _Trajectory:
    """What is kept of a run."""

    temperatures: np.ndarray
    """Of every step [K]."""
    energies: np.ndarray
    """Potential energies of every step, from that of the start on [eV]."""
    frames: list[Atoms]
    """Of the production, unwrapped."""


def compute(atoms: Atoms, calc: Calculator, settings: Settings) -> Result:
    """Run molecular dynamics and analyse it.

    Raises
    ------
    UnstableError
        If the temperature exceeds ten times the target, two atoms collapse, or a number is not finite.
    TooSlowError
        If the first steps promise more than ``longest_s``.
    StructureError
        If an element that the settings name is not there, the structure is not periodic, or nothing can move.
    """
    start = _prepared(atoms, settings)
    run = _run(start.copy(), calc, settings)
    production = run.temperatures[settings.steps_of(settings.equilibration_ps) :]
    time = np.arange(len(run.temperatures)) * settings.timestep / 1000
    energies = (run.energies - run.energies[0]) / len(start) * MEV
    return Result(
        atoms=len(start),
        target_temperature_k=settings.temperature,
        mean_temperature_k=float(production.mean()),
        temperature_error_k=analysis.block_error(production),
        equilibration_ps=settings.equilibration_ps,
        time_ps=_thinned(time),
        temperature_k=_thinned(run.temperatures),
        potential_energy_mev_per_atom=_thinned(energies),
        **_structure(run.frames, start, settings),
        **_motion(run.frames, settings),
    )


def _prepared(atoms: Atoms, settings: Settings) -> Atoms:
    require_crystal(atoms, "A trajectory that is analysed")
    start: Atoms = atoms.repeat(settings.repeat)
    profile = (settings.profile.species, settings.profile.above) if settings.profile else ()
    bonds = settings.bonds.pair if settings.bonds else ()
    diffusing = (settings.diffusing,) if settings.diffusing else ()
    for symbol in (*settings.fixed, *(settings.rdf or ()), *profile, *bonds, *diffusing):
        analysis.require_species(start, symbol)
    held = np.isin(start.symbols, settings.fixed)
    if np.count_nonzero(~held) < (1 if held.any() else 2):
        raise StructureError("Nothing can move.", fix="enlarge repeat, or hold fewer elements.")
    _rehearse(start, settings)
    start.set_constraint(FixAtoms(mask=held) if held.any() else None)
    return start


def _rehearse(start: Atoms, settings: Settings) -> None:
    """Analyse atoms at rest: what cannot be analysed is refused before the trajectory, not after it."""
    if settings.bonds is not None:
        analysis.bonds_kept([start], settings.bonds.pair, length=settings.bonds.length, start=start)
    if settings.diffusing is not None:
        frames = settings.steps_of(settings.production_ps) // settings.interval + 1
        rest = np.zeros((frames, int(np.count_nonzero(start.symbols == settings.diffusing)), 3))
        analysis.diffusion_coefficient(*analysis.mean_square_displacement(rest, 1.0))


def _run(moving: Atoms, calc: Calculator, settings: Settings) -> _Trajectory:
    moving.calc = calc
    generator = np.random.default_rng(settings.seed)
    thermalize_momenta(moving, settings.temperature, exact_temperature=True, rng=generator)
    if not moving.constraints:
        Stationary(moving)
    dynamics = LangevinBAOAB(
        moving,
        settings.timestep * units.fs,
        temperature_K=settings.temperature,
        T_tau=units.fs / settings.friction_per_fs,
        rng=generator,
    )
    before = settings.steps_of(settings.equilibration_ps)
    last = before + settings.steps_of(settings.production_ps)
    energies, temperatures, frames = [], [], []
    fastest = math.inf
    for step in range(last + 1):
        began = perf_counter()
        if step:
            dynamics.step()
        if step in _TIMED_STEPS:
            fastest = min(fastest, perf_counter() - began)
        if step == _TIMED_STEPS.stop:
            _check_time(fastest, last, settings)
        energies.append(float(moving.get_potential_energy()))
        temperatures.append(_temperature(moving, settings.timestep * units.fs))
        _check_energy(energies[-1], moving.get_temperature(), step, settings)
        if step % settings.interval == 0:
            _check_distances(moving, step, settings)
            if step >= before:
                frames.append(_bare(moving))
    return _Trajectory(np.array(temperatures), np.array(energies), frames)


def _check_time(step_s: float, steps: int, settings: Settings) -> None:
    expected = step_s * steps
    if settings.longest_s is not None and expected > settings.longest_s:
        raise TooSlowError(
            f"A step takes {1000 * step_s:.0f} ms here, so {steps} of them {expected:.0f} s; this mode allows "
            f"{settings.longest_s:g} s.",
            fix="run the case in another mode, such as --mode standard, or on a faster device.",
        )


def _temperature(atoms: Atoms, timestep: float) -> float:
    """Return the temperature of the momenta half a step on [K]; their variance in a harmonic well is exactly m k T."""
    momenta = atoms.get_momenta() + timestep / 2 * atoms.get_forces()
    kinetic = 0.5 * np.sum(momenta**2 / atoms.get_masses()[:, None])
    return float(2 * kinetic / (atoms.get_number_of_degrees_of_freedom() * units.kB))


def _bare(atoms: Atoms) -> Atoms:
    frame: Atoms = atoms.copy()
    frame.set_constraint()
    return frame


def _check_energy(energy: float, temperature: float, step: int, settings: Settings) -> None:
    require_finite([energy, temperature], f"an energy or a force, at {step * settings.timestep:g} fs,")
    if temperature > _EXPLODED * settings.temperature:
        raise UnstableError(
            f"The trajectory came apart after {step * settings.timestep:g} fs: {temperature:.0f} K, "
            f"the thermostat is at {settings.temperature:g} K.",
            fix="check that the structure lies within the model's range; lower timestep if atoms are light.",
        )


def _check_distances(atoms: Atoms, step: int, settings: Settings) -> None:
    i, j, distance = neighbor_list("ijd", atoms, natural_cutoffs(atoms, mult=settings.closest))
    if len(distance):
        worst = int(np.argmin(distance))
        raise UnstableError(
            f"Atoms collapsed after {step * settings.timestep:g} fs: {atoms.symbols[i[worst]]} and "
            f"{atoms.symbols[j[worst]]} are {distance[worst]:.2f} Angstrom apart.",
            fix="check that the start has no overlapping atoms and lies within the model's range.",
        )


def _structure(frames: list[Atoms], start: Atoms, settings: Settings) -> dict[str, Any]:
    r = g = height = density = np.array([])
    rdf_peak = profile_peak = kept = None
    rdf_height = None
    profile = settings.profile
    plane: dict[str, Any] = {} if profile is None else {"above": profile.above, "axis": _AXES[profile.axis]}
    if settings.rdf is not None:
        r, g = analysis.radial_distribution(frames, settings.rdf, reach=settings.rdf_reach, **plane)
        if g.any():
            rdf_peak, rdf_height = analysis.first_peak(r, g)
    if profile is not None:
        height, density = analysis.density_profile(frames, profile.species, **plane)
        profile_peak = analysis.first_peak(height, density)[0] / 10
    if settings.bonds is not None:
        kept = analysis.bonds_kept(frames, settings.bonds.pair, length=settings.bonds.length, start=start)
    return {
        "profile_first_peak_nm": profile_peak,
        "rdf_first_peak_angstrom": rdf_peak,
        "rdf_first_peak_height": rdf_height,
        "bonds_kept_percent": kept,
        "rdf_r_angstrom": tuple(r.tolist()),
        "rdf": tuple(g.tolist()),
        "profile_height_angstrom": tuple(height.tolist()),
        "profile_per_angstrom3": tuple(density.tolist()),
    }


def _motion(frames: list[Atoms], settings: Settings) -> dict[str, Any]:
    positions = np.array([frame.positions for frame in frames])
    if not settings.fixed:  # held atoms hold the frame of reference
        positions = analysis.without_drift(positions, frames[0].get_masses())
    lags, squares = analysis.mean_square_displacement(positions, settings.interval * settings.timestep / 1000)
    symbols = frames[0].symbols
    value = error = None
    if settings.diffusing is not None:
        value, error = analysis.diffusion_coefficient(lags, squares[:, symbols == settings.diffusing])
    return {
        "diffusion_cm2_per_s": value,
        "diffusion_error_cm2_per_s": error,
        "msd_time_ps": tuple(lags.tolist()),
        "msd_angstrom2": {
            str(symbol): tuple(squares[:, symbols == symbol].mean(axis=1).tolist()) for symbol in sorted(set(symbols))
        },
    }


def _thinned(values: np.ndarray) -> tuple[float, ...]:
    parts = np.array_split(values, min(len(values), _MOST_POINTS))
    return tuple(float(part.mean()) for part in parts)


def compare(result: Result, reference: Mapping[str, Any]) -> dict[str, float]:
    """Return signed errors.

    ``mean_temperature_k`` is what the mean is off the thermostat by beyond three standard errors, so that a short
    trajectory is not scored by its noise; ``bonds_kept_percent`` counts from 100, all bonds of the start. Peaks and
    diffusion are compared with the reference where it has them; where no pair of atoms lies within reach, there is no
    peak and no error of it, which scores zero.

    Raises
    ------
    DataError
        If the reference has a value that the settings did not ask for.
    """
    off = result.mean_temperature_k - result.target_temperature_k
    noise = _STANDARD_ERRORS * result.temperature_error_k
    errors = {"mean_temperature_k": math.copysign(abs(off) - noise, off) if abs(off) > noise else 0.0}
    if result.bonds_kept_percent is not None:
        errors["bonds_kept_percent"] = result.bonds_kept_percent - 100
    for name in ("profile_first_peak_nm", "rdf_first_peak_angstrom", "diffusion_cm2_per_s"):
        if name in reference:
            value = getattr(result, name)
            if value is None and name.startswith("rdf") and result.rdf_r_angstrom:
                continue
            if value is None:
                raise DataError(f"{name} was not computed.", fix="ask for it in [settings], or remove the reference.")
            errors[name] = value - reference[name]
    return errors


PROPERTY = Property(
    name="molecular_dynamics",
    version=2,
    settings=Settings,
    result=Result,
    compute=compute,
    compare=compare,
    single_precision=True,
)
