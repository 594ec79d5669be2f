"""What the Materials Project adds to energies, by pymatgen's table (doi 10.1038/s41598-021-94550-5)."""

from __future__ import annotations

import sys

import pytest
from ase import Atoms
from ase.build import bulk, molecule

from mace_ft_bench.errors import MissingDependencyError
from mace_ft_bench.learning.anion_corrections import anion_correction, needs_plus_u


def corrected(atoms):
    pytest.importorskip("pymatgen.entries.compatibility")
    return anion_correction(atoms)


@pytest.mark.parametrize(
    ("formula", "per_anion"), [("MgO", -0.687), ("LiF", -0.462), ("LiCl", -0.614), ("MgS", -0.503), ("LiH", -0.179)]
)
def test_anions_are_corrected_by_the_published_numbers(formula, per_anion):
    atoms = bulk(formula, "rocksalt", a=5.0) * (2, 1, 1)
    assert corrected(atoms) == pytest.approx(2 * per_anion, abs=1e-3)


def test_elements_and_alloys_are_not_corrected():
    assert corrected(bulk("Au")) == 0
    assert corrected(bulk("AuMg", "cesiumchloride", a=3.3)) == 0
    dimer = molecule("O2", cell=[6, 6, 6], pbc=True)
    assert corrected(dimer) == 0


def test_peroxides_are_told_from_oxides_by_their_bonds():
    places = [(0, 0, 0), (1.45, 0, 0), (0.7, 1.9, 0), (0.7, -1.9, 0)]
    peroxide = Atoms("O2Li2", places, cell=[6, 6, 6], pbc=True)
    water = molecule("H2O", cell=[6, 6, 6], pbc=True)
    assert corrected(water) == pytest.approx(-0.687, abs=1e-3)
    assert corrected(peroxide) == pytest.approx(2 * -0.465, abs=1e-3)


def test_oxides_and_fluorides_of_some_metals_are_plus_u():
    assert needs_plus_u(bulk("MoO", "rocksalt", a=4.2))
    assert needs_plus_u(bulk("MoF", "rocksalt", a=4.2))
    assert not needs_plus_u(bulk("MoS", "rocksalt", a=4.2))
    assert not needs_plus_u(bulk("MgO", "rocksalt", a=4.2))
    assert not needs_plus_u(bulk("Mo"))


def test_without_pymatgen_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymatgen.entries.compatibility", None)
    with pytest.raises(MissingDependencyError, match="pymatgen is not installed"):
        anion_correction(bulk("Au"))
