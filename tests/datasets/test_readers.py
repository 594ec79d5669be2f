"""Readers against tiny files whose numbers are all different."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

from mace_ft_bench.datasets import readers
from mace_ft_bench.datasets.readers import read_frames, voigt_from
from mace_ft_bench.errors import CardError, DataError

ASE_ORDER = ["xx", "yy", "zz", "yz", "xz", "xy"]
MLEARN_ORDER = ["xx", "yy", "zz", "xy", "xz", "yz"]
OPTIONS = {"stress_order": MLEARN_ORDER}
STRESS = np.array([0.01, -0.02, 0.03, 0.004, -0.005, 0.006])
"""Tension positive, ASE's order [eV/Angstrom^3]."""
FORCES = [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.4]]
CELL = [[3.2, 0.0, 0.0], [0.1, 3.1, 0.0], [0.0, 0.2, 3.3]]
POSITIONS = [[0.0, 0.0, 0.0], [1.5, 1.6, 1.7]]


def mlearn_entry():
    """Return a frame as mlearn writes it: kbar, compression positive, xx yy zz xy xz yz."""
    kbar = -STRESS / (0.1 * units.GPa)
    return {
        "structure": {
            "lattice": {"matrix": CELL},
            "sites": [{"label": label, "xyz": xyz} for label, xyz in zip(["Mo", "Nb"], POSITIONS, strict=True)],
        },
        "outputs": {"energy": -20.5, "forces": FORCES, "virial_stress": kbar[[0, 1, 2, 5, 4, 3]].tolist()},
        "group": "Elastic",
    }


def write_json(folder, content):
    path = folder / "frames.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def check(frame):
    assert frame.get_chemical_symbols() == ["Mo", "Nb"]
    assert frame.positions == pytest.approx(np.array(POSITIONS))
    assert frame.cell.array == pytest.approx(np.array(CELL))
    assert frame.pbc.all()
    assert frame.info["REF_energy"] == -20.5
    assert frame.arrays["REF_forces"] == pytest.approx(np.array(FORCES))
    assert frame.info["REF_stress"] == pytest.approx(STRESS, rel=1e-9)
    assert frame.calc is None


def test_mlearn_json_in_our_units_sign_and_order(tmp_path):
    frames = read_frames(write_json(tmp_path, [mlearn_entry()]), "mlearn-json", OPTIONS)
    assert len(frames) == 1
    check(frames[0])
    assert frames[0].info["config_type"] == "Elastic"


def test_one_kbar_of_compression_is_minus_a_tenth_of_a_gpa(tmp_path):
    entry = mlearn_entry()
    entry["outputs"]["virial_stress"] = [1.0, 0, 0, 0, 0, 0]
    (frame,) = read_frames(write_json(tmp_path, [entry]), "mlearn-json", OPTIONS)
    assert frame.info["REF_stress"][0] == pytest.approx(-6.241509074e-4, rel=1e-8)


@pytest.fixture
def database(tmp_path):
    atoms = Atoms("MoNb", positions=POSITIONS, cell=CELL, pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=-20.5, forces=np.array(FORCES), stress=STRESS)
    path = tmp_path / "frames.db"
    with connect(path) as writer:
        writer.write(atoms, source="Mo.Elastic_NVT.7")
    return path


def test_ase_db_gives_the_same_frame(database):
    frames = read_frames(database, "ase-db", {"config_type_key": "source"})
    assert len(frames) == 1
    check(frames[0])
    assert frames[0].info["config_type"] == "Elastic-NVT"


def without(key):
    entry = mlearn_entry()
    del entry["outputs"][key]
    return [entry]


