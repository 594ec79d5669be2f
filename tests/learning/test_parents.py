"""Parent structures: geometry that chemistry knows."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.data import covalent_radii
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_ft_bench.learning import environments, interfaces, prototypes
from mace_ft_bench.learning.atomic_volumes import VOLUMES
from mace_ft_bench.learning.templates import exchanged

ALL = tuple(VOLUMES)
REACH = 6.0
"""Of CHGNet [Angstrom]: an atom without a neighbour within is refused."""


def distances(atoms):
    """Return distances to the nearest images, those to an atom's own images left out."""
    return atoms.get_all_distances(mic=True) + 99 * np.eye(len(atoms))


def neighbours(atoms, of, among, within):
    apart = distances(atoms)
    columns = atoms.symbols == among
    return [int((apart[atom.index, columns] < within).sum()) for atom in atoms if atom.symbol == of]


def compound(name):
    return next(parent.atoms for parent in prototypes.compounds(ALL) if parent.name == name) * (2, 2, 2)


@pytest.mark.parametrize(
    ("name", "of", "among", "within", "count"),
    [
        ("rocksalt-MgO", "Mg", "O", 2.3, 6),
        ("zincblende-SiC", "Si", "C", 2.0, 4),
        ("fluorite-OLi2", "Li", "O", 2.1, 4),
        ("fluorite-OLi2", "O", "Li", 2.1, 8),
        ("rutile-GeO2", "Ge", "O", 2.1, 6),
        ("quartz-SiO2", "Si", "O", 1.8, 4),
        ("corundum-Al2O3", "Al", "O", 2.1, 6),
        ("aluminium-fluoride-GaF3", "Ga", "F", 2.1, 6),
        ("molybdenite-MoS2", "Mo", "S", 2.6, 6),
        ("silicon-disulphide-SiS2", "Si", "S", 2.3, 4),
        ("li3ps4-PSSSLiLi", "P", "S", 2.3, 4),
        ("spinel-MgAlO", "Al", "O", 2.1, 6),
        ("cadmium-chloride-MgCl2", "Mg", "Cl", 2.7, 6),
    ],
)
def test_prototypes_have_the_coordination_of_their_kind(name, of, among, within, count):
    assert set(neighbours(compound(name), of, among, within)) == {count}


def test_prototypes_have_the_composition_of_their_name():
    formulas = {p.name: p.atoms.get_chemical_formula(empirical=True) for p in prototypes.compounds(ALL)}
    assert formulas["li3ps4-PSSSLiLi"] == "Li3PS4"
    assert formulas["spinel-MgAlO"] == "Al2MgO4"
    assert formulas["a15-MoSi"] == "Mo3Si"
    assert formulas["sodium-arsenide-PLiLi"] == "Li3P"


def test_ion_conductors_are_tetrahedra_in_lithium():
    parents = list(environments.ion_conductors(np.random.default_rng(1)))
    first = parents[0].atoms
    assert first.get_chemical_formula() == "Ge2Li20P4S24"  # two formula units of Li10GeP2S12
    for parent in parents:
        apart = distances(parent.atoms)
        for atom in parent.atoms:
            if atom.symbol in {"Ge", "P"}:
                assert (apart[atom.index, parent.atoms.symbols == "S"] < 2.6).sum() == 4
    assert len({parent.atoms.positions.tobytes() for parent in parents}) == len(parents)


def every_parent(seed=1):
    generator = np.random.default_rng(seed)
    yield from prototypes.crystals_of_elements(ALL)
    yield from prototypes.pairs_of_elements(ALL)
    yield from prototypes.compounds(ALL)
    yield from environments.molecules()
    yield from environments.vacancies()
    yield from environments.surfaces()
    yield from environments.adsorbates(generator)
    yield from environments.liquids(ALL, generator)
    yield from environments.ion_conductors(generator)
    yield from interfaces.interfaces_and_clusters()
    yield from interfaces.cages()


def test_parents_are_small_bare_and_periodic_and_named_once():
    names = set()
    for parent in every_parent():
        assert parent.atoms.pbc.all(), parent.name
        assert 1 <= len(parent.atoms) <= 60, parent.name
        assert not parent.atoms.info, parent.name
        assert set(parent.atoms.arrays) <= {"numbers", "positions", "tags", "initial_magmoms"}, parent.name
        assert parent.name not in names
        names.add(parent.name)


