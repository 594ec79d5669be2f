"""Sampling: exact distributions of systems that can be solved, explosions, and runs that are broken off."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLength

from mace_ft_bench.datasets.correlation import autocorrelation_time
from mace_ft_bench.datasets.sample import sample
from mace_ft_bench.datasets.sample_settings import SampleSettings
from mace_ft_bench.errors import CardError, DataError, StructureError, UnknownNameError


class Fabricated(Calculator):
    """Energy, forces and stress of a function of the structure and the number of the call."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012 - as ASE declares it

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.calls = 0

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        energy, forces, stress = self.function(self.atoms, self.calls)
        self.results = {"energy": energy, "forces": forces, "stress": stress}


SPRING = 5.0


def einstein(lattice):
    """Return independent atoms on springs of 5 eV/Å²."""
    sites = lattice.positions.copy()

    def function(atoms, _):
        away = atoms.positions - sites
        return 0.5 * SPRING * (away**2).sum(), -SPRING * away, np.zeros(6)

    return Fabricated(function)


def copper(size=2):
    return bulk("Cu", cubic=True) * (size, size, size)


def traces():
    """Return a list of (temperature, energy), and what fills it."""
    found = []
    return found, lambda now: found.append((now.temperature_k, now.energy_ev))


def error_of_mean(values):
    return np.std(values) * math.sqrt(autocorrelation_time(values) / len(values))


def test_an_einstein_crystal_has_half_kt_per_degree_of_freedom():
    crystal = copper()
    options = SampleSettings(
        temperatures_k=(500.0,), timestep_fs=3, friction_per_fs=0.03, equilibration=300, production=6000, interval=1,
        min_distance_factor=0.0,
    )  # fmt: skip
    seen, note = traces()
    sampling = sample(crystal, einstein(crystal), options, on_progress=note)
    temperatures, energies = np.array(seen[300:]).T
    half_kt = 0.5 * units.kB * 500
    assert energies.mean() == pytest.approx(3 * 32 * half_kt, abs=4 * error_of_mean(energies))
    # the kinetic temperature of BAOAB is low by (omega dt)^2 / 4, here 0.2 %
    assert temperatures.mean() == pytest.approx(500, abs=4 * error_of_mean(temperatures) + 1.0)
    assert error_of_mean(energies) < 0.015 * energies.mean()
    (report,) = sampling.stages
    assert report.kinetic_temperature_k == pytest.approx(temperatures.mean())
    assert report.energy_ev == pytest.approx(energies.mean())
    assert energies.std() == pytest.approx(math.sqrt(3 * 32 / 2) * units.kB * 500, rel=0.1)  # the heat capacity
    away = np.array([frame.positions - crystal.positions for frame in sampling.frames])
    assert (away**2).mean() == pytest.approx(2 * half_kt / SPRING, rel=4 * math.sqrt(2 / away.size))


@pytest.mark.parametrize("friction", [0.03, 0.006])
def test_frames_are_uncorrelated_and_as_far_apart_as_theory_says(friction):
    crystal, timestep = copper(), 3.0
    options = SampleSettings(
        timestep_fs=timestep, friction_per_fs=friction, equilibration=500, production=6000, seed=2, interval=2,
        min_distance_factor=0.0,
    )  # fmt: skip
    sampling = sample(crystal, einstein(crystal), options)
    (report,) = sampling.stages
    # The energy of a damped oscillator is correlated like the square of its position.
    swing = math.sqrt(SPRING / crystal.get_masses()[0] * units.fs**2 - friction**2 / 4)
    times = np.arange(0, 5000, timestep)
    position = np.exp(-friction * times / 2) * (np.cos(swing * times) + friction / 2 / swing * np.sin(swing * times))
    assert report.correlation_steps == pytest.approx(2 * (position**2).sum() - 1, rel=0.4)  # of one trace
    steps = [frame.info["sample_step"] for frame in sampling.frames]
    assert set(np.diff(steps)) == {report.spacing}
    assert report.correlation_steps <= report.spacing < report.correlation_steps + 2
    assert report.is_long_enough
    assert autocorrelation_time([frame.info["sample_energy"] for frame in sampling.frames]) < 1.6


