"""Splits are deterministic, complete and by group."""

from __future__ import annotations

from collections import Counter

import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_ft_bench.datasets.split import split_by_group
from mace_ft_bench.errors import CardError

GROUPS = st.lists(st.sampled_from(["aimd", "elastic", "surface", "vacancy"]), max_size=40)
FRACTIONS = st.floats(0.01, 0.99)


def frames_of(groups):
    return [Atoms("Cu", info={"config_type": group, "number": number}) for number, group in enumerate(groups)]


def numbers(frames):
    return [frame.info["number"] for frame in frames]


def groups_of(frames):
    return Counter(frame.info["config_type"] for frame in frames)


@settings(deadline=None, max_examples=100)
@given(groups=GROUPS, fraction=FRACTIONS, seed=st.integers(0, 5))
def test_a_split_is_complete_disjoint_ordered_and_repeatable(groups, fraction, seed):
    frames = frames_of(groups)
    training, validation = split_by_group(frames, fraction=fraction, seed=seed)
    assert sorted(numbers(training) + numbers(validation)) == list(range(len(frames)))
    assert numbers(training) == sorted(numbers(training))
    assert numbers(validation) == sorted(numbers(validation))
    again = split_by_group(frames_of(groups), fraction=fraction, seed=seed)
    assert [numbers(part) for part in again] == [numbers(training), numbers(validation)]


@settings(deadline=None, max_examples=100)
@given(groups=GROUPS, fraction=FRACTIONS)
def test_every_group_trains_and_every_group_of_two_validates(groups, fraction):
    training, validation = split_by_group(frames_of(groups), fraction=fraction, seed=1)
    assert set(groups_of(training)) == set(groups)
    for group, count in Counter(groups).items():
        held_out = groups_of(validation)[group]
        assert held_out == min(max(1, round(fraction * count)), count - 1)
    assert set(groups_of(validation)) == {group for group, count in Counter(groups).items() if count > 1}


def test_another_seed_is_another_split():
    frames = frames_of(["aimd"] * 40)
    splits = {tuple(numbers(split_by_group(frames, fraction=0.2, seed=seed)[1])) for seed in range(5)}
    assert len(splits) == 5


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_fraction_outside_zero_and_one_is_a_card_error(fraction):
    with pytest.raises(CardError, match="not between 0 and 1"):
        split_by_group(frames_of(["aimd"]), fraction=fraction, seed=1)
