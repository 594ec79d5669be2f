"""From dataset cards and files to training frames: the test frames stay out."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

from mace_ft_bench.datasets import fetch as fetcher
from mace_ft_bench.datasets.card import DataFile, DatasetCard
from mace_ft_bench.datasets.frames import count_groups, is_same_frame, labelled, write_extxyz
from mace_ft_bench.errors import CardError, DataError, MissingDataError, UnknownNameError
from mace_ft_bench.finetune.prepare import prepare_frames

from .conftest import copper

TEST_SEEDS = (3, 7)
EARLIER = [4, 5, 16, 17, 28, 29, 34, 39]


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """Return a mirror of one set whose training file repeats its test frames, and some of its own."""
    files = {
        "train": [(seed, "hot" if seed % 2 else "cold") for seed in [*range(10), 0, 1]],
        "test": [(seed, "hot") for seed in TEST_SEEDS],
    }
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("MFB_CACHE", str(tmp_path / "cache"))
    data = []
    for split, content in files.items():
        path = folder / f"{split}.db"
        with connect(path) as writer:
            for seed, group in content:
                frame = copper(seed)
                labels = {"energy": frame.info["REF_energy"], "stress": frame.info["REF_stress"]}
                frame.calc = SinglePointCalculator(frame, forces=frame.arrays["REF_forces"], **labels)
                writer.write(frame, source=f"Cu.{group}.{seed}")
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        options = {"config_type_key": "source", "group_part": 1}
        data.append(DataFile(checksum, 1, split, "ase-db", options, url=f"https://host/{split}.db"))
    card = DatasetCard("tiny", "t", "EMT", "MIT", "c", tuple(data))
    monkeypatch.setattr(fetcher, "find_dataset", lambda _name: card)
    return folder


def among(frame, frames):
    return any(is_same_frame(frame, other) for other in frames)


def test_test_frames_and_repetitions_are_left_out(recipe, mirror):
    training, validation = prepare_frames(recipe().data, mirror=mirror)
    assert len(training) + len(validation) == 8
    for seed in range(10):
        assert among(copper(seed), training) + among(copper(seed), validation) == (seed not in TEST_SEEDS)
    assert {frame.info["config_type"] for frame in validation} == {"hot", "cold"}


def test_without_exclude_they_are_there(recipe, mirror):
    training, validation = prepare_frames(recipe(data={"exclude": []}).data, mirror=mirror)
    assert all(among(copper(seed), training + validation) for seed in range(10))


def test_the_same_recipe_gives_the_same_frames(recipe, mirror):
    first, second = (prepare_frames(recipe().data, mirror=mirror) for _ in range(2))
    assert first == second
    assert first != prepare_frames(recipe(data={"split_seed": 4}).data, mirror=mirror)


def test_wrong_sources_are_named(recipe, mirror):
    with pytest.raises(CardError, match="neither a split nor a file"):
        prepare_frames(recipe(data={"sources": ["tiny"]}).data, mirror=mirror)
    with pytest.raises(UnknownNameError, match='did you mean "train"'):
        prepare_frames(recipe(data={"sources": ["tiny:trian"]}).data, mirror=mirror)
    (mirror / "test.db").unlink()
    with pytest.raises(MissingDataError):
        prepare_frames(recipe().data, mirror=mirror)


def test_files_are_sources_too(recipe, tmp_path):
    write_extxyz([copper(seed) for seed in range(6)], tmp_path / "mine.xyz")
    write_extxyz([copper(5), copper(9)], tmp_path / "valid.xyz")
    data = recipe(
        data={"sources": [str(tmp_path / "mine.xyz")], "exclude": [], "valid": [str(tmp_path / "valid.xyz")]}
    ).data
    training, validation = prepare_frames(data)
    assert [among(copper(seed), training) for seed in range(6)] == [True] * 5 + [False]
    assert len(validation) == 2


def test_a_share_of_every_group_is_trained_on(recipe, tmp_path):
    frames = [copper(seed, config_type="hot" if seed % 2 else "cold") for seed in range(24)]
    write_extxyz(frames, tmp_path / "mine.xyz")
    changes = {"sources": [str(tmp_path / "mine.xyz")], "exclude": []}
    everything, validation = prepare_frames(recipe(data=changes).data)
    share, same = prepare_frames(recipe(data=changes | {"train_fraction": 0.5}).data)
    assert same == validation
    assert count_groups(share) == {"cold": 4, "hot": 4}
    assert all(among(frame, everything) for frame in share)


def test_shares_of_single_groups(recipe, tmp_path):
    frames = [copper(seed, config_type=("cold/1", "cold/2", "hot")[seed % 3]) for seed in range(36)]
    write_extxyz(frames, tmp_path / "mine.xyz")
    changes = {"sources": [str(tmp_path / "mine.xyz")], "exclude": []}
    whole, validation = prepare_frames(recipe(data=changes).data)
    share, same = prepare_frames(recipe(data=changes | {"group_fractions": {"cold/*": 0.34}}).data)
    assert same == validation
    assert count_groups(whole) == {"cold/1": 9, "cold/2": 9, "hot": 9}
    assert count_groups(share) == {"cold/1": 3, "cold/2": 3, "hot": 9}
    with pytest.raises(DataError, match='"warm", which no training frame is'):
        prepare_frames(recipe(data=changes | {"group_fractions": {"warm": 0.5}}).data)


def test_isolated_atoms_always_train(recipe, tmp_path):
    atom = labelled(
        Atoms("Cu", cell=[12, 12, 12], pbc=True),
        energy=3.5,
        forces=np.zeros((1, 3)),
        stress=None,
        config_type="IsolatedAtom",
    )
    write_extxyz([*(copper(seed) for seed in range(6)), atom], tmp_path / "mine.xyz")
    changes = {"sources": [str(tmp_path / "mine.xyz")], "exclude": [], "train_fraction": 0.5}
    training, validation = prepare_frames(recipe(data=changes).data)
    assert sum(len(frame) == 1 for frame in training) == 1
    assert all(len(frame) == 4 for frame in validation)


def test_files_that_cannot_be_trained_on(recipe, tmp_path):
    path = tmp_path / "mine.xyz"
    with pytest.raises(DataError, match="does not exist"):
        prepare_frames(recipe(data={"sources": [str(path)], "exclude": []}).data)
    bare = copper(0)
    del bare.info["REF_energy"], bare.arrays["REF_forces"]
    write_extxyz([copper(1), bare], path)
    with pytest.raises(DataError, match="frame 1 has neither REF_energy nor REF_forces"):
        prepare_frames(recipe(data={"sources": [str(path)], "exclude": []}).data)


def test_frames_behind_an_empty_line_are_not_lost_in_silence(recipe, tmp_path):
    path = tmp_path / "mine.xyz"
    write_extxyz([copper(seed) for seed in range(4)], path)
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{text}\n{text}", encoding="utf-8")
    with pytest.raises(DataError, match="goes on after an empty line behind 4 frames"):
        prepare_frames(recipe(data={"sources": [str(path)], "exclude": []}).data)


@pytest.fixture
def hot_and_cold(tmp_path):
    """Return a file of two runs of 20 frames."""
    frames = [copper(seed, config_type="hot" if seed < 20 else "cold") for seed in range(40)]
    write_extxyz(frames, tmp_path / "mine.xyz")
    return {"sources": [str(tmp_path / "mine.xyz")], "exclude": []}


def places(frames):
    """Return which of the 40 frames these are."""
    return [next(seed for seed in range(40) if is_same_frame(frame, copper(seed))) for frame in frames]


def test_blocks_of_time_validate(recipe, hot_and_cold):
    data = recipe(data=hot_and_cold | {"split_by": "block", "split_block": 5, "valid_fraction": 0.25}).data
    training, validation = prepare_frames(data)
    assert sorted(places(training) + places(validation)) == list(range(40))
    blocks = {place // 5 for place in places(validation)}
    assert sorted(places(validation)) == sorted(5 * block + step for block in blocks for step in range(5))
    assert {block < 4 for block in blocks} == {True, False}  # hot and cold
    assert prepare_frames(data)[1] == validation


def test_whole_groups_validate(recipe, hot_and_cold):
    data = recipe(data=hot_and_cold | {"split_by": "config_type", "valid_fraction": 0.4}).data
    training, validation = prepare_frames(data)
    assert {len(count_groups(training)), len(count_groups(validation))} == {1}
    assert len(validation) == 20


def test_the_split_by_frame_is_what_it_was(recipe, hot_and_cold):
    """Runs of earlier releases resume only if their frames are the same."""
    _, validation = prepare_frames(recipe(data=hot_and_cold | {"valid_fraction": 0.2, "split_seed": 1}).data)
    assert places(validation) == EARLIER


@pytest.mark.parametrize("label", ["REF_energy", "REF_forces", "REF_stress"])
def test_labels_that_are_no_numbers_are_named(recipe, tmp_path, label):
    frames = [copper(seed) for seed in range(4)]
    labels = frames[2].arrays if label == "REF_forces" else frames[2].info
    labels[label] = labels[label] * np.nan
    write_extxyz(frames, tmp_path / "a.xyz")
    with pytest.raises(DataError, match=f"frame 2: {label} is not finite"):
        prepare_frames(recipe(data={"sources": [str(tmp_path / "a.xyz")], "exclude": []}).data)


def test_a_share_of_frames_that_are_alone_in_their_groups(recipe, tmp_path):
    write_extxyz([copper(seed, f"c{max(seed, 5)}") for seed in range(16)], tmp_path / "a.xyz")
    data = {"sources": [str(tmp_path / "a.xyz")], "exclude": [], "train_fraction": 0.5}
    training, validation = prepare_frames(recipe(data=data).data)
    groups = count_groups(training)
    assert sum(count for name, count in groups.items() if name != "c5") == 5
    assert groups["c5"] == 2
    assert len(validation) == 2


def test_excluded_frames_neither_validate_nor_replay(recipe, tmp_path):
    from mace_ft_bench.finetune.config import MultiheadReplay
    from mace_ft_bench.finetune.parent import Parent
    from mace_ft_bench.finetune.prepare import replay_frames

    frames = [copper(seed) for seed in range(12)]
    for name, part in {"all": frames, "test": frames[:3], "valid": frames[1:6]}.items():
        write_extxyz(part, tmp_path / f"{name}.xyz")
    data = {name: [str(tmp_path / f"{file}.xyz")] for name, file in FILES.items()}
    training, validation = prepare_frames(recipe(data=data).data)
    assert len(training) == 6
    assert len(validation) == 3
    strategy = MultiheadReplay("multihead-replay", "p", (str(tmp_path / "all.xyz"),), 7)
    parent = Parent("p", "", None, {"Cu": 0.0})
    replayed = replay_frames(strategy, parent, 1, of=[*frames[:3], *validation][:5])
    assert not any(among(frame, frames[:5]) for frame in replayed)


FILES = {"sources": "all", "exclude": "test", "valid": "valid"}
