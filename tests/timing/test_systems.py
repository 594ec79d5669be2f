"""Systems of exactly so many atoms, or a refusal that says which numbers are possible."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.geometry import get_distances
from ase.neighborlist import neighbor_list

from mace_ft_bench import paths
from mace_ft_bench.errors import StructureError, UnknownNameError
from mace_ft_bench.timing import systems


@pytest.mark.parametrize("atoms", [2, 16, 54, 128, 432, 1024, 2916])
def test_supercells_are_compact(atoms):
    supercell = systems.molybdenum(atoms)
    assert len(supercell) == atoms
    lengths = supercell.cell.lengths()
    assert lengths.max() <= 2.1 * lengths.min()


@pytest.mark.parametrize("atoms", [32, 128, 130, 372, 1038, 2900])
def test_graphene_under_water(atoms):
    structure = systems.graphene_with_water(atoms)
    assert len(structure) == atoms
    carbon = structure.symbols.count("C")
    assert structure.symbols.count("H") == 2 * structure.symbols.count("O") == 2 * (len(structure) - carbon) // 3
    assert 0.2 < carbon / len(structure) < 0.35
    first, second, lengths = neighbor_list("ijd", structure, 2.2)
    bonded = lengths < 1.6
    symbols = np.array(structure.symbols)
    neighbours = {name: np.bincount(first[bonded], minlength=len(structure))[symbols == name] for name in "CHO"}
    assert set(neighbours["C"]) == {3}
    assert set(neighbours["O"]) == {2}
    water = (symbols[first] != "C") != (symbols[second] != "C")
    assert not water.any()


@pytest.mark.parametrize("atoms", range(100, 140))
def test_every_number_of_atoms_is_possible(atoms):
    assert len(systems.build_system("graphene-water", atoms)) == atoms


def test_a_file_is_repeated_as_near_to_a_cube_as_it_goes(tmp_path):
    cell = bulk("Cu", cubic=True) * (1, 1, 2)
    ase.io.write(tmp_path / "copper.xyz", cell)
    built = systems.build_system(str(tmp_path / "copper.xyz"), 32)
    assert built.cell.lengths() == pytest.approx(2 * cell.cell.lengths()[0])
    distances = get_distances(built.positions[:1], built.positions, cell=built.cell, pbc=True)[1][0]
    assert np.sort(distances)[1] == pytest.approx(cell.cell.lengths()[0] / 2**0.5)
    assert systems.system_name(str(tmp_path / "copper.xyz")) == "copper"


def test_a_slab_grows_sideways():
    file = paths.reference_data() / "structures" / "graphene-water-128.xyz"
    unit = ase.io.read(file).cell.lengths()
    assert systems.build_system(str(file), 512).cell.lengths() / unit == pytest.approx([2, 2, 1])


@pytest.mark.parametrize(
    ("system", "atoms", "fix"),
    [
        ("molybdenum", 55, "54 or 56"),
        ("molybdenum", 1, "a multiple: 2."),
        ("graphene-water", 9, "128 or more"),
        ("molecule.xyz", 6, "use its own 3 atoms"),
        ("crystal.xyz", 5, "4 or 8"),
    ],
)
def test_impossible_sizes_name_possible_ones(system, atoms, fix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ase.io.write("molecule.xyz", molecule("H2O"))
    ase.io.write("crystal.xyz", bulk("Cu", cubic=True))
    with pytest.raises(StructureError, match=fix):
        systems.build_system(system, atoms)


def test_files_that_are_none(tmp_path):
    (tmp_path / "words.xyz").write_text("not a structure")
    ase.io.write(tmp_path / "two.xyz", [bulk("Cu"), bulk("Cu")])
    with pytest.raises(StructureError, match="cannot be read"):
        systems.build_system(str(tmp_path / "words.xyz"), 2)
    with pytest.raises(StructureError, match="holds 2 structures"):
        systems.build_system(str(tmp_path / "two.xyz"), 2)
    with pytest.raises(UnknownNameError, match='did you mean "molybdenum"'):
        systems.build_system("molibdenum", 2)