def replaced(key, value):
    entry = mlearn_entry()
    entry["outputs"][key] = value
    return [entry]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps([mlearn_entry()])[:-40],
        "",
        {"structure": 1},
        [None],
        [[]],
        [{}],
        [{**mlearn_entry(), "structure": {"lattice": {"matrix": CELL}, "sites": [{"label": "Xx", "xyz": [0, 0, 0]}]}}],
        [{**mlearn_entry(), "structure": {"lattice": {"matrix": [1, 2]}, "sites": []}}],
        *[without(key) for key in ("energy", "forces", "virial_stress")],
        replaced("forces", [[0.1, 0.2, 0.3]]),
        replaced("forces", [[0.1, 0.2], [0.3, 0.4]]),
        replaced("forces", [[0.1, 0.2, 0.3], [0.1]]),
        replaced("forces", "none"),
        replaced("forces", [[0.1, 0.2, 0.3], [0.1, 0.2, float("nan")]]),
        replaced("energy", float("nan")),
        replaced("energy", float("inf")),
        replaced("energy", None),
        replaced("energy", [1.0, 2.0]),
        replaced("virial_stress", [1.0, 2.0, 3.0, 4.0, 5.0]),
        replaced("virial_stress", [1.0, 2.0, 3.0, 4.0, 5.0, float("nan")]),
        replaced("virial_stress", [1.0, 2.0, 3.0, 4.0, 5.0, None]),
    ],
    ids=str,
)
def test_malformed_json_is_a_data_error(tmp_path, content):
    with pytest.raises(DataError) as caught:
        read_frames(write_json(tmp_path, content), "mlearn-json", OPTIONS)
    assert caught.value.fix


def test_a_position_that_is_no_number_is_a_data_error(tmp_path):
    entry = mlearn_entry()
    entry["structure"]["sites"][0]["xyz"] = [float("nan"), 0, 0]
    with pytest.raises(DataError, match="not finite"):
        read_frames(write_json(tmp_path, [entry]), "mlearn-json", OPTIONS)


def test_text_of_another_encoding_is_a_data_error(tmp_path):
    path = tmp_path / "frames.json"
    path.write_bytes(b'[{"group": "\xff"}]')
    with pytest.raises(DataError, match="not a mlearn-json file"):
        read_frames(path, "mlearn-json", OPTIONS)