def test_emt_copper_keeps_its_temperature():
    crystal = copper()
    options = SampleSettings(
        temperatures_k=(300.0,), timestep_fs=4, friction_per_fs=0.02, equilibration=100, production=900
    )
    seen, note = traces()
    sampling = sample(crystal, EMT(), options, on_progress=note)
    temperatures = np.array(seen[10:]).T[0]
    assert temperatures.mean() == pytest.approx(300, abs=4 * error_of_mean(temperatures) + 5)
    assert error_of_mean(temperatures) < 15
    assert not sampling.stopped
    for frame in sampling.frames:
        again = frame.copy()
        again.calc = EMT()
        assert again.get_potential_energy() == pytest.approx(frame.info["sample_energy"], abs=1e-9)


def test_npt_samples_the_volume_of_an_ideal_gas_in_a_springy_box():
    # Independent atoms and E(V) = K (V - V0)^2 / (2 V0): the density of volumes is V^N exp(-(E(V) + P V) / kT).
    atoms, stiffness, rest, pressure, temperature = 20, 0.02, 1000.0, 0.5, 600.0
    gas = Atoms(f"Ar{atoms}", np.random.default_rng(0).uniform(0, 10, (atoms, 3)), cell=[10, 10, 10], pbc=True)

    def box(structure, _):
        volume = structure.get_volume()
        slope = stiffness * (volume - rest) / rest
        stress = np.array([slope] * 3 + [0.0] * 3)
        return 0.5 * slope * (volume - rest), np.zeros((atoms, 3)), stress

    grid = np.linspace(400, 1600, 20_001)
    exponents = atoms * np.log(grid) - (0.5 * stiffness * (grid - rest) ** 2 / rest + pressure * units.GPa * grid) / (
        units.kB * temperature
    )
    weights = np.exp(exponents - exponents.max())
    mean = np.average(grid, weights=weights)
    variance = np.average((grid - mean) ** 2, weights=weights)
    options = SampleSettings(
        "npt", (temperature,), timestep_fs=5, friction_per_fs=0.01, pressure_gpa=pressure, barostat_fs=200,
        equilibration=1000, production=24_000, spacing=10, min_distance_factor=0.0, config_type="gas",
    )  # fmt: skip
    sampling = sample(gas, Fabricated(box), options)
    volumes = np.array([frame.get_volume() for frame in sampling.frames])
    assert len(volumes) == 2400
    error = error_of_mean(volumes)
    assert error < 0.01 * mean
    assert abs(mean - rest) > 20 * error  # the test can tell the pressure
    assert volumes.mean() == pytest.approx(mean, abs=4 * error)
    assert volumes.var() == pytest.approx(variance, rel=0.15)
    assert sampling.stages[0].kinetic_temperature_k == pytest.approx(temperature, rel=0.03)
    assert sampling.frames[0].info["config_type"] == "gas"


def test_swaps_of_two_levels_have_the_ratio_of_boltzmann():
    gap, temperature, trials = 0.05, 400.0, 20_000
    pair = Atoms("CuAu", positions=[[0, 0, 0], [3, 0, 0]])
    field = Fabricated(lambda atoms, _: (gap * (atoms.positions[0, 0] > 1), np.zeros((2, 3)), np.zeros(6)))
    options = SampleSettings(
        "swap", (temperature,), equilibration=10, production=trials, spacing=1, min_distance_factor=0.0
    )
    sampling = sample(pair, field, options)
    high = np.array([frame.info["sample_energy"] > gap / 2 for frame in sampling.frames])
    weight = math.exp(-gap / (units.kB * temperature))
    expected = weight / (1 + weight)
    # Up with probability w, down with 1: the correlation falls by -w per step.
    error = math.sqrt(expected * (1 - expected) * (1 - weight) / (1 + weight) / trials)
    assert high.mean() == pytest.approx(expected, abs=4 * error)
    assert sampling.stages[0].acceptance == pytest.approx(2 * expected, abs=0.02)
    assert sampling.stages[0].is_thermal
    assert math.isnan(sampling.stages[0].kinetic_temperature_k)


