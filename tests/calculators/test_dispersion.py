"""D3 against s-dftd3, torch-dftd, finite differences and itself."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, graphene, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import read
from ase.units import Bohr
from dftd3.ase import DFTD3
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_ft_bench import testing
from mace_ft_bench.calculators import threads
from mace_ft_bench.calculators.d3.parameters import damping_parameters, functional_name, functionals
from mace_ft_bench.calculators.dispersion import CN_CUTOFF, MACE_CUTOFF, D3Calculator, D3Settings
from mace_ft_bench.errors import StructureError, UnknownNameError, UnsupportedElementError

DAMPINGS = ("bj", "bjm", "zero", "zerom")
SHORT = {"cutoff": 9.3, "cn_cutoff": 7.1}
"""Cutoffs [Angstrom] that keep a test short and hit no distance of the structures below."""
S_DFTD3 = {"bj": "d3bj", "bjm": "d3mbj", "zero": "d3zero", "zerom": "d3mzero"}


def s_dftd3(options: D3Settings):
    """Return s-dftd3 with the same parameters and cutoffs."""
    values = damping_parameters(options)
    tweaks = {"s6": values["s6"], "s8": values["s18"], "s9": float(options.abc)}
    if options.damping in {"bj", "bjm"}:
        tweaks |= {"a1": values["rs6"], "a2": values["rs18"]}
    elif options.damping == "zero":
        tweaks |= {"rs6": values["rs6"], "rs8": values["rs18"]}
    else:
        tweaks |= {"rs6": values["rs6"], "rs8": 1.0, "bet": values["rs18"]}
    cutoffs = {"disp2": options.cutoff, "disp3": options.cn_cutoff, "cn": options.cn_cutoff}
    if options.smoothing:
        cutoffs["width2"] = options.smoothing
    return DFTD3(damping=S_DFTD3[options.damping], params_tweaks=tweaks, realspace_cutoff=cutoffs)


def ethanol_crystal():
    atoms = molecule("CH3CH2OH")
    atoms.set_cell([[6.1, 0.0, 0.3], [0.7, 7.3, 0.0], [0.0, 0.4, 5.57]])
    atoms.pbc = True
    return atoms


def slab():
    atoms = fcc111("Cu", (2, 2, 2), vacuum=40.0)
    atoms.pbc = [True, True, False]
    return atoms


def graphite():
    places = [[0, 0, 0], [1 / 3, 2 / 3, 0], [0, 0, 0.5], [2 / 3, 1 / 3, 0.5]]
    return Atoms("C4", scaled_positions=places, cell=[2.46, 2.46, 6.7, 90, 90, 120], pbc=True)


def mixed():
    atoms = bulk("Mo", cubic=True) * 2
    atoms.numbers[[3, 8]] = 16, 42
    return atoms


def sheet():
    return graphene(size=(3, 2, 1), vacuum=None)


STRUCTURES = {
    "molecule": lambda: molecule("C6H6"),
    "molecular crystal": ethanol_crystal,
    "slab": slab,
    "sheet without a third cell vector": sheet,
    "graphite": graphite,
    "metal": mixed,
    "one atom": lambda: bulk("Cu"),
    "wire": lambda: Atoms("Au2", positions=[[0, 0, 0], [0.3, 0, 2.5]], cell=[0, 0, 5.1], pbc=[0, 0, 1]),
    "lone atom": lambda: Atoms("Xe"),
    "huge cell": lambda: Atoms("OH2", positions=[[0, 0, 0], [0.96, 0, 0], [9999.8, 0.93, 0]], cell=[1e4] * 3, pbc=True),
    "far apart": lambda: Atoms("He2", positions=[[0, 0, 0], [0, 0, 400.0]]),
}


def built(name):
    atoms = STRUCTURES[name]()
    atoms.rattle(0.05, seed=5)
    return atoms


def outcome(calculator, atoms):
    attached = atoms.copy()
    attached.calc = calculator
    energy, forces = attached.get_potential_energy(), attached.get_forces()
    return energy, forces, attached.get_stress() if atoms.cell.rank == 3 else np.zeros(6)


def assert_same(found, expected, *, energy, forces, stress):
    assert found[0] == pytest.approx(expected[0], rel=energy, abs=1e-12)
    np.testing.assert_allclose(found[1], expected[1], atol=forces)
    np.testing.assert_allclose(found[2], expected[2], atol=stress)


# --- the same numbers as other programs -----------------------------------------------------------------------------


def in_a_box(atoms):
    """Put sheets and wires into a large periodic box; s-dftd3 1.7 leaves out images of some of them otherwise."""
    if atoms.cell.rank in {1, 2}:
        atoms.set_cell(atoms.cell.complete().array * np.where(atoms.pbc, 1.0, 90.0)[:, None])
        atoms.pbc = True
    return atoms


@pytest.mark.parametrize("abc", [False, True], ids=["pairs", "pairs and triples"])
@pytest.mark.parametrize("damping", DAMPINGS)
@pytest.mark.parametrize("name", STRUCTURES)
def test_s_dftd3(name, damping, abc):
    """The independent implementation in Fortran, at equal cutoffs."""
    options = D3Settings("pbe", damping, abc=abc, **SHORT)
    found = outcome(D3Calculator.from_settings(options), built(name))
    expected = outcome(s_dftd3(options), in_a_box(built(name)))
    if built(name).cell.rank < 3:
        expected = (*expected[:2], np.zeros(6))
    assert_same(found, expected, energy=1e-6, forces=1e-6, stress=2e-7)


@pytest.mark.parametrize("damping", DAMPINGS)
@pytest.mark.parametrize("name", ["molecule", "molecular crystal", "slab", "sheet without a third cell vector"])
def test_torch_dftd(name, damping):
    """Its conversion of units differs in the seventh digit."""
    options = {"damping": damping, **SHORT}
    assert_same(
        outcome(D3Calculator(**options), built(name)),
        outcome(D3Calculator(engine="torch-dftd", **options), built(name)),
        energy=2e-6,
        forces=5e-7,
        stress=1e-7,
    )


def test_torch_dftd_triples_of_a_molecule():
    """In small periodic cells its three-body forces are not the gradient of its energy; it is refused there."""
    options = {"abc": True, **SHORT}
    expected = outcome(D3Calculator(engine="torch-dftd", **options), built("molecule"))
    assert_same(outcome(D3Calculator(**options), built("molecule")), expected, energy=1e-6, forces=1e-7, stress=0)
    with pytest.raises(StructureError, match='engine="numba"'):
        outcome(D3Calculator(engine="torch-dftd", **options), built("molecular crystal"))


@pytest.mark.parametrize("smoothing", [Bohr, 2.0])
def test_smooth_cutoffs(smoothing):
    """s-dftd3 calls it width2; torch-dftd has a width of 1 bohr."""
    options = D3Settings("pbe", smoothing=smoothing, **SHORT)
    found = outcome(D3Calculator.from_settings(options), built("metal"))
    plain = outcome(D3Calculator("pbe", **SHORT), built("metal"))
    assert_same(found, outcome(s_dftd3(options), built("metal")), energy=1e-6, forces=1e-6, stress=1e-6)
    assert abs(found[0] / plain[0] - 1) > 1e-3
    if smoothing == Bohr:
        reference = D3Calculator("pbe", smoothing=smoothing, engine="torch-dftd", **SHORT)
        assert_same(found, outcome(reference, built("metal")), energy=1e-6, forces=1e-6, stress=1e-6)


def test_coordination_cutoff_may_exceed_the_cutoff():
    options = D3Settings("pbe", cutoff=5.7, cn_cutoff=9.1)
    found = outcome(D3Calculator.from_settings(options), built("metal"))
    assert_same(found, outcome(s_dftd3(options), built("metal")), energy=1e-6, forces=1e-6, stress=1e-6)


def mirrored(name):
    folder = os.environ.get("MFB_MIRROR")
    found = list(Path(folder).rglob(name)) if folder else []
    if not found:
        pytest.skip(f"{name} is not on this machine: set MFB_MIRROR to a mirror of the datasets")
    return read(found[0])


@pytest.mark.parametrize("damping", ["bj", "zero"])
def test_graphene_and_water(damping):
    atoms = mirrored("graphene-128.xyz")
    options = D3Settings("pbe", damping)
    found = outcome(D3Calculator.from_settings(options), atoms)
    assert_same(found, outcome(s_dftd3(options), atoms), energy=1e-6, forces=1e-6, stress=1e-7)


def test_energy_of_graphene_and_water():
    """1038 atoms, 40 bohr: -59.0253 eV by s-dftd3 1.7."""
    energy = outcome(D3Calculator("pbe"), mirrored("graphene-1038.xyz"))[0]
    assert energy == pytest.approx(-59.025276, rel=1e-6)


# --- the same numbers as itself -------------------------------------------------------------------------------------


@pytest.mark.parametrize("damping", DAMPINGS)
def test_contract(damping):
    calculator = D3Calculator("pbe", damping, smoothing=1.0, **SHORT)
    testing.check_calculator(calculator, testing.sheared_crystal("Mo", "bcc", 3.16), tolerances=testing.FLOAT64)


@pytest.mark.parametrize("damping", DAMPINGS)
@pytest.mark.parametrize("name", ["molecular crystal", "slab", "metal"])
def test_differences_of_the_energy(name, damping):
    """Forces of one atom and two components of the strain, with triples."""
    calculator, atoms = D3Calculator("pbe", damping, abc=True, cutoff=7.3, cn_cutoff=5.3), built(name)
    _, forces, stress = outcome(calculator, atoms)
    for axis in range(3):
        difference = testing._force_by_difference(calculator, atoms, 1, axis, 1e-5)
        assert forces[1, axis] == pytest.approx(difference, abs=1e-7)
    for voigt, (i, j) in {0: (0, 0), 5: (0, 1)}.items():
        up, down = (outcome(calculator, testing._strained(atoms, i, j, s))[0] for s in (1e-6, -1e-6))
        assert stress[voigt] * atoms.get_volume() == pytest.approx((up - down) / 2e-6, abs=2e-6)


@st.composite
def structures(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, edge = draw(st.integers(1, 5)), draw(st.sampled_from([4.0, 6.0, 30.0]))
    cell = edge * (np.eye(3) + rng.uniform(-0.2, 0.2, (3, 3)))
    grid = rng.permutation(8)[:count]
    scaled = np.stack([grid // 4, grid // 2 % 2, grid % 2], axis=1) / 2 + rng.uniform(0, 0.12, (count, 3))
    numbers = rng.choice([1, 6, 8, 42, 79], size=count)
    atoms = Atoms(numbers, cell=cell, pbc=draw(st.tuples(*[st.booleans()] * 3)))
    atoms.positions = scaled @ atoms.cell.array * (4.0 / edge if edge > 20 else 1.0)
    return atoms


def invariant(found, expected, count):
    assert_same(found, expected, energy=1e-10, forces=1e-9, stress=1e-9 * count)


@settings(max_examples=25, deadline=None)
@given(atoms=structures(), seed=st.integers(0, 2**32 - 1), damping=st.sampled_from(DAMPINGS))
def test_invariances(atoms, seed, damping):
    """Translation, renumbering, rotation, wrapping, and repetition along periodic directions."""
    options = D3Settings("pbe", damping, cutoff=7.7, cn_cutoff=5.9, smoothing=1.0)
    rng = np.random.default_rng(seed)
    calculator = D3Calculator.from_settings(options)
    expected = outcome(calculator, atoms)
    moved = atoms.copy()
    moved.positions += rng.uniform(-20, 20, 3)
    moved.wrap()
    invariant(outcome(calculator, moved), expected, 1)
    order = rng.permutation(len(atoms))
    sites = calculator.results["energies"].copy()
    invariant(outcome(calculator, atoms[order]), (expected[0], expected[1][order], expected[2]), 1)
    np.testing.assert_allclose(calculator.results["energies"], sites[order], atol=1e-12)
    turned = atoms.copy()
    turned.rotate(rng.uniform(0, 360), rng.uniform(-1, 1, 3) + np.array([0, 0, 2]), rotate_cell=True)
    assert outcome(calculator, turned)[0] == pytest.approx(expected[0], rel=1e-10)
    repeats = np.where(atoms.pbc, (1, 2, 1), 1)
    larger = atoms.repeat(repeats)
    multiple = int(np.prod(repeats))
    repeated = (expected[0] * multiple, np.tile(expected[1], (multiple, 1)), expected[2])
    invariant(outcome(calculator, larger), repeated, 1)


def trajectory(steps, *, strain, seed):
    """Yield a molecular crystal whose atoms wander around their places and whose cell breathes and shears."""
    rng = np.random.default_rng(seed)
    atoms = ethanol_crystal() * (2, 2, 1)
    places, off = atoms.get_scaled_positions(wrap=False), np.zeros((len(atoms), 3))
    for _ in range(steps):
        off = 0.98 * off + rng.normal(0, 0.02, off.shape)
        if strain:
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, strain, (3, 3))))
        atoms.positions = places @ atoms.cell.array + off
        yield atoms


@pytest.mark.parametrize("strain", [0.0, 1e-3], ids=["NVT", "NPT"])
def test_kept_lists_change_nothing(strain):
    """Every frame of a trajectory, against a calculator that has seen nothing."""
    options = {"cutoff": 9.3, "cn_cutoff": 8.1}
    kept = D3Calculator("pbe", skin=0.5, **options)
    for atoms in trajectory(200, strain=strain, seed=1):
        found, expected = outcome(kept, atoms), outcome(D3Calculator("pbe", **options, skin=0.0), atoms)
        assert abs(found[0] - expected[0]) < 1e-9 * len(atoms)
        np.testing.assert_allclose(found[1], expected[1], atol=1e-8)
        np.testing.assert_allclose(found[2], expected[2], atol=1e-9)
    assert 1 < kept.builds < 70
    assert kept.dangerous_builds == 0


def test_late_lists_are_noticed(caplog):
    careless = D3Calculator("pbe", skin=0.05, delay=50, **SHORT)
    with caplog.at_level(logging.WARNING, logger="mace_ft_bench"):
        for atoms in trajectory(60, strain=0.0, seed=2):
            outcome(careless, atoms)
    assert careless.dangerous_builds > 0
    assert len(caplog.records) == 1


def test_the_number_of_threads_changes_nothing(monkeypatch):
    atoms = ethanol_crystal() * (3, 3, 3)
    atoms.rattle(0.05, seed=1)
    found = []
    for count in (1, 2, 5):
        monkeypatch.setattr(threads, "thread_count", lambda count=count: count)
        found.append(outcome(D3Calculator("pbe", cutoff=15.0, cn_cutoff=15.0), atoms))
    for other in found[1:]:
        assert other[0] == found[0][0]
        np.testing.assert_array_equal(other[1], found[0][1])


@pytest.mark.parametrize(("setting", "most"), [("1", 1), ("2", 2), ("2,4", 2), ("nonsense", 10**6), ("0", 10**6)])
def test_threads_follow_the_environment(monkeypatch, setting, most):
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    assert 1 <= threads.thread_count() <= most


def through_pickle(calculator):
    return pickle.loads(pickle.dumps(calculator))  # noqa: S301 - our own bytes


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, through_pickle])
def test_copies(clone):
    calculator = D3Calculator("pbe", "zero", skin=0.3, **SHORT)
    expected = outcome(calculator, built("graphite"))
    other = clone(calculator)
    assert other.settings == calculator.settings
    assert_same(outcome(other, built("graphite")), expected, energy=1e-13, forces=1e-12, stress=1e-12)


def test_work_in_a_forked_process():
    """Threads do not survive a fork; a new process makes its own."""
    code = (
        "import os; from ase.build import bulk; from mace_ft_bench.calculators.dispersion import D3Calculator\n"
        "from mace_ft_bench.calculators import threads; threads.thread_count = lambda: 2\n"
        "def energy():\n"
        "    atoms = bulk('Mo', cubic=True) * 4; atoms.calc = D3Calculator(cutoff=14.0)\n"
        "    return atoms.get_potential_energy()\n"
        "first = energy(); child = os.fork()\n"
        "if not child: os._exit(energy() != first)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=100)


# --- functionals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damping", DAMPINGS)
def test_every_functional_works(damping):
    names = functionals(damping)
    assert len(names) >= 8
    assert {"pbe", "b3-lyp", "pbe0"} <= set(names)
    for name in names:
        assert np.isfinite(outcome(D3Calculator(name, damping, cutoff=5.0, cn_cutoff=5.0), built("molecule"))[0])


@pytest.mark.parametrize(
    ("written", "meant"),
    [("PBE", "pbe"), ("B3LYP", "b3-lyp"), ("bp86", "b-p"), ("r2SCAN", "r2scan"), ("BLYP", "b-lyp")],
)
def test_names_of_functionals(written, meant):
    assert functional_name(written, "bj") == meant


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"functional": "pbr"}, UnknownNameError, 'did you mean "pbe"'),
        ({"functional": "r2scan", "damping": "bjm"}, UnknownNameError, "use damping= one of bj"),
        ({"damping": "bjj"}, UnknownNameError, 'did you mean "bj"'),
        ({"engine": "nunba"}, UnknownNameError, 'did you mean "numba"'),
        ({"device": "cuda", "engine": "numba"}, UnknownNameError, "torch-dftd"),
        ({"cutof": 5.0}, UnknownNameError, 'did you mean "cutoff"'),
        ({"cutoff": 0.0}, ValueError, "cutoff = 0.0 Å.*To fix"),
        ({"cutoff": -3.0}, ValueError, "To fix"),
        ({"cutoff": np.nan}, ValueError, "To fix"),
        ({"cutoff": 5000.0}, ValueError, "not bohr or picometres"),
        ({"cn_cutoff": -1.0}, ValueError, "cn_cutoff = -1.0 Å.*To fix"),
        ({"skin": -0.5}, ValueError, "skin = -0.5 Å.*To fix"),
        ({"every": 0}, ValueError, "every = 0.*To fix"),
        ({"delay": -2}, ValueError, "delay = -2.*To fix"),
        ({"smoothing": -1.0}, ValueError, "smoothing = -1.0 Å.*To fix"),
        ({"smoothing": 99.0}, ValueError, "smoothing = 99.0 Å.*To fix"),
        ({"on_dangerous": "ignore"}, UnknownNameError, "use one of"),
        ({"engine": "torch-dftd", "smoothing": 1.0}, ValueError, "1 bohr.*To fix"),
        ({"engine": "torch-dftd", "cutoff": 5.0, "cn_cutoff": 6.0}, ValueError, "To fix: lower cn_cutoff"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        D3Calculator(**options)


def broken(what):
    atoms = ethanol_crystal()
    if what == "heavy element":
        atoms.numbers[0] = 95
    elif what == "ghost":
        atoms.numbers[0] = 0
    elif what == "nan":
        atoms.positions[2, 1] = np.nan
    elif what == "flat":
        atoms.set_cell(atoms.cell.array * [[1], [1], [0]])
    elif what == "empty":
        atoms = atoms[:0]
    elif what == "touching":
        atoms.positions[4] = atoms.positions[7] + [0.0, 0.0, 0.05]
    elif what == "coinciding":
        atoms.positions[4] = atoms.positions[7]
    elif what == "image":
        atoms.positions[4] = atoms.positions[7] + atoms.cell[0]
    return atoms


@pytest.mark.parametrize("engine", ["numba", "torch-dftd"])
@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("heavy element", UnsupportedElementError, "no parameters for Am.*To fix"),
        ("ghost", UnsupportedElementError, "no parameters for X"),
        ("nan", StructureError, "not finite"),
        ("flat", StructureError, "no extent"),
        ("empty", StructureError, "no atoms"),
        ("touching", StructureError, "0.05 Å apart.*To fix"),
        ("coinciding", StructureError, "0 Å apart"),
        ("image", StructureError, "Atoms 4 and 7|Atoms 7 and 4"),
    ],
)
def test_bad_structures(what, error, message, engine):
    with pytest.raises(error, match=message):
        outcome(D3Calculator(engine=engine, **SHORT), broken(what))


@pytest.mark.parametrize("engine", ["numba", "torch-dftd"])
def test_no_stress_without_a_cell(engine):
    atoms = molecule("CH4")
    atoms.calc = D3Calculator(engine=engine, **SHORT)
    assert atoms.get_potential_energy() < 0
    assert "stress" not in atoms.calc.results
    with pytest.raises(PropertyNotImplementedError, match="To fix: set a cell"):
        atoms.get_stress()


def test_after_a_refusal_it_works_again():
    calculator = D3Calculator(**SHORT)
    expected = outcome(calculator, ethanol_crystal())
    for what in ("touching", "nan"):
        with pytest.raises(StructureError):
            outcome(calculator, broken(what))
    assert_same(outcome(calculator, ethanol_crystal()), expected, energy=1e-13, forces=1e-12, stress=1e-12)


def test_defaults():
    options = D3Calculator().settings
    assert (options.functional, options.damping, options.abc, options.smoothing) == ("pbe", "bj", False, 0.0)
    assert (options.cutoff, options.cn_cutoff) == (MACE_CUTOFF, CN_CUTOFF) == (40 * Bohr, 40 * Bohr)
    assert D3Calculator().parameters["cutoff"] == 40 * Bohr


def test_a_model_on_a_gpu_gets_the_fast_engine():
    assert "energies" in D3Calculator(device="cuda").implemented_properties


def test_importing_is_cheap():
    code = (
        "import sys, mace_ft_bench.calculators.dispersion, mace_ft_bench.calculators.combined\n"
        "mace_ft_bench.calculators.dispersion.D3Calculator()\n"
        "print({'torch', 'numba', 'vesin', 'pymatgen'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_independent_structures_have_lists_of_their_own():
    """``every`` and ``delay`` are for trajectories; the frames of ``evaluate`` have nothing to do with each other."""
    calculator = D3Calculator("pbe", cutoff=8.0, cn_cutoff=8.0, every=10, skin=0.5)
    frames = [bulk("Cu", a=a, cubic=True) for a in (3.7, 3.6, 3.5, 3.4)]
    for found, frame in zip(calculator.evaluate(frames), frames, strict=True):
        frame.calc = D3Calculator("pbe", cutoff=8.0, cn_cutoff=8.0, skin=0.0)
        assert found["energy"] == pytest.approx(frame.get_potential_energy(), abs=1e-12)
        np.testing.assert_allclose(found["stress"], frame.get_stress(), atol=1e-12)
    assert calculator.updates == 0
