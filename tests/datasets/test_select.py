"""Choosing frames: the greedy rule itself, the distance between frames, strata, and what is refused."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_ft_bench.datasets import select
from mace_ft_bench.datasets.select import (
    Environments,
    coverage,
    environments,
    farthest_points,
    pooled,
    random_frames,
    shares,
    strata_of,
    stratified_frames,
)
from mace_ft_bench.errors import CardError, DataError, UnknownNameError


def points(values):
    """Return frames of one vector each."""
    rows = np.asarray(values, dtype=float).reshape(len(values), -1)
    return Environments(rows, np.zeros(len(rows), dtype=int), np.arange(len(rows)))


def some(seed, frames=12, features=5):
    """Return frames of several atoms of two elements, and their descriptors."""
    generator = np.random.default_rng(seed)
    structures = [Atoms(generator.choice([14, 42], size=generator.integers(1, 7))) for _ in range(frames)]
    return structures, [generator.normal(size=(len(atoms), features)) for atoms in structures]


def hausdorff(structures, descriptors, frame, chosen):
    """Return the distance of a frame from chosen ones, by the definition."""
    distances = []
    for number, row in zip(structures[frame].numbers, descriptors[frame], strict=True):
        same = [
            np.linalg.norm(row - other)
            for index in chosen
            for kind, other in zip(structures[index].numbers, descriptors[index], strict=True)
            if kind == number
        ]
        distances.append(min(same, default=np.inf))
    return max(distances)


def test_farthest_points_of_a_line():
    assert farthest_points(points([0, 1, 2, 3, 10]), 4, start=0) == [0, 4, 3, 1]
    assert farthest_points(points([0, 1, 2, 3, 10]), 2) == [3, 4]  # the mean of all is 3.2; 4 lies 7 away
    assert farthest_points(points([-1, 0, 1]), 3, start=1) == [1, 0, 2]  # a tie goes to the earlier frame


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**20))
def test_every_choice_is_the_farthest_by_the_definition(seed):
    structures, descriptors = some(seed)
    found = environments(structures, descriptors)
    chosen = farthest_points(found, 8, start=3)
    assert chosen[0] == 3
    assert len(set(chosen)) == 8
    for step in range(1, 8):
        rest = [frame for frame in range(12) if frame not in chosen[:step]]
        distances = {frame: hausdorff(structures, descriptors, frame, chosen[:step]) for frame in rest}
        assert distances[chosen[step]] == pytest.approx(max(distances.values()))
    rest = [frame for frame in range(12) if frame not in chosen]
    expected = [hausdorff(structures, descriptors, frame, chosen) for frame in rest]
    covered = coverage(found, chosen)
    assert covered.largest == pytest.approx(max(expected))
    assert covered.mean == pytest.approx(np.mean(expected))
    assert covered.farthest == rest[int(np.argmax(expected))]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**20), count=st.integers(1, 4))
def test_the_largest_distance_is_at_most_twice_the_best(seed, count):
    cloud = points(np.random.default_rng(seed).normal(size=(9, 2)))
    best = min(coverage(cloud, chosen).largest for chosen in combinations(range(9), count))
    assert coverage(cloud, farthest_points(cloud, count)).largest <= 2 * best + 1e-12


def test_one_foreign_atom_among_many_is_found_which_a_mean_would_hide():
    generator = np.random.default_rng(1)
    structures = [Atoms("Mo100") for _ in range(6)]
    descriptors = [generator.normal(scale=0.1, size=(100, 3)) for _ in range(6)]
    descriptors[3] += [0.3, 0.0, 0.0]  # all atoms a bit different
    descriptors[4][17] += [2.0, 0.0, 0.0]  # one atom very different
    found = environments(structures, descriptors)
    assert farthest_points(found, 2, start=0)[1] == 4
    assert farthest_points(pooled(found), 2, start=0)[1] == 3


def test_pooling_is_per_element_and_zero_where_there_is_none():
    structures = [Atoms("SiMoMo"), Atoms("Si")]
    found = environments(structures, [np.array([[1.0, -1], [2, -2], [4, -6]]), np.array([[-3.0, 5]])])
    np.testing.assert_array_equal(pooled(found).descriptors, [[1, -1, 3, -4], [-3, 5, 0, 0]])
    np.testing.assert_array_equal(pooled(found, "max").descriptors, [[1, -1, 4, -2], [-3, 5, 0, 0]])


def test_a_new_element_is_infinitely_far():
    found = environments([Atoms("Mo"), Atoms("Mo"), Atoms("Si")], [np.array([[value]]) for value in (0.0, 9.0, 0.0)])
    assert farthest_points(found, 2, start=0) == [0, 2]
    assert coverage(found, [0, 1]).largest == np.inf


def test_choosing_does_not_depend_on_the_size_of_blocks(monkeypatch):
    structures, descriptors = some(5, frames=20)
    expected = farthest_points(environments(structures, descriptors), 10)
    monkeypatch.setattr(select, "_BLOCK", 7)
    assert farthest_points(environments(structures, descriptors), 10) == expected


def test_coverage_of_all_frames_is_complete():
    assert coverage(points([0, 1]), [1, 0]) == select.Coverage(0.0, 0.0, None)


def test_repeated_frames_are_not_chosen():
    cloud = points([[5.0, 1], [5, 1 + 1e-9], [7, 1], [5, 1]])
    assert farthest_points(cloud, 2) == [0, 2]
    with pytest.raises(DataError, match="Only 2 of 4 frames differ.*To fix: ask for 2"):
        farthest_points(cloud, 3)


@pytest.mark.parametrize("count", [0, -1, 4])
def test_counts_that_cannot_be_met_are_refused(count):
    for choose in (
        lambda: farthest_points(points([1, 2, 3]), count),
        lambda: random_frames(3, count, seed=0),
        lambda: stratified_frames(["a", "a", "b"], count, seed=0),
    ):
        with pytest.raises(CardError, match=f"{count} of 3 frames cannot be chosen.*To fix: ask for 1 to 3"):
            choose()


@pytest.mark.parametrize("start", [-1, 3])
def test_a_start_that_is_no_frame_is_refused(start):
    with pytest.raises(CardError, match=f"no frame {start} to start from.*0 to 2"):
        farthest_points(points([1, 2, 3]), 2, start=start)


@pytest.mark.parametrize(
    ("structures", "descriptors", "message"),
    [
        ([], [], "0 descriptors do not fit 0 frames"),
        ([Atoms("Mo")], [], "0 descriptors do not fit 1 frames"),
        ([Atoms("Mo"), Atoms("Mo2")], [np.ones((1, 2)), np.ones((1, 2))], r"Frame 1 has 2 atoms .* \(1, 2\)"),
        ([Atoms("Mo"), Atoms("Mo")], [np.ones((1, 2)), np.ones((1, 3))], r"Frame 1 .* \(1, 3\)"),
        ([Atoms("Mo")], [np.ones(1)], r"Frame 0 .* \(1,\)"),
        ([Atoms()], [np.ones((0, 2))], "Frame 0 has 0 atoms"),
        ([Atoms("Mo")], [np.array([[np.nan]])], "A descriptor of frame 0 is not finite"),
    ],
)
def test_descriptors_that_do_not_fit_are_refused(structures, descriptors, message):
    with pytest.raises(DataError, match=f"{message}.*To fix"):
        environments(structures, descriptors)


def test_random_frames_are_reproducible_and_fair():
    assert random_frames(50, 10, seed=1) == random_frames(50, 10, seed=1) != random_frames(50, 10, seed=2)
    assert len(set(random_frames(50, 50, seed=0))) == 50
    counts = np.bincount(np.concatenate([random_frames(5, 2, seed=seed) for seed in range(1000)]))
    np.testing.assert_allclose(counts, 400, atol=4 * np.sqrt(1000 * 0.4 * 0.6))


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8), data=st.data())
def test_shares_are_as_even_as_sizes_allow(sizes, data):
    named = {f"s{index}": size for index, size in enumerate(sizes)}
    count = data.draw(st.integers(1, sum(sizes)))
    given_ = shares(named, count)
    assert sum(given_.values()) == count
    most = max(given_.values())
    for name, size in named.items():
        assert given_[name] <= size
        assert given_[name] in {size, most, most - 1}


def test_stratified_frames_give_rare_groups_their_share():
    strata = ["bulk"] * 90 + ["surface"] * 8 + ["vacancy"] * 2
    chosen = stratified_frames(strata, 20, seed=3)
    assert chosen == stratified_frames(strata, 20, seed=3) != stratified_frames(strata, 20, seed=4)
    assert [sum(strata[index] == name for index in chosen) for name in ("bulk", "surface", "vacancy")] == [10, 8, 2]


def frame(a, energy=None, config_type=None):
    atoms = bulk("Mo", a=a, cubic=True)
    atoms.info = {
        key: value for key, value in (("REF_energy", energy), ("config_type", config_type)) if value is not None
    }
    return atoms


def test_strata_by_group_energy_and_volume():
    frames = [frame(3.0, -2.0, "x"), frame(3.1, -4.0, "y"), frame(3.3, -3.9, "x"), frame(3.3, -3.0, "z")]
    assert strata_of(frames, "config_type") == ["x", "y", "x", "z"]
    assert strata_of(frames, "energy", bins=2) == ["energy 1", "energy 0", "energy 0", "energy 1"]
    assert strata_of(frames, "volume", bins=3) == ["volume 0", "volume 0", "volume 2", "volume 2"]
    assert len(set(strata_of(frames, "volume", bins=1))) == 1
    doubled = [frames[0], frames[1] * 2]
    doubled[1].info = {"REF_energy": -32.0 + 2e-9}
    assert len(set(strata_of([*doubled, frame(3.0, -4.0)], "energy", bins=2))) == 2


@pytest.mark.parametrize(
    ("frames", "by", "message"),
    [
        ([frame(3.1, config_type="a"), frame(3.1)], "config_type", "Frame 1 has no config_type"),
        ([frame(3.1, 1.0), frame(3.1)], "energy", "Frame 1 has no REF_energy"),
        ([frame(3.1, 1.0), frame(3.1, np.nan)], "energy", "The energy of frame 1 is nan"),
        ([frame(3.1), Atoms("Mo")], "volume", "Frame 1 has no volume"),
    ],
)
def test_frames_without_what_strata_need_are_refused(frames, by, message):
    with pytest.raises(DataError, match=f"{message}.*To fix"):
        strata_of(frames, by)


def test_unknown_strata_and_no_bins_are_refused():
    with pytest.raises(UnknownNameError, match='"energies".*did you mean "energy"'):
        strata_of([frame(3.1)], "energies")
    with pytest.raises(CardError, match="0 bins make no sense"):
        strata_of([frame(3.1)], "volume", bins=0)
