"""DeePMD systems: float32 values, the sign of the virial, missing files."""

from __future__ import annotations

import numpy as np
import pytest

from mace_ft_bench.datasets.readers import read_frames
from mace_ft_bench.errors import CardError, DataError

from .conftest import CELL, FORCES, POSITIONS, STRESS, check, matrix_of

VOLUME = float(np.linalg.det(CELL))
MAP = {"type_map": ["Nb", "Mo"]}


def arrays(frames=1):
    """Return a set of frames: types 1 0, energies -20.5, -21.5, ..."""
    return {
        "coord": np.tile(np.ravel(POSITIONS), (frames, 1)),
        "box": np.tile(np.ravel(CELL), (frames, 1)),
        "energy": -20.5 - np.arange(frames),
        "force": np.tile(np.ravel(FORCES), (frames, 1)),
        "virial": np.tile(-VOLUME * matrix_of(STRESS).ravel(), (frames, 1)),
    }


@pytest.fixture
def system(tmp_path):
    """Return a function that writes a system, with some of its arrays changed or (None) left out."""

    def make(*sets, types="1\n0\n", **files):
        folder = tmp_path / "system.000"
        folder.mkdir()
        (folder / "type.raw").write_text(types)
        for name, text in files.items():
            (folder / name.replace("_raw", ".raw")).write_text(text)
        for number, content in enumerate(sets or [{}]):
            (folder / f"set.{number:03}").mkdir()
            for name, array in {**arrays(), **content}.items():
                if array is not None:
                    np.save(folder / f"set.{number:03}" / f"{name}.npy", array)
        return folder

    return make


def read(folder, **options):
    return read_frames(folder, "deepmd-npy", options or MAP)


def test_a_system_in_our_sign(system):
    (frame,) = read(system())
    check(frame)
    assert frame.info["config_type"] == "system.000"


def test_sets_follow_one_another(system):
    frames = read(system(arrays(2), {"energy": np.array([-30.0])}))
    assert [frame.info["REF_energy"] for frame in frames] == [-20.5, -21.5, -30.0]


def test_float32_keeps_its_values(system):
    single = {name: (array + 1e-9).astype(np.float32) for name, array in arrays().items()}
    (frame,) = read(system(single))
    assert frame.arrays["REF_forces"].dtype == np.float64
    assert (frame.arrays["REF_forces"].ravel() == single["force"].ravel()).all()
    assert frame.info["REF_energy"] == float(single["energy"][0])


def test_a_missing_virial_gives_frames_without_stress(system):
    (frame,) = read(system({"virial": None}))
    assert "REF_stress" not in frame.info
    assert "REF_energy" in frame.info


@pytest.mark.parametrize(("name", "key"), [("energy", "REF_energy"), ("force", "REF_forces")])
def test_other_missing_labels_have_no_key(system, name, key):
    (frame,) = read(system({name: None}))
    assert key not in {**frame.info, **frame.arrays}


def test_the_elements_come_from_the_folder_or_from_the_option(system):
    folder = system(type_map_raw="Nb Mo\n")
    check(read_frames(folder, "deepmd-npy", {})[0])
    check(read_frames(folder, "deepmd-npy", MAP)[0])
    with pytest.raises(CardError, match="type_map.raw says Nb Mo"):
        read(folder, type_map=["Mo", "Nb"])


def test_energies_in_a_column_and_a_group_of_its_own(system):
    folder = system({"energy": np.array([[-20.5]])})
    (frame,) = read(folder, **MAP, config_type="round 1")
    check(frame)
    assert frame.info["config_type"] == "round 1"


def test_a_system_without_periodic_boundaries(system):
    folder = system({"box": None, "virial": None}, nopbc="")
    (frame,) = read(folder)
    assert not frame.pbc.any()
    assert frame.cell.rank == 0


@pytest.mark.parametrize(
    ("content", "files", "match"),
    [
        ({"box": None}, {}, "no box.npy"),
        ({"coord": None}, {}, "no coord.npy"),
        ({"energy": np.zeros(2)}, {}, "numbers of frames differ"),
        ({"force": np.zeros((1, 5))}, {}, "6 numbers per frame are expected"),
        ({"virial": np.zeros((1, 6))}, {}, "9 numbers per frame are expected"),
        ({"virial": np.arange(9.0)[None]}, {}, "not symmetric"),
        ({"energy": np.array([np.nan])}, {}, "frame 0: .* not finite"),
        ({"energy": None, "force": None, "virial": None}, {}, "has no label"),
        ({"real_atom_types": np.zeros((1, 2))}, {}, "mixed-type"),
        ({}, {"nopbc": ""}, "virial and no cell"),
        ({}, {"types": "1 a"}, "not a deepmd-npy file"),
        ({"energy": np.array([None])}, {}, "not a deepmd-npy file"),
    ],
)
def test_incomplete_systems_are_data_errors(system, content, files, match):
    with pytest.raises(DataError, match=match) as caught:
        read(system(content, **files))
    assert caught.value.fix


def test_folders_that_are_no_system(tmp_path, system):
    with pytest.raises(DataError, match=r"no type\.raw"):
        read(tmp_path)
    (tmp_path / "type.raw").write_text("0")
    with pytest.raises(DataError, match=r"no set\.\* folder"):
        read(tmp_path)
    folder = system()
    for options, match in [({}, "no type_map.raw"), ({"type_map": ["Mo"]}, "type 1 has no name")]:
        with pytest.raises(CardError, match=match):
            read_frames(folder, "deepmd-npy", options)
