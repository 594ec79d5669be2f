"""Partitions are complete, cut no group, and leave no part empty."""

from __future__ import annotations

from collections import Counter

import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_ft_bench.datasets.partition import Grouping, parse_grouping, partition
from mace_ft_bench.errors import CardError, DataError

GROUPS = st.lists(st.sampled_from(["aimd", "elastic", "surface", "vacancy"]), min_size=12, max_size=60)
THIRDS = (0.8, 0.1, 0.1)


def frames_of(groups):
    return [Atoms("Cu", info={"config_type": group}) for group in groups]


@settings(deadline=None, max_examples=100)
@given(groups=GROUPS, by=st.sampled_from(["frame", "config_type", "trajectory", "block:3"]), seed=st.integers(0, 4))
def test_every_frame_is_in_one_part_and_groups_are_whole(groups, by, seed):
    frames = frames_of(groups)
    try:
        parted = partition(frames, parse_grouping(by), THIRDS, seed=seed)
    except DataError as error:
        assert "for 3 parts" in error.message  # noqa: PT017 - one of two outcomes
        return
    assert sorted(index for part in parted.parts for index in part) == list(range(len(frames)))
    assert all(part and list(part) == sorted(part) for part in parted.parts)
    where = {index: number for number, part in enumerate(parted.parts) for index in part}
    for group in set(parted.groups):
        assert len({where[index] for index, name in enumerate(parted.groups) if name == group}) == 1
    assert partition(frames, parse_grouping(by), THIRDS, seed=seed) == parted


def test_single_frames_are_drawn_from_every_group_alike():
    frames = frames_of(["aimd"] * 100 + ["elastic"] * 50)
    parts = partition(frames, Grouping("frame"), THIRDS, seed=1).parts
    counts = [Counter(frames[index].info["config_type"] for index in part) for part in parts]
    assert [len(part) for part in parts] == [120, 15, 15]
    assert all(abs(count["aimd"] - 2 * count["elastic"]) <= 3 for count in counts)
    assert len({partition(frames, Grouping("frame"), THIRDS, seed=seed).parts for seed in range(5)}) == 5


def test_whole_groups_come_near_the_fractions():
    sizes = {"a": 50, "b": 30, "c": 8, "d": 7, "e": 5}
    frames = frames_of([group for group, size in sizes.items() for _ in range(size)])
    parts = partition(frames, Grouping("config_type"), THIRDS, seed=0).parts
    assert len(parts[0]) == 80
    assert {len(parts[1]), len(parts[2])} == {8, 12}


def test_blocks_are_consecutive_and_stay_in_their_trajectory():
    frames = frames_of(["cold"] * 10 + ["hot"] * 10)
    groups = partition(frames, Grouping("block", size=4), (0.6, 0.4), seed=0).groups
    assert groups[:4] == ("trajectory 0, block 0",) * 4
    assert groups[8:10] == ("trajectory 0, block 2",) * 2
    assert groups[10] == "trajectory 1, block 0"


def test_gaps_are_dropped_where_parts_meet_in_time():
    frames = frames_of(["md"] * 40)
    grouping = Grouping("block", size=5, gap=2)
    parted = partition(frames, grouping, (0.7, 0.3), seed=3)
    where = {index: number for number, part in enumerate(parted.parts) for index in part}
    assert parted.dropped
    for first, part in where.items():
        for step in (1, 2):
            assert where.get(first + step, part) == part
    assert sorted([*where, *parted.dropped]) == list(range(40))


def test_another_key_groups():
    frames = frames_of(["md"] * 9)
    for number, frame in enumerate(frames):
        frame.info["run"] = number // 3
    parts = partition(frames, parse_grouping("key:run"), (0.34, 0.33, 0.33), seed=0).parts
    assert sorted(map(len, parts)) == [3, 3, 3]
    del frames[4].info["run"]
    with pytest.raises(DataError, match='Frame 4 has no "run"'):
        partition(frames, parse_grouping("key:run"), THIRDS, seed=0)


def test_some_frames_always_train():
    frames = frames_of(["md"] * 30 + ["isolated"])
    for seed in range(10):
        assert 30 in partition(frames, Grouping("frame"), (0.4, 0.3, 0.3), seed=seed, first=[30]).parts[0]


def test_without_a_first_part_they_go_into_the_next():
    frames = frames_of(["md"] * 6 + ["isolated"])
    parts = partition(frames, Grouping("frame"), (0.0, 0.5, 0.5), seed=0, first=[6]).parts
    assert parts[0] == ()
    assert 6 in parts[1]
    assert sorted(index for part in parts for index in part) == list(range(7))


def test_a_part_without_fraction_stays_empty():
    parts = partition(frames_of(["md"] * 20), Grouping("frame"), (0.9, 0.1, 0.0), seed=0).parts
    assert [len(part) for part in parts] == [18, 2, 0]


def test_too_few_groups_say_which_fraction_is_left():
    with pytest.raises(DataError, match="A fraction of 0.05 is left without frames: by config_type there are 2 groups"):
        partition(frames_of(["a", "b", "b"]), Grouping("config_type"), (0.8, 0.15, 0.05), seed=0)
    with pytest.raises(DataError, match="there is 1 group .a. for 2 parts"):
        partition(frames_of(["a", "a"]), Grouping("config_type"), (0.8, 0.2), seed=0)


def test_gaps_that_swallow_a_part():
    frames = frames_of(["md"] * 6)
    with pytest.raises(DataError, match="Gaps leave the fraction of 0.2 without frames"):
        partition(frames, Grouping("block", size=5, gap=4), (0.8, 0.2), seed=0)


@pytest.mark.parametrize(
    ("text", "gap", "match"),
    [
        ("blocks", 0, 'cannot be divided by "blocks"'),
        ("config_type:a", 0, "cannot be divided"),
        ("block", 0, "names no number"),
        ("block:-3", 0, "names no number"),
        ("block:0", 0, "no size"),
        ("block:5", 5, "gap of 5 frames does not fit"),
        ("frame", 1, "only blocks have gaps"),
        ("key:", 0, "none is named"),
    ],
)
def test_nonsense_is_refused(text, gap, match):
    with pytest.raises(CardError, match=match):
        parse_grouping(text, gap=gap)


@pytest.mark.parametrize("fractions", [(0.8, 0.1), (1.2, -0.2), (0.5, 0.6), (float("nan"), 1.0)])
def test_fractions_add_up(fractions):
    with pytest.raises(CardError, match="do not add up to one"):
        partition(frames_of(["a"] * 9), Grouping("frame"), fractions, seed=0)
