"""Neighbour lists against a brute-force sum over images, fresh and reused."""

from __future__ import annotations

import copy
import logging
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, graphene, molecule
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mace_ft_bench.calculators.graph import pair_table, search_pairs
from mace_ft_bench.calculators.neighbors import NeighborList, SkinSettings, SkinTracker
from mace_ft_bench.calculators.small_cells import find_pairs, find_small
from mace_ft_bench.errors import StructureError, UnknownNameError

RIM = 1e-7
"""Pairs this close to the cutoff [Angstrom] may be judged either way by two programs."""


def images(atoms, cutoff):
    """Return every shift that can matter, by the distance between lattice planes and the extent of the atoms."""
    cell = atoms.cell.complete().array
    heights = np.abs(np.linalg.det(cell)) / np.linalg.norm(
        np.cross(np.roll(cell, -1, axis=0), np.roll(cell, -2, axis=0)), axis=1
    )
    scaled = atoms.positions @ np.linalg.inv(cell)
    reach = np.ceil(cutoff / heights + np.ptp(scaled, axis=0)).astype(int) * atoms.pbc
    axes = [np.arange(-n, n + 1) for n in reach]
    return np.array(np.meshgrid(*axes, indexing="ij")).reshape(3, -1).T


def brute_force(atoms, cutoff):
    """Return {(first, second, shift): vector} of all pairs within the cutoff."""
    found = {}
    for shift in images(atoms, cutoff):
        vectors = atoms.positions[None] + shift @ atoms.cell.array - atoms.positions[:, None]
        near = np.linalg.norm(vectors, axis=2) <= cutoff
        if not shift.any():
            np.fill_diagonal(near, val=False)
        for i, j in zip(*np.nonzero(near), strict=True):
            found[int(i), int(j), tuple(shift.tolist())] = vectors[i, j]
    return found


def as_dict(pairs):
    keys = zip(pairs.first.tolist(), pairs.second.tolist(), map(tuple, pairs.shifts.tolist()), strict=True)
    found = dict(zip(keys, pairs.vectors, strict=True))
    assert len(found) == len(pairs.first), "a pair is listed twice"
    return found


def assert_same_pairs(found, expected, cutoff):
    for key in set(found) ^ set(expected):
        vector = found[key] if key in found else expected[key]
        assert abs(np.linalg.norm(vector) - cutoff) < RIM, f"{key} {vector} is on one list only"
    for key in set(found) & set(expected):
        np.testing.assert_allclose(found[key], expected[key], atol=1e-10)


def assert_right(pairs, atoms, cutoff):
    assert_same_pairs(as_dict(pairs), brute_force(atoms, cutoff), cutoff)
    np.testing.assert_allclose(pairs.distances, np.linalg.norm(pairs.vectors, axis=1), atol=1e-12)
    assert (pairs.distances <= cutoff).all()


@st.composite
def structures(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pbc = draw(st.tuples(*[st.booleans()] * 3))
    lengths = [draw(st.sampled_from([1.2, 2.5, 4.0, 7.0, 80.0])) for _ in range(3)]
    shear = draw(st.sampled_from([0.0, 0.2, 0.6]))
    cell = np.diag(lengths) @ (np.eye(3) + shear * rng.uniform(-1, 1, (3, 3)))
    assume(1 / np.linalg.norm(np.linalg.inv(cell), axis=0).max() > 0.8)  # flatter cells have too many images to sum
    atoms = Atoms(f"H{draw(st.integers(1, 6))}", cell=cell, pbc=pbc)
    atoms.set_scaled_positions(rng.uniform(-0.3, 1.3, (len(atoms), 3)))
    if draw(st.booleans()):
        atoms.positions += draw(st.sampled_from([0.0, 13.0, -200.0]))
    return atoms


@pytest.mark.parametrize("skin", [0.0, 0.7])
@settings(max_examples=60, deadline=None)
@given(atoms=structures(), cutoff=st.sampled_from([0.5, 2.0, 3.3]))
def test_against_images(skin, atoms, cutoff):
    listed = NeighborList(cutoff, SkinSettings(skin=skin))
    assert_right(listed.update(atoms), atoms, cutoff)
    half = as_dict(NeighborList(cutoff, SkinSettings(skin=skin), half=True).update(atoms))
    mirrored = {(j, i, tuple(-n for n in shift)): -vector for (i, j, shift), vector in half.items()}
    assert not set(mirrored) & set(half)
    assert_same_pairs(mirrored | half, brute_force(atoms, cutoff), cutoff)


@settings(max_examples=40, deadline=None)
@given(
    atoms=structures(),
    seed=st.integers(0, 2**32 - 1),
    step=st.sampled_from([0.01, 0.1, 0.4]),
    strain=st.sampled_from([0, 0.01, 0.1]),
)
def test_reused_lists_are_complete(atoms, seed, step, strain):
    """Moving atoms and cells: every update equals a search from scratch."""
    cutoff, rng = 2.0, np.random.default_rng(seed)
    listed = NeighborList(cutoff, SkinSettings(skin=0.6))
    for _ in range(6):
        assert_right(listed.update(atoms), atoms, cutoff)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain * rng.uniform(-1, 1, (3, 3))), scale_atoms=True)
        atoms.positions += step * rng.uniform(-1, 1, atoms.positions.shape)
    assert listed.dangerous_builds == 0


