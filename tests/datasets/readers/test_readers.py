"""What all readers share, and mlearn's JSON and ASE's database."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

from mace_ft_bench.datasets import readers
from mace_ft_bench.datasets.readers import read_frames
from mace_ft_bench.errors import CardError, DataError

from .conftest import ASE_ORDER, CELL, FORCES, OPTIONS, POSITIONS, STRESS, check, mlearn_entry, write_json


def test_mlearn_json_in_our_units_sign_and_order(tmp_path):
    frames = read_frames(write_json(tmp_path, [mlearn_entry()]), "mlearn-json", OPTIONS)
    assert len(frames) == 1
    check(frames[0])
    assert frames[0].info["config_type"] == "Elastic"


def test_groups_may_have_an_order_of_their_own(tmp_path):
    other = mlearn_entry()
    other["group"] = "Vacancy"
    path = write_json(tmp_path, [mlearn_entry(), other])
    orders = {"Vacancy": ["xx", "yy", "zz", "xz", "xy", "yz"]}
    known, moved = read_frames(path, "mlearn-json", OPTIONS | {"group_stress_orders": orders})
    check(known)
    assert moved.info["REF_stress"][:4].tolist() == known.info["REF_stress"][:4].tolist()
    assert moved.info["REF_stress"][[5, 4]].tolist() == known.info["REF_stress"][[4, 5]].tolist()
    assert moved.info["REF_stress"][4] != known.info["REF_stress"][4]
    with pytest.raises(DataError, match='no group "Vacncy"'):
        read_frames(path, "mlearn-json", OPTIONS | {"group_stress_orders": {"Vacncy": orders["Vacancy"]}})
    with pytest.raises(CardError, match="is no order"):
        read_frames(path, "mlearn-json", OPTIONS | {"group_stress_orders": {"Vacancy": ["xx"]}})


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
    frames = read_frames(database, "ase-db", {"config_type_key": "source", "group_part": 1})
    assert len(frames) == 1
    check(frames[0])
    assert frames[0].info["config_type"] == "Elastic-NVT"
    (whole,) = read_frames(database, "ase-db", {"config_type_key": "source"})
    assert whole.info["config_type"] == "Mo.Elastic-NVT.7"


def test_a_row_of_a_database_may_lack_a_label(tmp_path):
    atoms = Atoms("MoNb", positions=POSITIONS, cell=CELL, pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=-20.5)
    with connect(tmp_path / "frames.db") as writer:
        writer.write(atoms, group="md")
    (frame,) = read_frames(tmp_path / "frames.db", "ase-db", {"config_type_key": "group"})
    assert frame.info["REF_energy"] == -20.5
    assert {"REF_forces", "REF_stress"}.isdisjoint({*frame.info, *frame.arrays})


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


@pytest.mark.parametrize("change", ["no source", "source without dots"])
def test_a_database_row_without_a_group_is_a_data_error(tmp_path, change):
    atoms = Atoms("MoNb", positions=POSITIONS, cell=CELL, pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=-20.5, forces=np.array(FORCES), stress=STRESS)
    with connect(tmp_path / "frames.db") as writer:
        writer.write(atoms, **({} if change == "no source" else {"source": "somewhere"}))
    with pytest.raises(DataError, match="not a ase-db file"):
        read_frames(tmp_path / "frames.db", "ase-db", {"config_type_key": "source", "group_part": 1})


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


def test_every_reader_is_documented():
    assert all(reader.__doc__ for reader in readers.READERS.values())
