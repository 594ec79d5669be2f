"""EMT copper passes clean, and every mistake planted in it is found by exactly its check."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Bohr, Hartree
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_ft_bench.datasets.frames import labelled
from mace_ft_bench.datasets.lint.finding import named, worst
from mace_ft_bench.datasets.lint.geometry import surroundings
from mace_ft_bench.datasets.lint.labels import forces_vanish_by_symmetry
from mace_ft_bench.datasets.lint.run import lint_frames
from mace_ft_bench.units import EV_PER_A3_IN_GPA

E, F, S = "REF_energy", "REF_forces", "REF_stress"
RATTLED = 24


def emt(atoms, config_type):
    atoms = atoms.copy()
    atoms.calc = EMT()
    periodic = bool(atoms.pbc.all())
    return labelled(
        atoms,
        energy=atoms.get_potential_energy(),
        forces=atoms.get_forces(),
        stress=atoms.get_stress() if periodic else None,
        config_type=config_type,
    )


def strained(crystal, gradient):
    atoms = crystal.copy()
    atoms.set_cell(atoms.cell @ (np.eye(3) + gradient), scale_atoms=True)
    return atoms


def made():
    """Return rattled, strained and dynamics-like copper, a surface, the isolated atom: what people train on."""
    generator = np.random.default_rng(0)
    cubic = bulk("Cu", a=3.6, cubic=True)
    frames = []
    for _ in range(RATTLED):
        gradient = generator.normal(scale=0.012, size=(3, 3))
        atoms = strained(cubic, (gradient + gradient.T) / 2)
        atoms.rattle(0.04, rng=generator)
        frames.append(emt(atoms, "rattled"))
    frames += [emt(strained(cubic, np.eye(3) * linear), "eos") for linear in np.linspace(-0.03, 0.03, 9)]
    large = cubic * (2, 2, 1)
    for _ in range(12):
        atoms = large.copy()
        atoms.rattle(0.05, rng=generator)
        frames.append(emt(atoms, "dynamics"))
    slab = fcc111("Cu", (1, 1, 4), a=3.6, vacuum=6.0)
    frames.append(emt(slab, "surface"))
    return [*frames, emt(Atoms("Cu", cell=[12, 12, 12], pbc=True), "isolated")]


@pytest.fixture
def frames():
    return [frame.copy() for frame in CLEAN]


CLEAN = made()


def lint(frames, **options):
    """Return the severities by check, remarks left out."""
    linted = lint_frames(frames, **options)
    return {finding.check: finding for finding in linted.findings if finding.severity != "info"}


def test_right_labels_pass(frames):
    linted = lint_frames(frames)
    assert [finding.check for finding in linted.findings if finding.severity != "info"] == ["missing-labels"]
    stressed = [frame for frame in frames if S in frame.info]
    assert {finding.severity for finding in lint_frames(stressed).findings} <= {"info"}


@pytest.fixture
def clean(frames):
    """Return the frames with all labels."""
    return [frame for frame in frames if S in frame.info]


def every(label, change):
    def plant(frames):
        for frame in frames:
            store = frame.arrays if label == F else frame.info
            if label in store:
                store[label] = change(store[label])

    return plant


def one(index, label, change):
    def plant(frames):
        store = frames[index].arrays if label == F else frames[index].info
        store[label] = change(store[label])

    return plant


def swapped(first, second):
    def plant(frames):
        forces = frames[first].arrays[F]
        frames[first].arrays[F], frames[second].arrays[F] = frames[second].arrays[F], forces

    return plant


def permuted(frames):
    order = [3, 1, 0, 2]
    copy = frames[5][order]
    copy.info = frames[5].info.copy()
    copy.positions = np.round(copy.positions + np.array([0.3, -0.2, 0.1]), 5)
    frames.append(copy)


def turned(frames):
    copy = frames[5].copy()
    copy.rotate(90, "x", rotate_cell=True)
    copy.rotate(30, "z", rotate_cell=True)
    frames.append(copy)


def shuffled(frames):
    group = [frame for frame in frames if frame.info["config_type"] == "dynamics"]
    forces = [frame.arrays[F] for frame in group]
    for frame, other in zip(group, forces[3:] + forces[:3], strict=True):
        frame.arrays[F] = other


def drop(index, label):
    def plant(frames):
        (frames[index].arrays if label == F else frames[index].info).pop(label)

    return plant


def rename(indices, label, name):
    def plant(frames):
        for index in indices:
            store = frames[index].arrays if label == F else frames[index].info
            store[name] = store.pop(label)

    return plant


def elsewhere(frames):
    for frame in frames[:12]:
        frame.info[E] += -1850.0 * len(frame)


def close(frames):
    frames[3].positions[1] = frames[3].positions[0] + [0.9, 0, 0]
    frames[3].arrays[F][:] = [[0, 0, 1], [0, 0, -1], [0, 0, 0], [0, 0, 0]]


def far_atom(frames):
    frames[0].set_cell([30, 30, 30])
    frames[0].positions[0] = [15, 15, 15]
    frames[0].positions[1:] = [[0, 0, 0], [2.2, 0, 0], [0, 2.2, 0]]


def not_periodic(frames):
    frames[4].pbc = False
    frames[4].info.pop(S)


PLANTED = {
    "flipped stress": (every(S, np.negative), {"stress": "error"}),
    "stress in GPa": (every(S, lambda s: s * EV_PER_A3_IN_GPA), {"stress": "error"}),
    "stress in kbar": (every(S, lambda s: s * EV_PER_A3_IN_GPA * 10), {"stress": "error"}),
    "stress in VASP's order": (every(S, lambda s: s[[0, 1, 2, 5, 3, 4]]), {"stress": "error"}),
    "NaN energy": (one(2, E, lambda _: np.nan), {"not-finite": "error"}),
    "infinite force": (one(2, F, lambda f: np.where(f == f[0, 0], np.inf, f)), {"not-finite": "error"}),
    "duplicate": (lambda frames: frames.append(frames[7].copy()), {"duplicates": "warning"}),
    "permuted, moved and rounded duplicate": (permuted, {"near-duplicates": "warning"}),
    "conflict": (
        lambda frames: (frames.append(frames[30].copy()), one(-1, E, lambda e: e + 0.2)(frames)),
        {"conflicting-labels": "error"},
    ),
    "shifted energy": (one(9, E, lambda e: e + 4.0), {"energy-outlier": "warning"}),
    "slightly shifted energy": (one(9, E, lambda e: e + 0.3), {"energy-forces": "warning"}),
    "another zero": (elsewhere, {"energy-zero": "error"}),
    "forces of other frames": (shuffled, {"energy-forces": "error"}),
    "flipped forces": (every(F, np.negative), {"energy-forces": "error"}),
    "forces in hartree/bohr": (every(F, lambda f: f * Bohr / Hartree), {"energy-forces": "error"}),
    "placeholder": (one(9, F, np.zeros_like), {"placeholder-forces": "error"}),
    "net force": (one(9, F, lambda f: f + np.array([0.3, 0, 0])), {"net-force": "warning"}),
    "huge force": (
        one(9, F, lambda f: f + 80 * np.array([[1, 0, 0], [-1, 0, 0], [0, 0, 0], [0, 0, 0]])),
        {"force-outlier": "warning"},
    ),
    "no forces": (drop(9, F), {"missing-labels": "warning"}),
    "no energy": (drop(9, E), {"missing-labels": "warning"}),
    "energy per axis": (one(9, E, lambda e: np.array([e, e, e])), {"wrong-shape": "error"}),
    "energy as text": (one(9, E, lambda _: "low"), {"wrong-shape": "error"}),
    "stress of four": (one(9, S, lambda s: s[:4]), {"wrong-shape": "error"}),
    "asymmetric stress": (one(9, S, lambda _: np.arange(9.0).reshape(3, 3)), {"wrong-shape": "error"}),
    "other key in some": (rename(range(4), E, "dft_energy"), {"mixed-keys": "error", "foreign-keys": "warning"}),
    "other key in all": (
        lambda frames: rename(range(len(frames)), F, "dft_force")(frames),
        {"foreign-keys": "warning"},
    ),
    "second key": (lambda frames: frames[3].info.update(energy=-3.0), {"mixed-keys": "warning"}),
    "too close": (close, {"short-distance": "error"}),
    "lone atom": (far_atom, {"lone-atoms": "warning"}),
    "no pbc": (not_periodic, {"cell": "warning", "missing-labels": "warning"}),
}


@pytest.mark.parametrize("name", PLANTED)
def test_every_mistake_is_found_by_its_check_alone(clean, name):
    plant, expected = PLANTED[name]
    plant(clean)
    found = lint(clean)
    assert {check: finding.severity for check, finding in found.items()} == expected


@pytest.mark.parametrize(
    ("plant", "check", "concerned"),
    [
        (one(9, E, lambda e: e + 0.3), "energy-forces", (9,)),
        (one(9, E, lambda e: e + 4.0), "energy-outlier", (9,)),
        (swapped(33, 40), "energy-forces", (33, 40)),
        (lambda frames: frames.append(frames[7].copy()), "duplicates", (46,)),
        (permuted, "near-duplicates", (46,)),
        (one(9, F, np.zeros_like), "placeholder-forces", (9,)),
        (elsewhere, "energy-zero", tuple(range(12))),
        (close, "short-distance", (3,)),
    ],
)
def test_findings_name_the_frames(clean, plant, check, concerned):
    assert len(clean) == 46
    plant(clean)
    assert lint(clean)[check].frames == concerned


def test_what_the_messages_say(clean):
    every(S, lambda stress: -stress)(clean)
    assert "sign is wrong" in lint(clean)["stress"].message
    every(S, lambda stress: -stress * EV_PER_A3_IN_GPA * 10)(clean)
    finding = lint(clean)["stress"]
    assert "unit is wrong" in finding.message
    assert "in kbar 1" in finding.fix  # a bulk modulus of 1xx GPa
    every(F, np.negative)(clean)
    assert "the sign of one of them is wrong" in lint(clean)["energy-forces"].message


def test_the_order_of_the_stress_is_told(clean):
    every(S, lambda stress: stress[[0, 1, 2, 5, 4, 3]])(clean)  # xx yy zz xy xz yz
    assert "the order, which would be xx yy zz xy xz yz" in lint(clean)["stress"].message
    assert "sign" not in lint(clean)["stress"].message


def test_zero_forces_of_a_symmetric_crystal_are_right():
    assert forces_vanish_by_symmetry(bulk("Cu", a=3.6, cubic=True))
    assert forces_vanish_by_symmetry(bulk("Si", a=5.43))
    assert forces_vanish_by_symmetry(bulk("Mg"))
    assert not forces_vanish_by_symmetry(fcc111("Cu", (1, 1, 4), a=3.6, vacuum=6.0))
    rutile_like = Atoms("TiO2", scaled_positions=[[0, 0, 0], [0.3, 0.3, 0], [0.7, 0.7, 0]], cell=[4, 4, 3], pbc=True)
    assert not forces_vanish_by_symmetry(rutile_like)  # oxygen can move along the diagonal
    assert not forces_vanish_by_symmetry(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), angle=st.floats(0, 360), axis=st.sampled_from("xyz"))
def test_fingerprints_know_no_order_origin_orientation_or_supercell(seed, angle, axis):
    generator = np.random.default_rng(seed)
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.rattle(0.2, rng=generator)
    expected = surroundings(atoms).fingerprint
    moved = atoms[generator.permutation(len(atoms))]
    moved.positions += generator.normal(size=3)
    moved.wrap()
    moved.rotate(angle, axis, rotate_cell=True)
    assert surroundings(moved).fingerprint == pytest.approx(expected, rel=1e-9)
    assert surroundings(moved * (1, 2, 1)).fingerprint == pytest.approx(expected, rel=1e-9)
    moved.positions[0] += 0.01
    assert surroundings(moved).fingerprint != pytest.approx(expected, rel=1e-6)


def test_a_turned_copy_is_a_remark(clean):
    turned(clean)
    remarks = [finding for finding in lint_frames(clean).findings if finding.check == "equivalent-frames"]
    assert [finding.frames for finding in remarks] == [(46,)]


def test_labels_in_a_calculator_are_seen(clean):
    for frame in clean:
        results = {"energy": frame.info.pop(E), "forces": frame.arrays.pop(F)}
        frame.calc = SinglePointCalculator(frame, **results)
    found = lint(clean)
    assert set(found) == {"swallowed-labels"}
    assert "energy, forces into a calculator" in found["swallowed-labels"].message


def test_a_virial_is_minus_volume_times_stress(clean):
    for frame in clean:
        s = frame.info.pop(S)
        matrix = s[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)
        frame.info["virial"] = -frame.cell.volume * matrix
    assert set(lint(clean)) == {"foreign-keys"}
    for frame in clean:
        frame.info["virial"] = -frame.info["virial"]
    assert set(lint(clean)) == {"foreign-keys", "stress"}


def test_names_of_models_are_no_labels(clean):
    clean[0].info["FF_energy"] = -1.0
    clean[0].info["cut_off_energy"] = 250.0
    clean[0].arrays["MACE_forces"] = clean[0].arrays[F].copy()
    remarks = [finding.message for finding in lint_frames(clean).findings if finding.check == "other-keys"]
    assert remarks == ["Not taken for labels: FF_energy, MACE_forces."]


def test_isolated_atoms_contradict_or_are_pulled():
    first, second = (emt(Atoms("Cu", cell=[12, 12, 12], pbc=True), "isolated") for _ in range(2))
    second.cell[:] = np.eye(3) * 14
    second.info[E] += 0.5
    found = [finding for finding in lint_frames([first, second]).findings if finding.check == "isolated-atoms"]
    assert [finding.severity for finding in found] == ["error", "info"]
    assert "differ by 0.5 eV" in found[0].message
    second.info[E] -= 0.5
    second.arrays[F] += 0.2
    assert "carry forces" in lint([first, second])["isolated-atoms"].message


def test_cells_that_cannot_be(clean):
    flat = clean[0].copy()
    flat.cell[2] = flat.cell[0] + flat.cell[1]
    none = clean[0].copy()
    none.cell[:] = 0
    left = clean[0].copy()
    left.set_cell(left.cell[[1, 0, 2]])
    for frame in (flat, none, left):
        frame.info.pop(S)
    found = {finding.frames: finding for finding in lint_frames([none, flat, left]).findings if finding.check == "cell"}
    assert "no cell vector" in found[0,].message
    assert "in one plane" in found[1,].message
    assert found[2,].severity == "info"


def test_one_composition_leaves_energies_open():
    frames = [
        labelled(bulk("NaCl", "rocksalt", a=a), energy=-a, forces=np.zeros((2, 3)), stress=None, config_type="x")
        for a in (5.5, 5.6)
    ]
    remarks = {finding.check: finding.message for finding in lint_frames(frames).findings}
    assert "All frames have one composition" in remarks["composition"]
    assert "Cl, Na" in remarks["composition"]
    frames += [labelled(bulk("Na"), energy=-1.0, forces=np.zeros((1, 3)), stress=None, config_type="x")]
    assert "composition" not in {finding.check for finding in lint_frames(frames).findings}


def test_frames_without_any_label_or_group(clean):
    bare = [Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=True) for frame in clean[:3]]
    linted = lint_frames(bare)
    assert {finding.check: finding.severity for finding in linted.findings} == {
        "missing-labels": "error",
        "no-group": "info",
    }
    assert "No frame has a label" in linted.findings[0].message
    both = {finding.check: finding for finding in lint_frames([*clean[3:], *bare]).findings}
    assert both["missing-labels"].frames == (43, 44, 45)
    assert both["no-group"].frames == (43, 44, 45)


def test_what_the_other_set_holds_leaks(clean):
    assert "leak" not in lint(clean[:20], against=clean[20:])
    found = lint(clean[:20], against=clean[15:])
    assert found["leak"].frames == (15, 16, 17, 18, 19)
    turned(clean)  # of frame 5: an equivariant model knows it
    assert lint(clean[:20], against=clean[20:])["leak"].frames == (5,)


def test_a_copy_with_other_labels_leaks_too(clean):
    copies = [frame.copy() for frame in clean[15:20]]
    copies[2].info["REF_energy"] += 0.05
    assert lint(clean[:20], against=copies)["leak"].frames == (15, 16, 17, 18, 19)


def trajectory(steps, stride):
    """Return frames of a random walk in a harmonic well: neighbours in time are near."""
    generator = np.random.default_rng(1)
    crystal = bulk("Cu", a=3.6, cubic=True) * 2
    away = generator.normal(scale=0.1, size=(len(crystal), 3))
    frames = []
    for step in range(steps * stride):
        away = 0.98 * away + generator.normal(scale=0.02, size=away.shape)
        if step % stride == 0:
            atoms = crystal.copy()
            atoms.positions += away
            frames.append(emt(atoms, "md"))
    return frames


def test_neighbours_in_time_leak_and_distant_frames_do_not():
    near = trajectory(160, 4)
    found = lint(near[::2], against=near[1::2])
    assert len(found["trajectory-leak"].frames) > 60
    blocks = lint(near[:80], against=near[80:])
    assert len(blocks["trajectory-leak"].frames) < 10  # those at the cut
    assert not lint(near[:80], against=near[120:])
    far = trajectory(30, 150)
    assert not lint(far[::2], against=far[1::2])


def test_long_trajectories_are_compared_along_the_file():
    """Of more than 400 frames only those near in the file are compared; here atoms hang on springs of 1 eV/A^2."""
    generator = np.random.default_rng(2)
    home = bulk("Cu", a=3.6, cubic=True)
    away, frames = np.zeros((4, 3)), []
    for _ in range(450):
        away = 0.95 * away + generator.normal(scale=0.05, size=(4, 3))
        atoms = home.copy()
        atoms.positions += away - away.mean(axis=0)
        spring = atoms.positions - home.positions
        frames.append(
            labelled(atoms, energy=(spring**2).sum() / 2, forces=-spring, stress=np.zeros(6), config_type="md")
        )
    assert not lint(frames)
    frames[200].info[E] += 0.4
    assert lint(frames)["energy-forces"].frames == (200,)


def test_names_are_shortened():
    assert named([1, 2], ["a", "b", "c"]) == "b, c"
    assert named(range(7), list("abcdefg"), most=2) == "a, b and 5 more"
    assert worst([]) is None