SPECIAL = {
    "molecule without a cell": molecule("CH3CH2OH"),
    "one atom in a small cell": bulk("Cu"),
    "slab with a vacuum of 80 Å": fcc111("Al", (2, 2, 3), vacuum=40.0),
    "slab without a third cell vector": graphene(size=(2, 2, 1), vacuum=None),
    "slab in a periodic box": Atoms("C4", positions=graphene(size=(2, 1, 1)).positions, cell=[5, 5, 80], pbc=True),
    "huge cell": Atoms("H3", positions=[[0, 0, 0], [0, 0, 1], [9999.5, 0, 0]], cell=[1e4] * 3, pbc=True),
    "huge molecule": Atoms("H3", positions=[[0, 0, 0], [0, 0, 1], [1e5, 0, 0]]),
    "one atom": Atoms("H"),
    "two atoms out of reach": Atoms("H2", positions=[[0, 0, 0], [50, 0, 0]]),
    "wire": Atoms("Au2", positions=[[0, 0, 0], [0.3, 0, 2.5]], cell=[0, 0, 5], pbc=[False, False, True]),
    "left-handed cell": Atoms("Au2", positions=[[0, 0, 0], [2, 2, 2]], cell=[[0, 3, 0], [3, 0, 1], [0, 0, 4]], pbc=1),
}


def test_sparse_structures_take_no_time():
    """Searched at the cutoff they take a second."""
    rng = np.random.default_rng(0)
    atoms = Atoms("H5", positions=rng.uniform(0, 80, (5, 3)), cell=[80] * 3, pbc=[True, False, False])
    start = time.perf_counter()
    assert_right(NeighborList(2.0, SkinSettings(skin=0.0)).update(atoms), atoms, 2.0)
    assert time.perf_counter() - start < 0.3


@pytest.mark.parametrize("skin", [0.0, 0.5])
@pytest.mark.parametrize("name", SPECIAL)
def test_special_structures(name, skin):
    atoms, cutoff = SPECIAL[name].copy(), 4.0
    listed = NeighborList(cutoff, SkinSettings(skin=skin))
    assert_right(listed.update(atoms), atoms, cutoff)
    atoms.rattle(0.05)
    assert_right(listed.update(atoms), atoms, cutoff)


def crystal():
    atoms = bulk("Cu", cubic=True) * 2
    atoms.rattle(0.02, seed=3)
    return atoms


def test_uniform_shifts_and_small_moves_cost_no_build():
    atoms, listed = crystal(), NeighborList(4.0, SkinSettings(skin=0.5))
    listed.update(atoms)
    for _ in range(5):
        atoms.positions += [0.7, 0.0, 0.1]
        atoms.rattle(0.01, seed=1)
        listed.update(atoms)
    assert (listed.builds, listed.updates) == (1, 6)


def test_uniform_strain_uses_up_little_of_the_skin():
    atoms, listed = crystal(), NeighborList(4.0, SkinSettings(skin=0.5))
    for _ in range(5):
        listed.update(atoms)
        atoms.set_cell(0.99 * atoms.cell.array, scale_atoms=True)
    assert listed.builds == 1


