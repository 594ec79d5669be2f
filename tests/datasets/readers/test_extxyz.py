"""Extended XYZ with any keys."""

from __future__ import annotations

import json

import pytest

from mace_ft_bench.datasets.readers import read_frames
from mace_ft_bench.errors import CardError, DataError

from .conftest import MLEARN_ORDER, STRESS, check, mlearn_entry

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
    (frame,) = read_xyz(tmp_path, changed("pbc", 'stress="9 0 0 0 9 0 0 0 9" energy=7.0 pbc'), ignore_stress=True)
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
        ({"stress_keys": "stress"}, 'did you mean "stress_key"'),
        ({"stress_key": "stress"}, "needs stress_unit, stress_sign"),
        ({"stress_order": MLEARN_ORDER}, "needs stress_key, stress_unit, stress_sign"),
        ({"energy_unit": "hartre"}, 'did you mean "hartree"'),
        ({"forces_unit": "eV"}, '"eV" is no unit'),
        ({"config_type": "all"}, "comes from one place"),
        ({"config_type_key": "none"}, "comes from one place"),
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


MATRIX = "0.01 0.006 -0.005 0.006 -0.02 0.004 -0.005 0.004 0.03"
"""STRESS as nine numbers."""
ASE_STRESS = {"stress_key": "stress", "stress_unit": "eV/A^3", "stress_sign": "tension"}


def with_stress(key="stress", values=MATRIX):
    return changed("pbc", f'{key}="{values}" pbc')


@pytest.mark.parametrize("key", ["stress", "virial", "dft_stress", "REF_virials"])
@pytest.mark.parametrize("values", [MATRIX, "0.01 -0.02 0.03 0.004 -0.005 0.006"])
def test_a_stress_without_a_convention_is_refused_with_the_options_to_give(tmp_path, key, values):
    with pytest.raises(DataError, match=f'frame 0 has a "{key}", and its convention is not named') as caught:
        read_xyz(tmp_path, with_stress(key, values))
    for word in ("stress_key", "stress_unit", "stress_sign", "tension", "compression", "ignore_stress"):
        assert word in caught.value.fix
    assert len(read_xyz(tmp_path, with_stress(key, values), ignore_stress=True)) == 1


@pytest.mark.parametrize("key", ["stress", "dft_stress"])
def test_nine_numbers_in_ase_convention(tmp_path, key):
    (frame,) = read_xyz(tmp_path, with_stress(key), **{**ASE_STRESS, "stress_key": key})
    check_xyz(frame)
    assert read_xyz(tmp_path, with_stress(key), **{**ASE_STRESS, "stress_key": key})[0].info["REF_stress"] == (
        pytest.approx(STRESS, rel=1e-15)
    )


@pytest.mark.parametrize("key", ["stress", "dft_stress"])
def test_six_numbers_need_their_order_even_where_ase_would_take_its_own(tmp_path, key):
    text = with_stress(key, "0.01 -0.02 0.03 0.006 -0.005 0.004")
    options = {**ASE_STRESS, "stress_key": key}
    with pytest.raises(DataError, match="6 components and no stress_order"):
        read_xyz(tmp_path, text, **options)
    (frame,) = read_xyz(tmp_path, text, **options, stress_order=MLEARN_ORDER)
    assert frame.info["REF_stress"] == pytest.approx(STRESS, rel=1e-15)


def test_a_virial_is_divided_by_the_volume(tmp_path):
    (frame,) = read_xyz(
        tmp_path, with_stress("virial"), stress_key="virial", stress_unit="eV", stress_sign="compression"
    )
    assert frame.info["REF_stress"] == pytest.approx(-STRESS / frame.cell.volume, rel=1e-14)


def test_a_virial_without_a_cell_is_refused(tmp_path):
    text = with_stress("virial").replace('Lattice="3.2 0.0 0.0 0.1 3.1 0.0 0.0 0.2 3.3" ', "").replace("T T T", "F F F")
    with pytest.raises(DataError, match="virial but no volume"):
        read_xyz(tmp_path, text, stress_key="virial", stress_unit="eV", stress_sign="compression")


@pytest.mark.parametrize("text", [XYZ, with_stress("stress", "unknown"), with_stress("stress", "T T T T T T")])
def test_a_named_stress_has_to_be_there_and_a_number(tmp_path, text):
    with pytest.raises(DataError, match='no label "stress"|"stress" is not numeric'):
        read_xyz(tmp_path, text, **ASE_STRESS)


def test_words_about_the_stress_are_no_stress(tmp_path):
    text = changed("pbc", "calculate_stress=T stress_unit=GPa stress_weight=2.0 pbc")
    (frame,) = read_xyz(tmp_path, text)
    check_xyz(frame)


def test_units_of_energy_and_forces(tmp_path):
    (frame,) = read_xyz(tmp_path, XYZ, energy_unit="hartree", forces_unit="hartree/bohr")
    assert frame.info["REF_energy"] == pytest.approx(-20.5 * 27.211386, rel=1e-7)
    assert frame.arrays["REF_forces"][0, 0] == pytest.approx(0.1 * 51.4220675, rel=1e-7)


def test_forces_alone_leave_no_energy(tmp_path):
    (frame,) = read_xyz(tmp_path, XYZ, energy_key="none")
    assert set(frame.info) == {"config_type"}
    (frame,) = read_xyz(tmp_path, XYZ, forces_key="none")
    assert set(frame.arrays) == {"numbers", "positions"}
    with pytest.raises(DataError, match="frame 0 has no label"):
        read_xyz(tmp_path, XYZ, energy_key="none", forces_key="none")


def test_one_group_for_all(tmp_path):
    text = changed("config_type=Fault/110", "")
    (frame,) = read_xyz(tmp_path, text, config_type_key="none", config_type="faults")
    assert frame.info["config_type"] == "faults"


def test_frames_that_lack_labels_are_kept_only_on_request(tmp_path):
    text = with_stress() + changed(" dft_energy=-20.5", "")
    with pytest.raises(DataError, match='frame 1 has no label "dft_energy"'):
        read_xyz(tmp_path, text, **ASE_STRESS)
    first, second = read_xyz(tmp_path, text, **ASE_STRESS, allow_missing=True)
    assert {"REF_energy", "REF_stress"} <= set(first.info)
    assert set(second.info) == {"config_type"}


def test_frames_are_named_in_errors(tmp_path):
    with pytest.raises(DataError, match=r"frames\.xyz, frame 1: A label or position"):
        read_xyz(tmp_path, XYZ + changed("-20.5", "nan"))


def test_structures_without_labels_are_read_only_where_that_is_said(tmp_path):
    bare = {"energy_key": "none", "forces_key": "none"}
    text = XYZ.replace('pbc="T T T" ', "")
    with pytest.raises(DataError, match="frame 0 has no label"):
        read_xyz(tmp_path, text, **bare)
    (frame,) = read_xyz(tmp_path, text, **bare, unlabelled=True, pbc=[True, True, False])
    assert frame.info == {"config_type": "Fault/110"}
    assert set(frame.arrays) == {"numbers", "positions"}
    assert frame.pbc.tolist() == [True, True, False]
    stress = {"stress_key": "stress", "stress_unit": "GPa", "stress_sign": "tension"}
    for labels in ({"energy_key": "dft_energy"}, {"forces_key": "dft_force"}, stress):
        with pytest.raises(CardError, match="unlabelled and have"):
            read_xyz(tmp_path, text, **{**bare, **labels}, unlabelled=True)
