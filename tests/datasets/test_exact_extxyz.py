"""What is written is read back to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.io import read
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mace_ft_bench.datasets.exact_extxyz import write_exact
from mace_ft_bench.datasets.readers.extxyz import frames_of_extxyz
from mace_ft_bench.errors import DataError

numbers = st.floats(-1e6, 1e6, allow_subnormal=False)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    positions=arrays(float, (2, 3), elements=numbers),
    forces=arrays(float, (2, 3), elements=numbers),
    stress=arrays(float, 6, elements=numbers),
    cell=arrays(float, (3, 3), elements=st.floats(0.1, 99)),
    energy=numbers,
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_every_bit_comes_back(tmp_path, positions, forces, stress, cell, energy, pbc):  # noqa: PLR0913, PLR0917
    frame = Atoms("MoS", positions=positions, cell=cell, pbc=pbc)
    frame.info = {"REF_energy": energy, "REF_stress": stress, "config_type": "a b/c=1"}
    frame.arrays["REF_forces"] = forces
    frame.arrays["tag"] = np.array([1, 2])
    frame.arrays["free"] = np.array([True, False])
    frame.arrays["REF_charges"] = forces[:, 0].copy()
    write_exact([frame, frame], tmp_path / "frames.xyz")
    for found in frames_of_extxyz(tmp_path / "frames.xyz"):
        assert found.symbols.get_chemical_formula() == "MoS"
        for name, array in frame.arrays.items():
            np.testing.assert_array_equal(found.arrays[name], array)
        np.testing.assert_array_equal(found.cell.array, cell)
        np.testing.assert_array_equal(found.pbc, pbc)
        assert found.info.keys() == frame.info.keys()
        assert found.info["REF_energy"] == energy
        np.testing.assert_array_equal(found.info["REF_stress"], stress)
        assert found.info["config_type"] == "a b/c=1"


def test_molecules_have_no_lattice(tmp_path):
    write_exact([Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.74]])], tmp_path / "h2.xyz")
    assert "Lattice" not in (tmp_path / "h2.xyz").read_text()
    assert not read(tmp_path / "h2.xyz").pbc.any()


def test_a_failure_leaves_neither_half_a_file_nor_the_old_one_broken(tmp_path):
    (tmp_path / "frames.xyz").write_text("mine")
    strange = Atoms("H")
    strange.arrays["what"] = np.array([object()])
    with pytest.raises(DataError, match='array "what" is of type object'):
        write_exact([Atoms("H"), strange], tmp_path / "frames.xyz")
    assert (tmp_path / "frames.xyz").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["frames.xyz"]