def test_expansion_does_not_excuse_shorter_lists():
    """A pair 4.5 Å apart that comes within 3.1 Å is not on a list for 3.1 + 1 Å, though it is on one for 12 + 1 Å."""
    tracker = SkinTracker(12.0, SkinSettings(skin=1.0))
    atoms = Atoms("H9", positions=[[4.5 * n, 0, 0] for n in range(9)], cell=[40.5] * 3, pbc=True)
    assert tracker.must_build(atoms)
    atoms.set_cell(1.07 * atoms.cell.array, scale_atoms=True)
    atoms.positions[0, 0] += 1.75
    assert np.linalg.norm(atoms.positions[1] - atoms.positions[0]) < 3.1
    assert tracker.must_build(atoms)


def changed(what):
    atoms = crystal()
    if what == "element":
        atoms.numbers[0] = 47
    elif what == "pbc":
        atoms.pbc = [True, True, False]
    elif what == "atom fewer":
        del atoms[3]
    elif what == "leap":
        atoms.positions[0] += [0, 0, 3]
    elif what == "order":
        atoms = atoms[::-1]
    elif what == "cell without its atoms":
        atoms.set_cell(1.5 * atoms.cell.array)
    return atoms


@pytest.mark.parametrize("what", ["element", "pbc", "atom fewer", "leap", "order", "cell without its atoms"])
def test_other_structures_are_noticed_even_under_delay(what):
    listed = NeighborList(4.0, SkinSettings(skin=0.5, delay=1000))
    listed.update(crystal())
    assert_right(listed.update(changed(what)), changed(what), 4.0)
    assert (listed.builds, listed.dangerous_builds) == (2, 0)


def test_a_change_of_rank_builds_anew():
    atoms, listed = molecule("CH4"), NeighborList(2.0)
    listed.update(atoms)
    atoms.cell = [9, 9, 9]
    listed.update(atoms)
    assert listed.builds == 2


def run(listed, steps, per_step=0.06):
    """Two atoms drift apart, each by ``per_step`` a step; return the steps with builds."""
    atoms, built = Atoms("H2", positions=[[0, 0, 0], [1.0, 0, 0]]), []
    for step in range(steps):
        before = listed.builds
        listed.update(atoms)
        if listed.builds > before:
            built.append(step)
        atoms.positions[:, 0] += [-per_step, per_step]
    return built


@pytest.mark.parametrize(
    ("options", "built"),
    [
        ({}, [0, 5, 10, 15]),
        ({"check": False}, list(range(20))),
        ({"check": False, "every": 4}, [0, 4, 8, 12, 16]),
        ({"check": False, "delay": 6}, [0, 6, 12, 18]),
        ({"check": False, "every": 4, "delay": 6}, [0, 8, 16]),
        ({"delay": 3}, [0, 5, 10, 15]),
        ({"every": 3}, [0, 6, 12, 18]),
        ({"every": 2, "on_dangerous": "rebuild"}, [0, 5, 10, 15]),
    ],
)
def test_every_delay_and_check_as_in_lammps(options, built):
    assert run(NeighborList(3.0, SkinSettings(skin=0.5, **options)), 20) == built


def test_late_builds_are_counted_and_warned_of_once(caplog):
    listed = NeighborList(3.0, SkinSettings(skin=0.5, delay=7))
    with caplog.at_level(logging.WARNING, logger="mace_ft_bench"):
        assert run(listed, 20) == [0, 7, 14]
    assert listed.dangerous_builds == 2
    assert [record.message.count("To fix") for record in caplog.records] == [1]


def test_late_builds_can_be_made_at_once():
    listed = NeighborList(3.0, SkinSettings(skin=0.5, delay=7, on_dangerous="rebuild"))
    assert run(listed, 20) == [0, 5, 10, 15]
    assert listed.dangerous_builds == 3


def test_late_builds_can_be_refused():
    with pytest.raises(StructureError, match="5 updates after.*To fix: enlarge the skin"):
        run(NeighborList(3.0, SkinSettings(skin=0.5, delay=7, on_dangerous="raise")), 20)


def test_candidates_hold_all_pairs_and_are_shared():
    atoms, listed = crystal(), NeighborList(4.0, SkinSettings(skin=0.5), half=True)
    stored = listed.candidates(atoms)
    assert stored.first.dtype == stored.second.dtype == stored.shifts.dtype == np.int32
    atoms.rattle(0.01, seed=5)
    assert listed.candidates(atoms) is stored
    wide = set(zip(stored.first.tolist(), stored.second.tolist(), map(tuple, stored.shifts.tolist()), strict=True))
    assert set(as_dict(listed.update(atoms))) < wide


