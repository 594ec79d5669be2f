"""From dataset cards and files to training frames: the test frames stay out."""

from __future__ import annotations

import hashlib

import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

from mace_ft_bench.datasets import fetch as fetcher
from mace_ft_bench.datasets.card import DataFile, DatasetCard
from mace_ft_bench.datasets.frames import is_same_frame
from mace_ft_bench.errors import CardError, MissingDataError, UnknownNameError
from mace_ft_bench.finetune.prepare import prepare_frames

from .conftest import copper

TEST_SEEDS = (3, 7)


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
        options = {"config_type_key": "source"}
        data.append(DataFile(f"https://host/{split}.db", checksum, 1, split, "ase-db", options))
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
    with pytest.raises(CardError, match="names no split"):
        prepare_frames(recipe(data={"sources": ["tiny"]}).data, mirror=mirror)
    with pytest.raises(UnknownNameError, match='did you mean "train"'):
        prepare_frames(recipe(data={"sources": ["tiny:trian"]}).data, mirror=mirror)
    (mirror / "test.db").unlink()
    with pytest.raises(MissingDataError):
        prepare_frames(recipe().data, mirror=mirror)