def test_every_atom_of_a_molecule_or_cage_sees_another():
    for parent in (*environments.molecules(), *interfaces.cages()):
        periodic = parent.atoms * (2, 2, 2)
        assert distances(periodic).min(axis=1).max() < REACH, parent.name


@pytest.mark.parametrize(("chloride", "fluoride"), [(2, 1), (3, 2)])
@pytest.mark.parametrize("shifted", [False, True])
def test_interfaces_are_neutral_and_their_halves_apart(chloride, fluoride, shifted):
    stack = interfaces.licl_on_gaf3(chloride, fluoride, shifted=shifted)
    symbols = list(stack.symbols)
    assert symbols.count("Li") == symbols.count("Cl") == 2 * chloride
    assert symbols.count("F") == 3 * symbols.count("Ga") == 6 * fluoride
    assert distances(stack).min() > 1.8
    ordinary, other = (interfaces.licl_on_gaf3(2, 1, shifted=one) for one in (False, True))
    assert list(ordinary.symbols) != list(other.symbols)


def test_cages_have_the_bonds_of_their_molecules():
    cages = {parent.name: parent.atoms for parent in interfaces.cages()}
    assert set(neighbours(cages["cage-S8"], "S", "S", 2.2)) == {2}
    assert set(neighbours(cages["cage-P4"], "P", "P", 2.4)) == {3}
    assert set(neighbours(cages["cage-P4S10"], "P", "S", 2.3)) == {4}
    assert sorted(neighbours(cages["cage-P4S10"], "S", "P", 2.3)) == [1] * 4 + [2] * 6
    assert set(neighbours(cages["cage-S16"], "S", "S", 2.2)) == {2}


def test_gold_sits_on_oxygen_and_one_magnesium_is_exchanged():
    clusters = {parent.name: parent.atoms for parent in interfaces.clusters_on_oxide()}
    for name, atoms in clusters.items():
        gold = int(name[2])
        assert (atoms.symbols == "Au").sum() == gold
        assert (atoms.symbols == "Al").sum() == ("al" in name)
        assert min(distances(atoms)[atoms.symbols == "Au"][:, atoms.symbols == "O"].min(axis=1)) == pytest.approx(2.2)


@given(
    seed=st.integers(0, 2**20),
    room=st.floats(0.7, 1.5),
    symbols=st.lists(st.sampled_from(ALL), min_size=1, max_size=12),
)
@settings(max_examples=30, deadline=None)
def test_packings_have_their_volume_and_keep_atoms_apart(seed, room, symbols):
    atoms = environments.random_packing(symbols, room, np.random.default_rng(seed))
    assert list(atoms.symbols) == symbols
    assert atoms.get_volume() == pytest.approx(room * sum(VOLUMES[symbol] for symbol in symbols))
    if len(atoms) > 1:
        radii = covalent_radii[atoms.numbers]
        assert (distances(atoms) / (radii[:, None] + radii)).min() > 0.3


def test_templates_keep_their_geometry_and_exchange_their_elements():
    salt = bulk("NaCl", "rocksalt", a=5.6)
    large = salt * (3, 3, 3)
    found = list(exchanged([salt, large, Atoms("H", cell=np.eye(3), pbc=True)], ALL, 12, np.random.default_rng(0)))
    assert [parent.name for parent in found] == ["template-0"]
    atoms = found[0].atoms
    metal, anion = atoms.symbols
    assert metal in {"Li", "Mg", "Al", "Ga", "Mo", "Au"}
    assert anion in {"O", "S", "F", "Cl", "H"}
    assert atoms.get_scaled_positions() == pytest.approx(salt.get_scaled_positions())
    assert 0.5 * salt.get_volume() <= atoms.get_volume() <= 2.0 * salt.get_volume()


def test_templates_of_more_elements_than_there_are_give_nothing():
    ternary = Atoms("LiNaK", positions=np.eye(3) * 2, cell=np.eye(3) * 5, pbc=True)
    assert not list(exchanged([ternary], ("Al", "Au"), 12, np.random.default_rng(0)))
