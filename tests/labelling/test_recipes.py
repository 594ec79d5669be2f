"""The structures of the recipes for DFT: what is in them, and that no two atoms lie on each other."""

from __future__ import annotations

import gzip
import importlib.util
import re
from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list

from mace_ft_bench.paths import PACKAGE

RECIPES = PACKAGE.parent / "recipes" / "dft"
FRAMES = PACKAGE.parent / "reference_data" / "datasets" / "frames"


@pytest.fixture(autouse=True)
def recipes_import_each_other(monkeypatch):
    monkeypatch.syspath_prepend(RECIPES)


def recipe(name):
    spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shortest(atoms):
    distances = atoms.get_all_distances(mic=True)
    return distances[np.triu_indices(len(atoms), 1)].min(initial=np.inf)


@pytest.mark.parametrize(("name", "number"), [("licl", 28), ("mgo", 28), ("mo", 25), ("si", 32)])
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


def test_cells_to_train_with_are_not_those_to_test_with():
    structures = recipe("structures")
    tested, trained = structures.frames_of("mgo"), structures.frames_of("mgo-train")
    assert len(trained) == 12
    for frame in trained:
        assert shortest(frame) > 1.5
        same_size = [other for other in tested if len(other) == len(frame)]
        assert all(abs(frame.get_volume() - other.get_volume()) > 1e-6 for other in same_size)


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


def kinds_of(name):
    kinds = recipe(name).KINDS
    return {kind if isinstance(kind, str) else "-".join(kind) for kind in kinds}


@pytest.mark.parametrize(("name", "fewest"), [("graphene_water", 2), ("au2_mgo", 1)])
def test_held_out_frames_are_of_every_kind_and_of_other_trajectories(name, fewest):
    files = [FRAMES / f"gpaw-{name.replace('_', '-')}-{split}.xyz.gz" for split in ("train", "test")]
    texts = [gzip.decompress(file.read_bytes()).decode() for file in files]
    kept, held_out = (Counter(re.findall(r"config_type=(\S+)", text)) for text in texts)
    assert set(kept) == set(held_out) == kinds_of(name)
    assert min(held_out.values()) >= fewest
    first, second = (set(re.findall(r"trajectory=(\d+)", text)) for text in texts)
    assert first
    assert second
    assert not first & second


def test_each_fifth_trajectory_of_a_kind_is_held_out_and_shipped_without_a_time():
    ship = recipe("ship")
    frames = [Atoms("H", info={"config_type": kind, "trajectory": index}) for index in range(11) for kind in "ab"]
    parts = ship.parts(frames[::-1])
    assert [frame.info["trajectory"] for frame in parts["test"]] == [4, 9, 5, 10]
    assert len(parts["train"]) == 18
    assert ship.packed(parts["test"])[4:8] == bytes(4), "no time in the header"
    with pytest.raises(ValueError, match="Trajectory 4 of a is there twice"):
        ship.parts([*frames, parts["test"][0]])


def test_a_broken_molecule_is_refused():
    water = recipe("graphene_water")
    atoms = water.start(0, np.random.default_rng(0))
    water.refuse_broken(atoms, 0)
    hydrogen = next(atom for atom in atoms if atom.symbol == "H")
    bond = hydrogen.position - atoms.positions[hydrogen.index - 1]
    hydrogen.position += bond
    with pytest.raises(RuntimeError, match="A molecule of structure 0 came apart"):
        water.refuse_broken(atoms, 0)


def neighbours(atoms, index, symbol, within):
    """Count with images: a cell may be narrower than two distances."""
    centre, other = neighbor_list("ij", atoms, within)
    return int((atoms.symbols[other[centre == index]] == symbol).sum())


def test_gold_stands_or_lies_on_magnesia():
    gold = recipe("au2_mgo")
    for index in range(8):
        atoms = gold.start(index, np.random.default_rng(index))
        geometry, doping = gold.KINDS[index % 4]
        aluminium = 2 if doping == "doped" else 0
        assert Counter(atoms.symbols) == {"Mg": 10 - aluminium, "O": 10, "Au": 2} | ({"Al": 2} if aluminium else {})
        assert sum(atoms.numbers) % 2 == 0, "closed shells"
        assert shortest(atoms) > 1.9
        heights = atoms.positions[atoms.symbols == "Au", 2]
        assert np.ptp(heights) == pytest.approx(gold.BOND if geometry == gold.UPRIGHT else 0.0)
        surface = atoms.positions[atoms.symbols == "O", 2].max()
        assert heights.min() - surface == pytest.approx(gold.ABOVE)
        assert atoms.positions[atoms.symbols == "Al", 2].max(initial=0.0) < surface - 1
        for oxygen in np.flatnonzero(atoms.symbols == "O"):
            metals = sum(neighbours(atoms, oxygen, symbol, 2.3) for symbol in ("Mg", "Al"))
            assert metals == 5, "four in its layer, one in the other"


def test_five_cells_of_salt_meet_three_of_fluoride():
    atoms = recipe("licl_gaf3").start()
    assert Counter(atoms.symbols) == {"Ga": 6, "F": 18, "Li": 10, "Cl": 10}
    assert shortest(atoms) > 1.75
    for lithium in np.flatnonzero(atoms.symbols == "Li"):
        assert neighbours(atoms, lithium, "Cl", 3.0) >= 5, "four in its layer, one in the other"
    coordination = [neighbours(atoms, gallium, "F", 2.1) for gallium in np.flatnonzero(atoms.symbols == "Ga")]
    assert sorted(coordination) == [3, 3, 3, 6, 6, 6], "a layer on its surface and one inside"


def test_the_misfit_of_the_seam_is_what_the_recipe_says():
    seam = recipe("licl_gaf3")
    edge = seam.LICL_A / 2**0.5
    chloride = np.array(seam.LICL_CELLS)[:2, :2] * edge
    fluoride = seam.gallium_fluoride().cell.array[:2, :2]
    principal = np.linalg.svd(np.linalg.solve(chloride, fluoride))[1] - 1
    assert principal == pytest.approx(seam.MISFIT, abs=5e-4)