def test_swaps_visit_every_arrangement_by_its_weight():
    sites = np.arange(5)[:, None] * [3.0, 0, 0]
    ternary = Atoms("Cu2Au2Pd", positions=sites)
    names = sorted(set(permutations(ternary.get_chemical_symbols())))
    levels = dict(zip(names, np.random.default_rng(1).uniform(0, 0.08, len(names)), strict=True))

    def arrangement(atoms):
        return tuple(atoms.symbols[index] for index in np.argsort(atoms.positions[:, 0]))

    table = Fabricated(lambda atoms, _: (levels[arrangement(atoms)], np.zeros((5, 3)), np.zeros(6)))
    options = SampleSettings(
        "swap", (500.0,), equilibration=100, production=40_000, spacing=15, min_distance_factor=0.0
    )
    frames = sample(ternary, table, options).frames
    assert len(names) == 30
    weights = np.array([math.exp(-levels[name] / (units.kB * 500)) for name in names])
    expected = len(frames) * weights / weights.sum()
    found = np.array([sum(arrangement(frame) == name for frame in frames) for name in names])
    chi_squared = ((found - expected) ** 2 / expected).sum()
    assert chi_squared < 29 + 4 * math.sqrt(2 * 29)
    assert expected.max() > 3 * expected.min()  # a flat distribution would fail
    np.testing.assert_array_equal(np.sort(frames[-1].positions, axis=0), sites)


def test_the_autocorrelation_time_of_a_known_series():
    generator, decay = np.random.default_rng(0), 0.9
    values = [0.0]
    for noise in generator.normal(size=100_000):
        values.append(decay * values[-1] + noise)
    assert autocorrelation_time(values) == pytest.approx((1 + decay) / (1 - decay), rel=0.1)
    assert autocorrelation_time(generator.normal(size=10_000)) == pytest.approx(1, abs=0.15)
    assert autocorrelation_time([2.0] * 50) == autocorrelation_time([1.0]) == 1
    assert autocorrelation_time([1.0, -1.0] * 50) == 1


def test_temperatures_follow_one_another_or_ramp():
    crystal = copper()
    settings = {
        "temperatures_k": (200.0, 600.0),
        "timestep_fs": 3,
        "equilibration": 200,
        "production": 600,
        "frames": 3,
    }
    listed = sample(crystal, einstein(crystal), SampleSettings(**settings, friction_per_fs=0.05))
    assert [frame.info["config_type"] for frame in listed.frames] == ["nvt-200K"] * 3 + ["nvt-600K"] * 3
    assert [report.kinetic_temperature_k for report in listed.stages] == pytest.approx([200, 600], rel=0.15)
    ramp = sample(crystal, einstein(crystal), SampleSettings(**settings, friction_per_fs=0.05, ramp=True))
    (report,) = ramp.stages
    assert report.kinetic_temperature_k == pytest.approx(400, rel=0.15)
    targets = [frame.info["sample_temperature"] for frame in ramp.frames]
    steps = [frame.info["sample_step"] for frame in ramp.frames]
    np.testing.assert_allclose(targets, [200 + 400 * (step - 1 - 200) / 600 for step in steps])
    assert targets[-1] > targets[0] + 200
    assert {frame.info["config_type"] for frame in ramp.frames} == {"nvt-200-600K"}
    down = sample(
        crystal, einstein(crystal), SampleSettings(temperatures_k=(3000.0, 100.0), production=20, equilibration=100)
    )
    assert not down.stopped  # the heat that is still in it is no explosion


def test_a_fixed_spacing_and_a_number_of_frames_are_kept_to():
    crystal = copper(1)
    fixed = sample(crystal, einstein(crystal), SampleSettings(equilibration=5, production=100, spacing=7))
    assert [frame.info["sample_step"] for frame in fixed.frames] == list(range(12, 105, 7))
    few = sample(crystal, einstein(crystal), SampleSettings(equilibration=5, production=100, spacing=7, frames=3))
    assert [frame.info["sample_step"] for frame in few.frames] == [12, 54, 103]
    one = sample(crystal, einstein(crystal), SampleSettings(equilibration=0, production=10, frames=1))
    assert len(one.frames) == 1


def test_a_timestep_that_is_too_long_is_seen_in_the_temperature():
    crystal = copper()
    thermal = [
        sample(
            crystal, einstein(crystal), SampleSettings(timestep_fs=step, friction_per_fs=0.1, min_distance_factor=0.0)
        )
        .stages[0]
        .is_thermal
        for step in (3, 40)
    ]
    assert thermal == [True, False]