def test_no_skin_stores_nothing_but_gives_the_same():
    atoms = crystal()
    fresh, kept = NeighborList(4.0, SkinSettings(skin=0.0)), NeighborList(4.0)
    for _ in range(3):
        assert_same_pairs(as_dict(fresh.update(atoms)), as_dict(kept.update(atoms)), 4.0)
        atoms.rattle(0.01, seed=7)
    assert (fresh.builds, kept.builds) == (3, 1)


def through_pickle(listed):
    return pickle.loads(pickle.dumps(listed))  # noqa: S301 - our own bytes


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, through_pickle])
def test_copies_are_empty_lists_of_the_same_settings(clone):
    listed = NeighborList(3.0, SkinSettings(skin=0.2, every=2), half=True)
    listed.update(crystal())
    other = clone(listed)
    assert (other.cutoff, other.settings, other.half, other.builds) == (3.0, listed.settings, True, 0)
    np.testing.assert_array_equal(other.update(crystal()).distances, listed.update(crystal()).distances)


def test_reset_forgets_the_list_but_not_the_counts():
    listed = NeighborList(3.0)
    listed.update(crystal())
    listed.reset()
    listed.update(crystal())
    assert (listed.builds, listed.updates, listed.dangerous_builds) == (2, 2, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"skin": -0.1}, "skin = -0.1 Å.*To fix"),
        ({"skin": np.nan}, "skin = nan"),
        ({"skin": np.inf}, "skin = inf"),
        ({"every": 0}, "every = 0.*To fix"),
        ({"delay": -1}, "delay = -1.*To fix"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        SkinSettings(**options)


def test_bad_names_and_cutoffs():
    with pytest.raises(UnknownNameError, match='did you mean "rebuild"'):
        SkinSettings(on_dangerous="rebiuld")
    for cutoff in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="To fix"):
            NeighborList(cutoff)


def test_importing_is_cheap():
    code = "import sys, mace_ft_bench.calculators.neighbors; print({'torch', 'numba', 'vesin'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def as_set(table, *, longer_than=0.0, atoms=None):
    first = np.repeat(np.arange(len(table.first_pair) - 1), np.diff(table.first_pair))
    pairs = [(int(i), int(j), *map(int, shift)) for i, j, shift in zip(first, table.sender, table.shift, strict=True)]
    assert len(set(pairs)) == len(pairs), "a pair is listed twice"
    if atoms is None:
        return set(pairs)
    vectors = atoms.positions[table.sender] + table.shift @ atoms.cell.array - atoms.positions[first]
    return {pair for pair, d in zip(pairs, np.linalg.norm(vectors, axis=1), strict=True) if d < longer_than}


@settings(max_examples=60, deadline=None)
@given(frames=st.lists(structures(), min_size=1, max_size=4), cutoff=st.sampled_from([0.5, 2.0, 3.3]))
def test_many_at_once_equal_the_search_one_by_one(frames, cutoff):
    search = NeighborList(cutoff, SkinSettings(skin=0))
    for atoms, table in zip(frames, search_pairs(frames, cutoff), strict=True):
        single = pair_table(search.search(atoms), len(atoms))
        inside = {"longer_than": cutoff - RIM, "atoms": atoms}
        assert as_set(table, **inside) == as_set(single, **inside)
        assert as_set(table) <= as_set(pair_table(NeighborList(cutoff + RIM).search(atoms), len(atoms)))


def test_small_are_periodic_cells_of_few_atoms():
    slab = bulk("Cu", cubic=True)
    slab.pbc = [True, True, False]
    frames = [molecule("H2O"), bulk("Cu"), slab, bulk("Cu", cubic=True) * 6, bulk("Mo", cubic=True)]
    assert find_small(frames, 5.0) == [1, 4]
    assert find_small([], 5.0) == []
    assert find_pairs([], 5.0) == []


def test_a_cell_without_any_pair():
    far = Atoms("H", cell=[9, 9, 9], pbc=True)
    first, sender, shift = find_pairs([far, bulk("Cu")], 3.0)[0]
    assert first.tolist() == [0, 0]
    assert sender.shape == (0,)
    assert shift.shape == (0, 3)
    assert len(find_pairs([far], 3.0)[0][1]) == 0
