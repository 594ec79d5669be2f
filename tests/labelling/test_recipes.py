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
    return distances[np.triu_indices(len(atoms), 1)].min(initial=np.inf)


@pytest.mark.parametrize(("name", "number"), [("licl", 28), ("mgo", 28), ("si", 32)])
def test_crystals(name, number):
    frames = recipe("structures").frames_of(name)
    assert len(frames) == number
    assert Counter(frame.info["config_type"] for frame in frames)["energy-volume"] == 7
    again = recipe("structures").frames_of(name)
    for frame, same in zip(frames, again, strict=True):
        assert np.array_equal(frame.positions, same.positions)
        assert shortest(frame) > 1.5
    symbols = {symbol for frame in frames for symbol in frame.symbols}
    atoms = recipe("structures").frames_of(f"{name}-atoms")
    assert {str(atom.symbols) for atom in atoms} == symbols


def test_graphene_and_water_begin_apart():
    water = recipe("graphene_water")
    starts = [water.start(index, np.random.default_rng(index)) for index in range(20)]
    found = Counter("".join(sorted(set(atoms.symbols))) for atoms in starts)
    assert found == {"CHO": 14, "HO": 4, "C": 2}
    for index, atoms in enumerate(starts):
        kind = water.KINDS[index % len(water.KINDS)]
        assert shortest(atoms) > 0.9
        height = {symbol: atoms.positions[atoms.symbols == symbol, 2] for symbol in "CO"}
        if kind == water.SHEET:
            assert shortest(atoms) == pytest.approx(water.LATTICE_CONSTANT / 3**0.5, rel=0.02)
        if kind in {water.FILM, water.CONFINED}:
            assert len(height["C"]) == 16
            assert height["O"].min() - height["C"].max() > 2.6
            above = height["C"].min() + atoms.cell[2, 2] - height["O"].max()
            assert bool(above > 9) == (kind == water.FILM)
            assert above > 2.6
        if kind == water.BOX:
            density = len(height["O"]) * 18.015 / 0.60221 / atoms.cell.volume
            assert 0.85 < density < 1.15, "g/cm^3"


def test_a_broken_molecule_is_refused():
    water = recipe("graphene_water")
    atoms = water.start(0, np.random.default_rng(0))
    water.refuse_broken(atoms, 0)
    hydrogen = next(atom for atom in atoms if atom.symbol == "H")
    bond = hydrogen.position - atoms.positions[hydrogen.index - 1]
    hydrogen.position += bond
    with pytest.raises(RuntimeError, match="structure 0 exploded, or a molecule came apart"):
        water.refuse_broken(atoms, 0)