def test_a_truncated_database_is_a_data_error(database):
    content = database.read_bytes()
    database.write_bytes(content[: len(content) // 3])
    with pytest.raises(DataError, match="not a ase-db file"):
        read_frames(database, "ase-db", {"config_type_key": "source"})


@pytest.mark.parametrize("change", ["no forces", "no stress", "no source", "source without dots"])
def test_a_database_row_without_labels_is_a_data_error(tmp_path, change):
    atoms = Atoms("MoNb", positions=POSITIONS, cell=CELL, pbc=True)
    labels = {"energy": -20.5, "forces": np.array(FORCES), "stress": STRESS}
    labels.pop(change.removeprefix("no "), None)
    atoms.calc = SinglePointCalculator(atoms, **labels)
    keys = {"no source": {}, "source without dots": {"source": "somewhere"}}.get(change, {"source": "Mo.Elastic.7"})
    with connect(tmp_path / "frames.db") as writer:
        writer.write(atoms, **keys)
    with pytest.raises(DataError, match="not a ase-db file"):
        read_frames(tmp_path / "frames.db", "ase-db", {"config_type_key": "source"})


XYZ_OPTIONS = {"energy_key": "dft_energy", "forces_key": "dft_force", "config_type_key": "config_type"}
COMMENT = (
    'Lattice="3.2 0.0 0.0 0.1 3.1 0.0 0.0 0.2 3.3" Properties=species:S:1:pos:R:3:dft_force:R:3 '
    'config_type=Fault/110 pbc="T T T" dft_energy=-20.5'
)
ATOMS = "Mo 0.0 0.0 0.0 0.1 0.2 0.3\nNb 1.5 1.6 1.7 -0.1 -0.2 -0.4\n"
XYZ = f"2\n{COMMENT}\n{ATOMS}"


def read_xyz(folder, text, **options):
    path = folder / "frames.xyz"
    path.write_text(text, encoding="utf-8")
    return read_frames(path, "extxyz", {**XYZ_OPTIONS, **options})


def changed(old, new):
    assert XYZ.count(old) == 1
    return XYZ.replace(old, new)


def check_xyz(frame):
    frame.info["REF_stress"] = STRESS
    check(frame)
    assert set(frame.info) == {"REF_energy", "REF_stress", "config_type"}
    assert set(frame.arrays) == {"numbers", "positions", "REF_forces"}


def test_extxyz_gives_the_same_frame_without_a_stress(tmp_path):
    (frame,) = read_xyz(tmp_path, changed("pbc", 'stress="9 0 0 0 9 0 0 0 9" energy=7.0 pbc'))
    assert "REF_stress" not in frame.info
    assert frame.info["config_type"] == "Fault/110"
    check_xyz(frame)


@pytest.mark.parametrize("energy", ["energy", "free_energy"])
def test_labels_that_ase_moves_into_a_calculator_are_found(tmp_path, energy):
    text = XYZ.replace("dft_energy", energy).replace("dft_force", "forces")
    (frame,) = read_xyz(tmp_path, text, energy_key=energy, forces_key="forces")
    check_xyz(frame)


def test_exact_groups_are_selected_in_the_order_of_the_file(tmp_path):
    names = ["b", "Fault", "Fault/110", "a", "b"]
    text = "".join(changed("Fault/110", name).replace("-20.5", f"{-number}") for number, name in enumerate(names))
    assert [frame.info["config_type"] for frame in read_xyz(tmp_path, text)] == names
    chosen = read_xyz(tmp_path, text, config_types=["b", "Fault"])
    assert [(frame.info["config_type"], frame.info["REF_energy"]) for frame in chosen] == [
        ("b", 0.0),
        ("Fault", -1.0),
        ("b", -4.0),
    ]


def test_frames_that_are_not_selected_need_no_labels(tmp_path):
    text = changed(" dft_energy=-20.5", "").replace("Fault/110", "other") + XYZ
    (frame,) = read_xyz(tmp_path, text, config_types=["Fault/110"])
    check_xyz(frame)
    with pytest.raises(DataError, match='frame 0 has no label "dft_energy"'):
        read_xyz(tmp_path, text)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"config_types": ["Fault"]}, 'no frame of config type "Fault"'),
        ({"config_types": ["Fault/110", "fault/110"]}, 'no frame of config type "fault/110"'),
        ({"config_types": []}, "config_types"),
        ({"config_types": "Fault/110"}, "config_types"),
        ({"config_types": [110]}, "config_types"),
        ({"energy_key": 1}, "energy_key"),
        ({"forces_key": ""}, "forces_key"),
        ({"config_type_key": ["config_type"]}, "config_type_key"),
        ({"stress_key": "stress"}, "does not take"),
        ({"stress_order": MLEARN_ORDER}, "does not take"),
    ],
    ids=str,
)
def test_wrong_options_of_extxyz_are_card_errors(tmp_path, options, match):
    with pytest.raises(CardError, match=match) as caught:
        read_xyz(tmp_path, XYZ, **options)
    assert caught.value.fix


def test_extxyz_needs_all_its_keys(tmp_path):
    for key in XYZ_OPTIONS:
        with pytest.raises(CardError, match="does not take"):
            read_frames(tmp_path / "frames.xyz", "extxyz", {k: v for k, v in XYZ_OPTIONS.items() if k != key})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"energy_key": "dft_energies"}, 'did you mean "dft_energy"'),
        ({"forces_key": "dft_forces"}, 'did you mean "dft_force"'),
        ({"config_type_key": "config"}, 'did you mean "config_type"'),
        ({"config_type_key": "dft_energy"}, "which is no name"),
        ({"energy_key": "config_type"}, "is not numeric"),
        ({"forces_key": "numbers"}, "shape"),
    ],
    ids=str,
)
def test_labels_that_are_not_there_are_data_errors(tmp_path, options, match):
    with pytest.raises(DataError, match=match):
        read_xyz(tmp_path, XYZ, **options)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (changed("-20.5", "nan"), "not finite"),
        (changed("-20.5", "-inf"), "not finite"),
        (changed("-0.4", "nan"), "not finite"),
        (changed("1.7", "inf"), "not finite"),
        (changed("-20.5", "none"), "not numeric"),
        (changed("=-20.5", ""), "not numeric"),
        (changed("-20.5", '"-20.5 1.0"'), "extxyz"),
        (changed("dft_force:R:3", "dft_force:S:3"), "not numeric"),
        (changed("dft_force:R:3", "dft_force:R:2"), "shape"),
        (changed("Fault/110", "110"), "which is no name"),
        (changed("config_type=Fault/110", ""), 'has no "config_type"'),
        (changed("Mo", "Xy"), "extxyz"),
        (changed("-0.1", "hello"), "extxyz"),
        (changed(" -0.4", ""), "extxyz"),
        (changed("3.3", "3.3 1.0"), "extxyz"),
        (XYZ + "2\n", "extxyz"),
        (XYZ + XYZ[:-30], "extxyz"),
        (XYZ + f"3\n{COMMENT}\n{ATOMS}", "extxyz"),
        (XYZ + "hello\n", "extxyz"),
        (f"{XYZ}\n{XYZ}", "after an empty line behind 1 frames"),
        (f"\n{XYZ}", "after an empty line behind 0 frames"),
        ("", "no frame"),
        ("\n", "no frame"),
        (json.dumps([mlearn_entry()]), "extxyz"),
    ],
    ids=str,
)
def test_malformed_extxyz_is_a_data_error(tmp_path, text, match):
    with pytest.raises(DataError, match=match) as caught:
        read_xyz(tmp_path, text)
    assert caught.value.fix