def test_a_short_run_is_called_short():
    crystal = copper(1)
    (report,) = sample(crystal, einstein(crystal), SampleSettings(equilibration=0, production=50)).stages
    assert not report.is_long_enough


def test_frames_are_bare_and_the_start_is_left_alone():
    crystal = copper(1)
    crystal.info = {"REF_energy": 1.0}
    crystal.set_masses([60.0, 61, 62, 63])
    before = crystal.positions.copy()
    sampling = sample(crystal, einstein(crystal), SampleSettings(equilibration=0, production=20, spacing=10, seed=4))
    for frame in sampling.frames:
        assert set(frame.arrays) == {"numbers", "positions", "masses"}
        assert frame.info.keys() == {
            *("config_type", "sample_ensemble", "sample_temperature", "sample_step", "sample_energy", "sample_seed")
        }
        assert frame.calc is None
    assert crystal.info == {"REF_energy": 1.0}
    assert not crystal.has("momenta")
    np.testing.assert_array_equal(crystal.positions, before)


def test_the_same_seed_gives_the_same_frames():
    crystal = copper(1)
    ends = [
        sample(crystal, einstein(crystal), SampleSettings(equilibration=0, production=20, seed=seed))
        .frames[-1]
        .positions
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(ends[0], ends[1])
    assert np.abs(ends[0] - ends[2]).max() > 1e-3


def unstable(atoms, _):
    """Push atoms from the corner with a force that grows with the distance."""
    return -0.25 * (atoms.positions**2).sum(), 0.5 * atoms.positions, np.zeros(6)


def not_finite(after, what):
    def function(atoms, call):
        energy, forces = 0.0, np.zeros((len(atoms), 3))
        if call > after and what == "energy":
            energy = math.nan
        if call > after and what == "force":
            forces[1, 2] = math.inf
        return energy, forces, np.zeros(6)

    return function


def attractive(atoms, _):
    away = atoms.get_distance(0, 1, vector=True)
    forces = np.zeros((len(atoms), 3))
    forces[0], forces[1] = 2 * away, -2 * away
    return float(away @ away), forces, np.zeros(6)


def refusing(after):
    def function(atoms, call):
        if call > after:
            raise StructureError("Atoms 0 and 1 are 0.01 Å apart.", fix="separate them.")
        return 0.0, np.zeros((len(atoms), 3)), np.zeros(6)

    return function


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (unstable, {}, r"step \d+, 300 K: the kinetic temperature is \d+ K"),
        (not_finite(30, "energy"), {}, "step 30, 300 K: the energy is not finite"),
        (not_finite(30, "force"), {}, "step 30, 300 K: a force is not finite"),
        (attractive, {"explosion_factor": 100.0, "min_distances": {"Cu-Cu": 2.0}}, "Atoms . and . .* Cu-Cu"),
        (refusing(30), {}, "step 30, 300 K: Atoms 0 and 1 are 0.01 Å apart$"),
    ],
)
def test_an_explosion_ends_the_run_and_keeps_what_was_good(function, options, message):
    pair = Atoms("Cu4", positions=[[0.5, 0, 0], [3.5, 0, 0], [0, 9, 9], [9, 9, 0]])
    settings = SampleSettings(
        temperatures_k=(300.0, 600.0), equilibration=0, production=3000, spacing=2, **options, friction_per_fs=1e-5
    )
    sampling = sample(pair, Fabricated(function), settings)
    import re

    assert re.search(message, sampling.stopped), sampling.stopped
    stopped_at = int(re.match(r"step (\d+)", sampling.stopped).group(1))
    steps = [frame.info["sample_step"] for frame in sampling.frames]
    assert steps == list(range(2, stopped_at, 2))
    assert len(sampling.stages) == 1
    for frame in sampling.frames:
        assert np.isfinite(frame.positions).all()
        assert math.isfinite(frame.info["sample_energy"])


