"""Labelled frames, and which of them are one calculation."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.io import read
from scipy.spatial.transform import Rotation

from mace_ft_bench.datasets.frames import count_groups, is_same_frame, labelled, without_duplicates, write_extxyz
from mace_ft_bench.errors import DataError

GOOD = {"energy": -1.0, "forces": np.zeros((2, 3)), "stress": np.zeros(6), "config_type": "bulk"}


def permuted(frame):
    return frame[np.random.default_rng(0).permutation(len(frame))]


def rotated(frame):
    rotation = Rotation.from_rotvec([0.3, -1.2, 0.7])
    turned = frame.copy()
    turned.set_cell(rotation.apply(frame.cell.array))
    turned.positions = rotation.apply(frame.positions)
    turned.arrays["REF_forces"] = rotation.apply(frame.arrays["REF_forces"])
    return turned


def rounded(frame):
    """Return the frame as another collection prints it."""
    copy = frame.copy()
    copy.info["REF_energy"] = round(frame.info["REF_energy"], 5)
    copy.arrays["REF_forces"] = frame.arrays["REF_forces"].round(4)
    return copy


@pytest.mark.parametrize("change", [permuted, rotated, rounded])
def test_a_changed_copy_is_a_duplicate(rattled, change):
    frame, other = rattled(1), rattled(2)
    assert is_same_frame(frame, change(frame))
    assert without_duplicates([frame, other, change(frame)]) == [frame, other]
    assert without_duplicates([change(frame), other], of=[frame]) == [other]


def another_energy(frame):
    frame.info["REF_energy"] += 2e-4


def another_force(frame):
    frame.arrays["REF_forces"][0] += (0.005, 0.0, 0.0)


def another_species(frame):
    frame.numbers[0] = 28


@pytest.mark.parametrize("change", [another_energy, another_force, another_species])
def test_near_is_not_the_same(rattled, change):
    frame, near = rattled(1), rattled(1)
    change(near)
    assert not is_same_frame(frame, near)
    assert without_duplicates([frame, near]) == [frame, near]
    assert without_duplicates([near], of=[frame]) == [near]


def test_every_snapshot_of_a_trajectory_is_kept_in_order(rattled):
    frames = [rattled(seed) for seed in range(12)]
    assert without_duplicates([*frames, *frames]) == frames


def test_frames_of_another_size_are_compared_with_nothing(rattled):
    frame = rattled(1)
    assert not is_same_frame(frame, frame[:3])


def test_labels_are_kept_apart_from_calculators(copper):
    copper.info["junk"], copper.arrays["tags"] = 1, np.ones(4)
    forces = np.arange(12.0).reshape(4, 3)
    frame = labelled(copper, energy=np.float64(-1.5), forces=forces, stress=None, config_type="bulk")
    assert frame.info == {"REF_energy": -1.5, "config_type": "bulk"}
    assert set(frame.arrays) == {"numbers", "positions", "REF_forces"}
    assert frame.calc is None


@pytest.mark.parametrize(
    "bad",
    [
        {"forces": np.zeros((1, 3))},
        {"forces": np.zeros(6)},
        {"stress": np.zeros(5)},
        {"stress": np.zeros((2, 3))},
        {"stress": np.zeros((3, 3))},
        {"energy": float("nan")},
        {"forces": np.full((2, 3), np.inf)},
        {"stress": np.full(6, np.nan)},
    ],
)
def test_unusable_labels_are_data_errors(bad):
    atoms = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2]], cell=np.eye(3) * 4, pbc=True)
    with pytest.raises(DataError):
        labelled(atoms, **{**GOOD, **bad})


def test_the_labels_are_copies(copper):
    stress = np.zeros(6)
    frame = labelled(copper, energy=0.0, forces=np.zeros((4, 3)), stress=stress, config_type="bulk")
    stress[0] = 9.0
    assert frame.info["REF_stress"][0] == 0.0


def test_extxyz_keeps_labels_cell_and_periodicity(tmp_path, rattled):
    frames = [rattled(1), rattled(2, "hot")]
    write_extxyz(frames, tmp_path / "frames.xyz")
    assert [path.name for path in tmp_path.iterdir()] == ["frames.xyz"]
    again = read(tmp_path / "frames.xyz", index=":")
    for frame, copy in zip(frames, again, strict=True):
        assert copy.info["REF_energy"] == pytest.approx(frame.info["REF_energy"], abs=1e-8)
        assert copy.info["REF_stress"] == pytest.approx(frame.info["REF_stress"], abs=1e-8)
        assert copy.arrays["REF_forces"] == pytest.approx(frame.arrays["REF_forces"], abs=1e-7)
        assert copy.cell.array == pytest.approx(frame.cell.array, abs=1e-7)
        assert copy.info["config_type"] == frame.info["config_type"]
        assert copy.pbc.all()
        assert copy.calc is None


def test_groups_are_counted(rattled):
    frames = [rattled(1), rattled(2, "hot"), rattled(3, "hot")]
    assert count_groups(frames) == {"bulk": 1, "hot": 2}


@pytest.mark.parametrize("kept", ["energy", "forces"])
def test_frames_with_one_kind_of_label_are_compared_by_it(rattled, kept):
    def reduced(frame):
        copy = frame.copy()
        if kept == "energy":
            del copy.arrays["REF_forces"]
        else:
            del copy.info["REF_energy"]
        return copy

    frames = [reduced(rattled(seed)) for seed in range(4)]
    assert without_duplicates([*frames, reduced(rattled(0))]) == frames
    assert not is_same_frame(rattled(0), frames[0])


def test_atoms_without_a_cell_are_compared():
    atom = labelled(Atoms("H"), energy=-1.0, forces=np.zeros((1, 3)), stress=None, config_type="isolated")
    assert without_duplicates([atom, atom.copy()]) == [atom]


def test_without_forces_positions_decide():
    frames = []
    for seed in range(3):
        frame = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.7 + 0.1 * seed]], cell=[5, 5, 5], pbc=True)
        frame.info["REF_energy"] = -6.0
        frames.append(frame)
    assert without_duplicates([*frames, frames[1].copy()]) == frames


def test_the_frame_with_a_stress_is_kept():
    frame = copper_with_stress(np.arange(6) / 100)
    poorer = frame.copy()
    del poorer.info["REF_stress"]
    assert without_duplicates([poorer, frame]) == [frame]
    assert without_duplicates([frame, poorer]) == [frame]
    assert without_duplicates([frame], of=[poorer]) == []


def copper_with_stress(stress):
    atoms = Atoms("Cu", cell=[3, 3, 3], pbc=True)
    return labelled(atoms, energy=1.0, forces=np.zeros((1, 3)), stress=stress, config_type="x")