def test_extxyz_of_another_encoding_is_a_data_error(tmp_path):
    (tmp_path / "frames.xyz").write_bytes(XYZ.encode().replace(b"Fault", b"\xff"))
    with pytest.raises(DataError, match="not a extxyz file"):
        read_frames(tmp_path / "frames.xyz", "extxyz", XYZ_OPTIONS)


def test_an_empty_line_at_the_end_of_extxyz_is_none_in_it(tmp_path):
    assert len(read_xyz(tmp_path, f"{XYZ}{XYZ}\n \n")) == 2


def test_unknown_readers_and_options_are_card_errors(tmp_path):
    path = write_json(tmp_path, [mlearn_entry()])
    with pytest.raises(CardError, match="mlearn-json"):
        read_frames(path, "mlearn", OPTIONS)
    for options in ({}, {"order": ASE_ORDER}, {**OPTIONS, "unit": "kbar"}):
        with pytest.raises(CardError, match="does not take"):
            read_frames(path, "mlearn-json", options)


def test_a_database_that_is_none_is_no_card_error(tmp_path):
    path = tmp_path / "frames.db"
    path.write_text("hello" * 500, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_frames(path, "ase-db", {"config_type_key": "source"})
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)


@pytest.mark.parametrize(
    ("order", "moved"),
    [(ASE_ORDER, [1, 2, 3, 4, 5, 6]), (MLEARN_ORDER, [1, 2, 3, 6, 5, 4]), (["zz", "yx", "zy", "xx", "zx", "yy"], None)],
)
def test_components_move_to_their_places(order, moved):
    expected = moved or [4, 6, 1, 3, 5, 2]
    assert voigt_from([1, 2, 3, 4, 5, 6], order).tolist() == expected


@pytest.mark.parametrize(
    "order",
    [
        ASE_ORDER[:5],
        [*ASE_ORDER, "xx"],
        [*ASE_ORDER[:5], "xw"],
        [*ASE_ORDER[:5], "yz"],
        [*ASE_ORDER[:5], "zy"],
        [*ASE_ORDER[:5], "xyz"],
        [*ASE_ORDER[:5], "x"],
        [*ASE_ORDER[:5], ""],
        "xx yy zz",
    ],
    ids=str,
)
def test_a_wrong_order_is_a_card_error(order, tmp_path):
    with pytest.raises(CardError, match="name xx, yy, zz, yz, xz and xy"):
        voigt_from([1, 2, 3, 4, 5, 6], order)
    with pytest.raises(CardError, match="name xx, yy, zz, yz, xz and xy"):
        read_frames(write_json(tmp_path, [mlearn_entry()]), "mlearn-json", {"stress_order": order})


def test_missing_components_are_a_data_error():
    with pytest.raises(DataError, match="5 components"):
        voigt_from([1, 2, 3, 4, 5], ASE_ORDER)


def test_every_reader_is_documented():
    assert all(reader.__doc__ for reader in readers.READERS.values())