@pytest.mark.parametrize("equilibration", range(4))
def test_no_frame_is_kept_whose_atoms_are_too_close(equilibration):
    pair = Atoms("Cu2", positions=[[0.5, 0, 0], [3.5, 0, 0]])
    settings = SampleSettings(
        equilibration=equilibration, production=3000, spacing=4, explosion_factor=1e6, min_distances={"Cu-Cu": 2.9}
    )
    sampling = sample(pair, Fabricated(attractive), settings)
    assert "Cu-Cu may not come closer than 2.9 Å" in sampling.stopped
    distances = [frame.get_distance(0, 1) for frame in sampling.frames]
    assert 2.9 <= min(distances) < 3.0


def test_an_explosion_before_any_frame_leaves_none():
    pair = Atoms("Cu2", positions=[[0, 0, 0], [3, 0, 0]])
    sampling = sample(pair, Fabricated(not_finite(5, "energy")), SampleSettings())
    assert sampling.frames == sampling.stages == ()
    assert sampling.stopped


def test_swaps_end_when_the_energy_is_not_finite():
    pair = Atoms("CuAu", positions=[[0, 0, 0], [3, 0, 0]])
    settings = SampleSettings("swap", equilibration=0, production=50, spacing=1)
    sampling = sample(pair, Fabricated(not_finite(10, "energy")), settings)
    assert "step 10, 300 K: the energy is not finite" in sampling.stopped
    assert len(sampling.frames) == 9


class KilledError(Exception):
    pass


@pytest.mark.parametrize("ensemble", ["nvt", "npt", "swap"])
@pytest.mark.parametrize("killed_at", [50, 130, 220])
def test_a_killed_run_goes_on_bit_by_bit(tmp_path, ensemble, killed_at):
    crystal = copper(1) if ensemble != "swap" else Atoms("CuAuCuAu", copper(1).positions * 1.1)
    settings = SampleSettings(
        ensemble, (300.0, 500.0), equilibration=30, production=90, interval=10, checkpoint_every=35, friction_per_fs=0.1
    )

    def springs():
        made = einstein(crystal)
        if ensemble == "swap":
            made.function = lambda atoms, _: (float(atoms.positions[0] @ [0.01, 0.02, 0.03]), 0, 0)
        return made

    def kill(now):
        if now.step == killed_at:
            raise KilledError

    unbroken = sample(crystal, springs(), settings)
    with pytest.raises(KilledError):
        sample(crystal, springs(), settings, checkpoint=tmp_path / "run.npz", on_progress=kill)
    first = []
    continued = sample(crystal, springs(), settings, checkpoint=tmp_path / "run.npz", on_progress=first.append)
    assert first[0].step > 30
    assert_same(continued, unbroken)
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]
    calculator = springs()
    assert_same(sample(crystal, calculator, settings, checkpoint=tmp_path / "run.npz"), unbroken)
    assert calculator.calls == 1


