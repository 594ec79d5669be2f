"""Structures of the case cards."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_ft_bench import paths
from mace_ft_bench.errors import StructureError
from mace_ft_bench.properties import structures
from mace_ft_bench.results.case import BulkStructure, FileStructure, OrientedStructure

LEFT_HANDED = OrientedStructure(
    builder="oriented", element="Mo", lattice="bcc", a=3.16, directions=((-1, 0, 1), (1, 1, 1), (1, -2, 1))
)


@settings(max_examples=15, deadline=None)
@given(a=st.floats(2, 6), cubic=st.booleans(), repeat=st.tuples(*[st.integers(1, 3)] * 3))
def test_bulk_has_the_density_of_its_lattice(a, cubic, repeat):
    atoms = structures.build(BulkStructure(element="Mo", lattice="bcc", a=a, cubic=cubic, repeat=repeat))
    assert atoms.cell.volume / len(atoms) == pytest.approx(a**3 / 2)
    assert len(atoms) == (2 if cubic else 1) * np.prod(repeat)
    assert atoms.pbc.all()


def test_oriented_block_follows_the_directions_in_their_order(capsys):
    atoms = structures.build(LEFT_HANDED)
    assert capsys.readouterr().out == ""
    assert atoms.cell.handedness == -1
    assert atoms.cell[1] == pytest.approx([0, 3.16 * np.sqrt(3) / 2, 0])
    assert atoms.cell.volume / len(atoms) == pytest.approx(3.16**3 / 2)
    assert atoms.get_all_distances(mic=True)[0, 1:].min() == pytest.approx(3.16 * np.sqrt(3) / 2)


@pytest.mark.parametrize(
    "bad",
    [
        BulkStructure(element="Mo", lattice="cubist", a=3.1),
        BulkStructure(element="Xx", lattice="bcc", a=3.1),
        BulkStructure(element="Ti", lattice="hcp", a=2.9, cubic=True),
        OrientedStructure("oriented", "Mo", "bcc", 3.1, ((1, 0, 0), (1, 0, 0), (0, 0, 1))),
    ],
)
def test_what_ase_cannot_build_is_a_structure_error(bad):
    with pytest.raises(StructureError, match=r"correct \[structure\]"):
        structures.build(bad)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "reference_data", lambda: tmp_path)
    (tmp_path / "structures").mkdir()
    return tmp_path / "structures"


def test_file_is_read_without_its_calculator(folder):
    atoms = bulk("Cu")
    atoms.calc = EMT()
    atoms.get_potential_energy()
    atoms.pbc = False
    ase.io.write(folder / "cu.extxyz", atoms)
    read = structures.build(FileStructure(builder="file", file="cu.extxyz"))
    assert read.calc is None
    assert read.pbc.all()
    assert read.cell[:] == pytest.approx(atoms.cell[:])


def test_file_outside_missing_or_with_several_frames_is_refused(folder):
    ase.io.write(folder / "two.extxyz", [bulk("Cu"), bulk("Cu")])
    ase.io.write(folder.parent / "outside.extxyz", bulk("Cu"))
    for name, match in [("../outside.extxyz", "outside"), ("no.xyz", "does not exist"), ("two.extxyz", "2 structures")]:
        with pytest.raises(StructureError, match=match):
            structures.build(FileStructure(builder="file", file=name))
