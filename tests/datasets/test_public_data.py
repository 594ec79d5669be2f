"""Numbers of the public datasets, where copies of them are on this machine (MFB_MIRROR)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import spglib

from mace_ft_bench.datasets.card import find_dataset, list_datasets
from mace_ft_bench.datasets.convert import summarise
from mace_ft_bench.datasets.fetch import MIRROR_VARIABLE, fetch, load_frames
from mace_ft_bench.datasets.frames import count_groups
from mace_ft_bench.datasets.lint.run import lint_frames
from mace_ft_bench.datasets.readers import read_frames
from mace_ft_bench.datasets.stress_convention import pressure_response, shear_response
from mace_ft_bench.units import EV_PER_A3_IN_GPA

MIRROR = os.environ.get(MIRROR_VARIABLE)  # before a fixture hides it
pytestmark = pytest.mark.skipif(not MIRROR, reason=f"{MIRROR_VARIABLE} is not set")

FRAMES = {
    "alexandria-random-1k": {"all": 1000},
    "au2-mgo-optimised": {"test": 4},
    "go-mace": {"test": 100},
    "gpaw-au2-mgo": {"test": 7, "train": 40},
    "gpaw-graphene-water": {"atoms": 3, "test": 20, "train": 80},
    "gpaw-licl": {"atoms": 2, "crystals": 28},
    "gpaw-mgo": {"atoms": 2, "crystals": 28, "train": 12},
    "gpaw-licl-gaf3": {"test": 8, "train": 36},
    "gpaw-mo": {"atoms": 1, "crystals": 25},
    "gpaw-si": {"atoms": 1, "crystals": 32},
    "graphene-water": {"128": 1, "1038": 1, "372": 1},
    "lgps": {"train": 5021, "test": 400},
    "licl-gaf3-ood": {"test": 1},
    "mace-nano-2-domain": {"held-out": 1133, "replay": 1199},
    "mace-nano-domain": {"held-out": 1137, "replay": 1177},
    "mlearn-mo": {"train": 194, "test": 23},
    "mlearn-si": {"train": 214, "test": 25},
    "mptrj-highest-stress-1k": {"all": 1000},
    "mptrj-random-1k": {"all": 1000},
    "n2p2-au2-mgo": {"all": 18},
    "si-di-interstitials": {"test": 6},
    "si-ood": {"test": 28},
    "snap-mo": {"all": 284},
    "tutorial-mo": {"gamma": 27},
}


def load(name, *splits):
    return [
        frame
        for split in splits or find_dataset(name).splits
        for frame in load_frames(name, split, mirror=Path(MIRROR))
    ]


@pytest.mark.parametrize("name", FRAMES)
def test_number_of_frames(name):
    assert {split: len(load(name, split)) for split in find_dataset(name).splits} == FRAMES[name]


def test_every_dataset_is_counted():
    assert set(FRAMES) == set(list_datasets())


def test_lgps_energies_and_forces_are_those_of_the_files_to_the_last_bit():
    """And the stress is minus the virial by the volume: 31 systems, 30 of them with virials."""
    card = find_dataset("lgps")
    folders = fetch(card, mirror=Path(MIRROR))
    assert len(folders) == 31
    virials = 0
    for folder, file in zip(folders, card.files, strict=True):
        frames = read_frames(folder, file.reader, file.options)
        arrays = {path.stem: np.load(path).astype(float) for path in (folder / "set.000").iterdir()}
        assert np.array_equal([frame.info["REF_energy"] for frame in frames], arrays["energy"].ravel())
        assert np.array_equal([frame.arrays["REF_forces"].ravel() for frame in frames], arrays["force"])
        assert np.array_equal([frame.positions.ravel() for frame in frames], arrays["coord"])
        assert ["REF_stress" in frame.info for frame in frames] == ["virial" in arrays] * len(frames)
        if "virial" in arrays:
            virials += 1
            volumes = np.abs(np.linalg.det(arrays["box"].reshape(-1, 3, 3)))
            traces = np.trace(arrays["virial"].reshape(-1, 3, 3), axis1=1, axis2=2)
            found = [frame.info["REF_stress"][:3].sum() for frame in frames]
            assert np.allclose(found, -traces / volumes, rtol=1e-12, atol=1e-15)
    assert virials == 30


def test_the_sign_of_the_lgps_virial_and_its_unit():
    """The pressure falls with the volume in every system; the bulk modulus is that of a sulfide."""
    frames = load("lgps")
    groups = count_groups(frames)
    assert len(groups) == 31
    fixed = [frame for frame in frames if frame.info["config_type"].startswith("fp/")]
    response = pressure_response(fixed)
    assert response.is_consistent
    assert response.frames == 1057
    assert response.bulk_modulus_gpa == pytest.approx(24.2, abs=0.1)
    varying = {name for name in groups if name.startswith("LiGePS-iter")}
    assert len(varying) == 22
    for name in varying:
        assert pressure_response([f for f in frames if f.info["config_type"] == name]).bulk_modulus_gpa > 1.5, name


def test_no_lgps_system_is_in_both_splits():
    groups = [{frame.info["config_type"] for frame in load("lgps", split)} for split in ("train", "test")]
    assert [len(names) for names in groups] == [28, 3]
    assert not groups[0] & groups[1]


def test_the_order_of_the_si_stress():
    elastic = [frame for frame in load("mlearn-si", "train") if frame.info["config_type"] == "Elastic"]
    reference = min(elastic, key=lambda frame: frame.info["REF_energy"])
    response = shear_response(elastic, reference.cell.array)
    assert response.is_consistent
    assert np.array(response.modulus_gpa) == pytest.approx(102.3 * np.eye(3), abs=0.1)
    assert pressure_response(elastic).is_consistent


def least_symmetric(frame, stress):
    """Return by how much a stress differs from its mean over the symmetry of the frame [GPa]."""
    symmetry = spglib.get_symmetry((frame.cell.array, frame.get_scaled_positions(), frame.numbers), symprec=0.01)
    cell = frame.cell.array.T
    turns = [cell @ turn @ np.linalg.inv(cell) for turn in symmetry["rotations"]]
    tensor = stress[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)
    return np.abs(np.mean([turn @ tensor @ turn.T for turn in turns], axis=0) - tensor).max() * EV_PER_A3_IN_GPA


@pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")  # of spglib 2.7
@pytest.mark.parametrize(("name", "decided"), [("mlearn-si", 9), ("mlearn-mo", 3)])
def test_the_stress_of_surfaces_is_as_symmetric_as_they_are(name, decided):
    """Which tells the order of the shears, without a model."""
    found = []
    for frame in load(name):
        if frame.info["config_type"] == "Surface":
            stress = frame.info["REF_stress"]
            found.append([least_symmetric(frame, stress[order]) for order in ([0, 1, 2, 3, 4, 5], [0, 1, 2, 4, 3, 5])])
    own, exchanged = np.array(found).T
    assert sum((exchanged > 0.01) & (own < 0.1 * exchanged)) == decided
    assert not any((own > 0.01) & (exchanged < 0.1 * own))


def test_three_si_test_frames_are_turned_training_frames():
    test, train = load("mlearn-si", "test"), load("mlearn-si", "train")
    leak = {finding.check: finding for finding in lint_frames(test, against=train).findings}["leak"]
    assert leak.frames == (22, 23, 24)
    assert {test[index].info["config_type"] for index in leak.frames} == {"Elastic"}


def test_relaxed_si_defects_have_neither_stress_nor_forces():
    """And a virial that was taken for a stress would be a thousand times as large."""
    frames = load("si-ood")
    assert count_groups(frames) == {"GB": 1, "SF": 20, "aSi": 1, "diinter": 6}
    relaxed = [frame for frame in frames if frame.info["config_type"] in {"GB", "diinter"}]
    assert max(np.abs(frame.info["REF_stress"]).max() for frame in relaxed) * 160.2177 < 0.1
    assert all(6e-3 < np.sqrt(np.mean(frame.arrays["REF_forces"] ** 2)) < 16e-3 for frame in relaxed)
    assert summarise(frames).energy_ev_per_atom == pytest.approx((-163.166, -163.028), abs=1e-3)


def test_forces_alone_of_licl_gaf3():
    (frame,) = load("licl-gaf3-ood")
    assert len(frame) == 368
    assert set(frame.info) == {"config_type"}
    assert set(frame.arrays) == {"numbers", "positions", "REF_forces"}


def test_the_oxide_is_neutral_and_doped_in_ten_frames():
    frames = load("n2p2-au2-mgo")
    formulas = [frame.get_chemical_formula() for frame in frames]
    assert {name: formulas.count(name) for name in formulas} == {"Al3Au2Mg51O54": 10, "Au2Mg54O54": 8}
    assert all(abs(frame.arrays["REF_charges"].sum()) < 1e-3 for frame in frames)
    assert all(frame.cell.cellpar()[2] == pytest.approx(26.4589, abs=1e-3) for frame in frames)
    forces = np.concatenate([frame.arrays["REF_forces"] for frame in frames])
    assert 0.05 < np.sqrt(np.mean(forces**2)) < 1.0


@pytest.mark.parametrize(("name", "elements"), [("mptrj-random-1k", 85), ("mptrj-highest-stress-1k", 82)])
def test_replay_sets(name, elements):
    frames = load(name)
    assert len({number for frame in frames for number in frame.numbers}) == elements
    assert all("REF_stress" in frame.info for frame in frames)