def assert_same(one, other):
    assert len(one.frames) == len(other.frames) > 2
    for a, b in zip(one.frames, other.frames, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_array_equal(a.cell.array, b.cell.array)
        assert a.info == b.info
    assert repr(one.stages) == repr(other.stages)
    assert one.stopped == other.stopped


def test_an_exploded_run_stays_exploded(tmp_path):
    pair = Atoms("Cu2", positions=[[0, 0, 0], [3, 0, 0]])
    settings = SampleSettings(equilibration=0, production=50, spacing=2)
    runs = [
        sample(pair, Fabricated(not_finite(20, "energy")), settings, checkpoint=tmp_path / "run.npz") for _ in range(2)
    ]
    assert_same(*runs)
    assert runs[0].stopped


def test_the_checkpoint_of_another_run_is_refused(tmp_path):
    crystal, path = copper(1), tmp_path / "run.npz"
    settings = SampleSettings(equilibration=0, production=20)
    sample(crystal, einstein(crystal), settings, checkpoint=path)
    moved = crystal.copy()
    moved.positions[0] += 0.1
    for atoms, options in ((crystal, SampleSettings(equilibration=0, production=30)), (moved, settings)):
        with pytest.raises(DataError, match="another structure or other settings.*To fix: delete it"):
            sample(atoms, einstein(crystal), options, checkpoint=path)
    fixed = crystal.copy()
    fixed.set_constraint(FixAtoms([0, 1]))
    with pytest.raises(DataError, match="another structure or other settings"):
        sample(fixed, einstein(crystal), settings, checkpoint=path)
    with pytest.raises(DataError, match="another calculator.*To fix"):
        sample(crystal, EMT(), settings, checkpoint=path)
    again = SampleSettings(equilibration=0, production=20, checkpoint_every=7)
    assert sample(crystal, einstein(crystal), again, checkpoint=path).frames
    for content in (b"nonsense", b"", path.read_bytes()[:300]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="run.npz is no checkpoint.*To fix: delete it"):
            sample(crystal, einstein(crystal), settings, checkpoint=path)


def test_fixed_atoms_stay_and_the_others_have_the_temperature():
    crystal = copper()
    crystal.set_constraint(FixAtoms(range(8)))
    settings = SampleSettings(timestep_fs=3, friction_per_fs=0.1, equilibration=200, production=3000, spacing=50)
    sampling = sample(crystal, einstein(crystal), settings)
    for frame in sampling.frames:
        np.testing.assert_array_equal(frame.positions[:8], crystal.positions[:8])
        assert np.abs(frame.positions[8:] - crystal.positions[8:]).min() > 0
        assert not frame.constraints
    assert sampling.stages[0].kinetic_temperature_k == pytest.approx(300, rel=0.06)


def constrained(constraint):
    atoms = copper(1)
    atoms.set_constraint(constraint)
    return atoms


class NoStress(EMT):
    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - as ASE declares it


@pytest.mark.parametrize(
    ("atoms", "ensemble", "calculator", "kind", "message"),
    [
        (Atoms(), "nvt", EMT(), StructureError, "no atoms"),
        (Atoms("Cu", [[math.nan, 0, 0]]), "nvt", EMT(), StructureError, "not finite"),
        (constrained(FixBondLength(0, 1)), "nvt", EMT(), StructureError, "constraints that this ensemble"),
        (constrained(FixAtoms([0])), "npt", EMT(), StructureError, "constraints that this ensemble"),
        (constrained(FixAtoms(range(4))), "nvt", EMT(), StructureError, "All its atoms are fixed"),
        (fcc111("Cu", (2, 2, 2), vacuum=5), "npt", EMT(), StructureError, "not periodic in three directions"),
        (copper(1), "npt", NoStress(), CardError, "no stress, which npt needs"),
        (copper(1), "swap", EMT(), CardError, "no unlike atoms to swap"),
        (bulk("Cu", a=1.2, cubic=True), "nvt", EMT(), StructureError, "Cu-Cu may not come closer than 1.32 Å"),
        (copper(1), "nvt", Fabricated(not_finite(0, "energy")), StructureError, "Its energy is not finite"),
    ],
)
def test_what_cannot_be_sampled_is_refused(atoms, ensemble, calculator, kind, message):
    with pytest.raises(kind, match=f"{message}.*To fix"):
        sample(atoms, calculator, SampleSettings(ensemble, equilibration=0, production=10))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperatures_k": (math.nan,)}, "A temperature of nan K"),
        ({"temperatures_k": (300.0, 0.0)}, "A temperature of 0.0 K"),
        ({"temperatures_k": ()}, "A list of 0 temperatures"),
        ({"ramp": True}, "A list of 1 temperatures"),
        ({"pressure_gpa": math.inf}, "A pressure of inf GPa"),
        ({"timestep_fs": 0.0}, "timestep_fs = 0.0"),
        ({"friction_per_fs": math.nan}, "friction_per_fs = nan"),
        ({"barostat_fs": -1.0}, "barostat_fs = -1.0"),
        ({"explosion_factor": 1.0}, "explosion_factor = 1.0"),
        ({"min_distance_factor": -0.1}, "min_distance_factor = -0.1"),
        ({"min_distances": {"Cu": 1.0}}, '"Cu" is no pair'),
        ({"production": 0}, "production = 0"),
        ({"production": 5}, "A production of 5 steps"),
        ({"equilibration": -1}, "equilibration = -1"),
        ({"interval": 0}, "interval = 0"),
        ({"spacing": 0}, "spacing = 0"),
        ({"frames": 0}, "frames = 0"),
        ({"checkpoint_every": 0}, "checkpoint_every = 0"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(CardError, match=f"{message}.*To fix"):
        SampleSettings(**options)


def test_an_unknown_ensemble_is_refused():
    with pytest.raises(UnknownNameError, match='"nvtt".*did you mean "nvt"'):
        SampleSettings("nvtt")
