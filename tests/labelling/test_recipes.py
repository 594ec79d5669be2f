"""The structures of the recipes for DFT: what is in them, and that no two atoms lie on each other."""

from __future__ import annotations

import importlib.util
from collections import Counter

import numpy as np
import pytest

from mace_ft_bench.paths import PACKAGE


def recipe(name):
    spec = importlib.util.spec_from_file_location(name, PACKAGE.parent / "recipes" / "dft" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shortest(atoms):
    distances = atoms.get_all_distances(mic=True)
    return distances[np.triu_indices(len(atoms), 1)].min()


@pytest.mark.parametrize("name", ["licl", "mgo"])
def test_crystals(name):
    frames = recipe("structures").frames_of(name)
    assert len(frames) == 28
    assert Counter(frame.info["config_type"] for frame in frames)["energy-volume"] == 7
    again = recipe("structures").frames_of(name)
    for frame, same in zip(frames, again, strict=True):
        assert np.array_equal(frame.positions, same.positions)
        assert shortest(frame) > 1.5
    (first, second) = recipe("structures").frames_of(f"{name}-atoms")
    assert len(first) == len(second) == 1


def test_graphene_and_water_begin_apart():
    water = recipe("graphene_water")
    starts = [water.start(index, np.random.default_rng(index)) for index in range(20)]
    found = Counter("".join(sorted(set(atoms.symbols))) for atoms in starts)
    assert found == {"CHO": 14, "HO": 4, "C": 2}
    for atoms in starts:
        assert shortest(atoms) > 0.9
        carbon = atoms[[atom.index for atom in atoms if atom.symbol == "C"]]
        oxygen = [atom for atom in atoms if atom.symbol == "O"]
        if len(carbon):
            assert len(carbon) == 16
            assert shortest(carbon) == pytest.approx(water.LATTICE_CONSTANT / 3**0.5, rel=0.025)
        if len(carbon) and oxygen:
            assert min(atom.z for atom in oxygen) - carbon.positions[:, 2].max() > 2.8
            top = max(atoms.positions[:, 2])
            assert carbon.positions[:, 2].min() + atoms.cell[2, 2] - top > 5.0
