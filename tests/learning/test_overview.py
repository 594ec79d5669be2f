"""Summary and figure of a set of frames."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from mace_ft_bench.datasets.frames import labelled
from mace_ft_bench.learning.overview import draw, pairs_covered, summarise


def frame(formula, energy, force, family):
    atoms = Atoms(formula, cell=np.eye(3) * 6, pbc=True)
    atoms.positions[:, 0] = np.arange(len(atoms)) * 2.0
    forces = np.zeros((len(atoms), 3))
    forces[0] = [force, 0, 0]
    return labelled(atoms, energy=energy, forces=forces, stress=np.zeros(6), config_type=family)


SPLITS = {
    "train": [frame("Al2", -4.0, 1.0, "b"), frame("AlAu", -6.0, 3.0, "b"), frame("Au", -3.0, 0.0, "a")],
    "test": [frame("AlAuC", -3.0, 2.0, "b")],
}


def test_families_are_summarised_per_split():
    first, second = summarise(SPLITS)
    assert (first.family, first.frames) == ("a", {"train": 1, "test": 0})
    assert (second.family, second.frames) == ("b", {"train": 2, "test": 1})
    assert second.atoms == (2, pytest.approx(7 / 3), 3)
    assert second.energy_ev_per_atom == (-3.0, -1.0)
    assert second.largest_force_ev_per_a == (2.0, 3.0)


def test_pairs_are_counted_in_frames_and_elements_alone_on_the_diagonal():
    counts = pairs_covered([f for frames in SPLITS.values() for f in frames], ("Al", "Au", "Mo"))
    # carbon is none of the elements asked for: the frame that holds it still pairs aluminium and gold
    assert counts.tolist() == [[1, 2, 0], [2, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_the_figure_is_of_the_kind_of_its_name(tmp_path, suffix, start):
    path = tmp_path / f"overview.{suffix}"
    draw([f for frames in SPLITS.values() for f in frames], ("Al", "Au", "C"), path)
    assert path.read_bytes().startswith(start)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
