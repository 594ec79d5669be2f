"""JSON with pymatgen structures, in the three arrangements that are in use."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mace_ft_bench.datasets.readers import read_frames
from mace_ft_bench.errors import CardError, DataError

from .conftest import CELL, FORCES, MLEARN_ORDER, POSITIONS, STRESS, check, matrix_of, mlearn_entry, write_json

KEYS = {"energy_key": "energy", "forces_key": "force"}
VASP = {"stress_key": "stress", "stress_unit": "kbar", "stress_sign": "compression"}
KBAR = -1602.1766208 * matrix_of(STRESS)


def structure(**changes):
    inverse = np.linalg.inv(CELL)
    sites = [
        {"species": [{"element": "Mo", "oxidation_state": 2, "occu": 1}], "abc": (POSITIONS[0] @ inverse).tolist()},
        {"species": [{"element": "Nb", "occu": 1}], "xyz": POSITIONS[1], "label": "Nb1"},
    ]
    return {"@class": "Structure", "lattice": {"matrix": CELL}, "sites": sites, **changes}


def record(**changes):
    return {"structure": structure(), "energy": -20.5, "force": FORCES, "stress": KBAR.tolist(), **changes}


def read(folder, content, **options):
    return read_frames(write_json(folder, content), "pymatgen-json", {**KEYS, **VASP, **options})


@pytest.mark.parametrize(
    "content",
    [
        [record()],
        {"mp-1": {"mp-1-0-1": record()}},
        {"data": [[record()]]},
        {key: [value] for key, value in record().items()},
    ],
    ids=["list", "MPtrj", "nested", "columns"],
)
def test_wherever_a_structure_is_a_frame_is_read(tmp_path, content):
    (frame,) = read(tmp_path, content)
    frame.info["REF_stress"] = np.round(frame.info["REF_stress"], 10)
    check(frame)
    assert frame.info["config_type"] == "frames"


def test_nested_keys_read_mlearn_as_its_own_reader_does(tmp_path):
    options = {"energy_key": "outputs.energy", "forces_key": "outputs.forces", "config_type_key": "group"}
    stress = {**VASP, "stress_key": "outputs.virial_stress", "stress_order": MLEARN_ORDER}
    (frame,) = read_frames(write_json(tmp_path, [mlearn_entry()]), "pymatgen-json", {**options, **stress})
    check(frame)
    assert frame.info["config_type"] == "Elastic"


def test_energies_per_atom_units_and_groups(tmp_path):
    (frame,) = read(tmp_path, [record(energy=-10.25)], energy_per_atom=True, config_type="mine")
    assert frame.info["REF_energy"] == -20.5
    assert frame.info["config_type"] == "mine"
    (frame,) = read(tmp_path, [record()], energy_unit="rydberg", forces_unit="rydberg/bohr")
    assert frame.info["REF_energy"] == pytest.approx(-20.5 * 13.605693, rel=1e-7)
    assert frame.arrays["REF_forces"][0, 0] == pytest.approx(0.1 * 25.711034, rel=1e-7)


def test_slabs_keep_their_boundary_conditions(tmp_path):
    lattice = {"matrix": CELL, "pbc": [True, True, False]}
    (frame,) = read(tmp_path, [record(structure=structure(lattice=lattice))])
    assert frame.pbc.tolist() == [True, True, False]


def test_a_stress_without_a_convention_is_refused(tmp_path):
    path = write_json(tmp_path, [record()])
    with pytest.raises(DataError, match='record 0 has a "stress", and its convention is not named'):
        read_frames(path, "pymatgen-json", KEYS)
    (frame,) = read_frames(path, "pymatgen-json", {**KEYS, "ignore_stress": True})
    assert "REF_stress" not in frame.info


def test_missing_labels(tmp_path):
    content = [record(), record(stress=None), record(energy=None)]
    with pytest.raises(DataError, match='record 1: label "stress" is not numeric'):
        read(tmp_path, content)
    frames = read(tmp_path, content, allow_missing=True)
    assert ["REF_stress" in frame.info for frame in frames] == [True, False, True]
    assert ["REF_energy" in frame.info for frame in frames] == [True, True, False]
    (frame,) = read(tmp_path, [record()], energy_key="none")
    assert "REF_energy" not in frame.info


@pytest.mark.parametrize(
    ("content", "options", "match"),
    [
        ([{"energy": 1.0}], {}, 'holds no "structure"'),
        ([record()], {"structure_key": "atoms"}, 'holds no "atoms"'),
        ([record()], {"energy_key": "energies"}, 'did you mean "energy"'),
        ([record()], {"config_type_key": "energy"}, "which is no name"),
        ([record(force=[[0, 0, 0]])], {}, "record 0: Forces have shape"),
        (
            [record(structure=structure(sites=[{"species": [{"element": "Mo", "occu": 0.5}], "abc": [0, 0, 0]}]))],
            {},
            "ordered",
        ),
        ([record(structure=structure(lattice={}))], {}, "not a pymatgen-json file"),
        ({**{key: [value] for key, value in record().items()}, "energy": [1.0, 2.0]}, {}, "not a pymatgen-json file"),
        (json.dumps([record()])[:-9], {}, "not a pymatgen-json file"),
    ],
    ids=str,
)
def test_malformed_json_is_a_data_error(tmp_path, content, options, match):
    with pytest.raises(DataError, match=match) as caught:
        read(tmp_path, content, **options)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"config_type": "a", "config_type_key": "group"}, "give one of them"),
        ({"energy_key": ""}, "energy_key"),
        ({"energy_unit": "ev"}, 'did you mean "eV"'),
        ({"stress_sign": ""}, "needs stress_sign"),
    ],
)
def test_wrong_options_are_card_errors(tmp_path, options, match):
    with pytest.raises(CardError, match=match):
        read(tmp_path, [record()], **options)
