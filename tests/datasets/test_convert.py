"""Where sources lie, what they look like, and labels that some frames lack."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.db import connect

from mace_ft_bench.datasets.convert import (
    check_options,
    choose_format,
    convert,
    find_sources,
    looks_like,
    require_labels,
    summarise,
)
from mace_ft_bench.datasets.readers import READERS
from mace_ft_bench.errors import CardError, DataError

MAP = {"type_map": ["Cu"]}


@pytest.fixture
def tree(tmp_path, rattled):
    """Return a folder with DeePMD systems round.0/a (2 frames), round.0/b and round.1/a (1 frame each)."""
    seeds = iter(range(9))
    for name, count in [("round.0/a", 2), ("round.0/b", 1), ("round.1/a", 1)]:
        frames = [rattled(next(seeds)) for _ in range(count)]
        folder = tmp_path / "tree" / name
        (folder / "set.000").mkdir(parents=True)
        (folder / "type.raw").write_text("0\n" * len(frames[0]))
        content = {
            "coord": [frame.positions.ravel() for frame in frames],
            "box": [frame.cell.array.ravel() for frame in frames],
            "energy": [frame.info["REF_energy"] for frame in frames],
            "force": [frame.arrays["REF_forces"].ravel() for frame in frames],
            "virial": [-frame.cell.volume * frame.info["REF_stress"][[0, 5, 4, 5, 1, 3, 4, 3, 2]] for frame in frames],
        }
        for key, array in content.items():
            np.save(folder / "set.000" / f"{key}.npy", np.array(array))
    return tmp_path / "tree"


def test_systems_in_folders_are_found_and_grouped_by_folder(tree, rattled):
    frames = convert([tree], "deepmd-npy", MAP)
    assert [frame.info["config_type"] for frame in frames] == ["round.0/a", "round.0/a", "round.0/b", "round.1/a"]
    assert frames[3].info["REF_energy"] == rattled(3).info["REF_energy"]
    assert frames[3].info["REF_stress"] == pytest.approx(rattled(3).info["REF_stress"], rel=1e-12)


def test_several_sources_in_their_order_and_one_group(tree):
    frames = convert([tree / "round.1", tree / "round.0" / "b"], "deepmd-npy", MAP)
    assert [frame.info["config_type"] for frame in frames] == ["a", "b"]
    frames = convert([tree / "round.1", tree / "round.0"], "deepmd-npy", {**MAP, "config_type": "all"})
    assert {frame.info["config_type"] for frame in frames} == {"all"}
    assert len(frames) == 4


def test_one_group_for_extxyz_needs_no_key(tmp_path):
    (tmp_path / "a.xyz").write_text("1\nProperties=species:S:1:pos:R:3:f:R:3 e=1.5\nCu 0 0 0 0 0 1\n")
    (frame,) = convert([tmp_path / "a.xyz"], "extxyz", {"energy_key": "e", "forces_key": "f", "config_type": "one"})
    assert frame.info["config_type"] == "one"


@pytest.mark.parametrize("label", ["virial", "energy", "force"])
def test_labels_that_some_frames_lack_name_the_frames(tree, label):
    (tree / "round.0" / "b" / "set.000" / f"{label}.npy").unlink()
    key = {"virial": "REF_stress", "energy": "REF_energy", "force": "REF_forces"}[label]
    with pytest.raises(DataError, match=rf"1 of 4 frames have no {key}: 2 \(round\.0/b\)") as caught:
        convert([tree], "deepmd-npy", MAP)
    assert "--allow-missing" in caught.value.fix
    frames = convert([tree], "deepmd-npy", MAP, allow_missing=True)
    assert summarise(frames).labels[key] == 3
    assert len(convert([tree / "round.0" / "b"], "deepmd-npy", MAP)) == 1  # a label that nobody has is not missed


def test_many_frames_without_a_label_are_not_all_named(rattled):
    frames = [rattled(seed) for seed in range(8)]
    for frame in frames[1:]:
        del frame.info["REF_energy"]
    with pytest.raises(DataError, match=r"7 of 8 .*: 1 \(bulk\), .*5 \(bulk\) and 2 more"):
        require_labels(frames)


def test_allow_missing_reaches_the_reader(tmp_path):
    text = "1\nProperties=species:S:1:pos:R:3:f:R:3 {}\nCu 0 0 0 0 0 1\n"
    (tmp_path / "a.xyz").write_text(text.format("e=1.5") + text.format(""))
    options = {"energy_key": "e", "forces_key": "f", "config_type": "one"}
    with pytest.raises(DataError, match='no label "e"'):
        convert([tmp_path / "a.xyz"], "extxyz", options)
    assert len(convert([tmp_path / "a.xyz"], "extxyz", options, allow_missing=True)) == 2


def test_nothing_is_no_result(tmp_path):
    (tmp_path / "frames.json").write_text("[]")
    with pytest.raises(DataError, match="No frame is left"):
        convert([tmp_path / "frames.json"], "mlearn-json", {"stress_order": ["xx", "yy", "zz", "xy", "xz", "yz"]})


def test_the_summary_is_of_the_labels(copper, emt):
    compressed, expanded = copper.copy(), copper * 2
    compressed.set_cell(compressed.cell * 0.95, scale_atoms=True)
    expanded.set_cell(expanded.cell * 1.05, scale_atoms=True)
    frames = [emt(compressed, "small"), emt(expanded, "large")]
    frames[0].arrays["REF_forces"][:] = 0.3
    frames[1].arrays["REF_forces"][:] = 0.0
    summary = summarise(frames)
    assert (summary.frames, summary.atoms) == (2, 36)
    assert summary.groups == {"large": 1, "small": 1}
    assert summary.force_rms_ev_per_a == pytest.approx(0.1)  # a ninth of the components is 0.3
    energies = sorted(frame.info["REF_energy"] / len(frame) for frame in frames)
    assert summary.energy_ev_per_atom == pytest.approx(energies)
    low, high = summary.pressure_gpa
    assert low < -5 < 5 < high  # pressure is positive in compression
    for frame in frames:
        del frame.info["REF_energy"], frame.info["REF_stress"], frame.arrays["REF_forces"]
    summary = summarise(frames)
    assert summary.energy_ev_per_atom is summary.force_rms_ev_per_a is summary.pressure_gpa is None


STRUCTURE = {"lattice": {"matrix": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}, "sites": []}
FILES = {
    "vasprun.xml": ("<?xml version='1.0'?>\n<modeling>\n", ["vasprun"]),
    "OUTCAR": (" vasp.6.3.2 18Jan21\n POTCAR:    PAW_PBE Mo\n", ["outcar"]),
    "input.data": ("begin\nlattice 1 0 0\n", ["n2p2"]),
    "cp2k.out": (" DBCSR| Multiplication driver\n CP2K| version string: CP2K version 8.1\n", ["cp2k"]),
    "a.xyz": ("1\n\nH 0 0 0\n", ["extxyz"]),
    "mlearn.json": (
        json.dumps([{"structure": STRUCTURE, "outputs": {"virial_stress": []}}]),
        ["mlearn-json", "pymatgen-json"],
    ),
    "pymatgen.json": (json.dumps([{"structure": STRUCTURE}]), ["pymatgen-json"]),
    "notes.txt": ("begin with a comment", []),
    "empty": ("", []),
    "README": ("hello", []),
}


@pytest.mark.parametrize("name", FILES)
def test_files_look_like_their_formats(tmp_path, name):
    text, expected = FILES[name]
    (tmp_path / name).write_text(text)
    assert sorted(looks_like(tmp_path / name)) == expected


def test_databases_and_folders_look_like_their_formats(tmp_path, tree):
    with connect(tmp_path / "frames.db") as database:
        database.write(Atoms("H"))
    assert looks_like(tmp_path / "frames.db") == ["ase-db"]
    assert looks_like(tree) == ["deepmd-npy"]
    assert set(FILES["vasprun.xml"][1]) <= set(READERS)


def test_a_format_is_chosen_where_it_is_certain_and_asked_for_elsewhere(tmp_path, tree):
    for name, (text, _) in FILES.items():
        (tmp_path / name).write_text(text)
    assert choose_format([tree, tree / "round.0"]) == "deepmd-npy"
    assert choose_format([tmp_path / "vasprun.xml"]) == "vasprun"
    assert choose_format([tmp_path / "input.data"]) == "n2p2"
    for names, match in [
        (["OUTCAR"], "look like outcar"),
        (["a.xyz"], "look like extxyz"),
        (["mlearn.json"], "look like mlearn-json or pymatgen-json"),
        (["vasprun.xml", "input.data"], "look like n2p2 or vasprun"),
    ]:
        with pytest.raises(CardError, match=match) as caught:
            choose_format([tmp_path / name for name in names])
        assert "--format" in caught.value.fix
    with pytest.raises(DataError, match="README looks like no known format") as caught:
        choose_format([tmp_path / "README"])
    assert "cp2k" in caught.value.fix
    with pytest.raises(DataError, match="nowhere does not exist"):
        choose_format([tmp_path / "nowhere"])


def test_sources_that_are_not_there(tmp_path, tree):
    with pytest.raises(DataError, match="does not exist"):
        find_sources(tmp_path / "nowhere", "n2p2")
    with pytest.raises(DataError, match=r"holds no vasprun\.xml") as caught:
        find_sources(tree, "vasprun")
    assert "deepmd-npy" in caught.value.fix
    with pytest.raises(DataError, match="format extxyz is read from files"):
        find_sources(tree, "extxyz")


@pytest.mark.parametrize(
    ("reader", "options", "match"),
    [
        ("deepmd", {}, 'did you mean "deepmd-npy"'),
        ("deepmd-npy", {"stress_unit": "kbar"}, "takes no --stress-unit.*it takes --type-map, --config-type"),
        ("n2p2", {"energy_unit": "eV"}, "needs --length-unit"),
        ("vasprun", {}, "needs --energy"),
        ("extxyz", {"energy_key": "e"}, "needs --forces-key, --config-type-key"),
    ],
)
def test_options_are_those_of_the_format(reader, options, match):
    with pytest.raises(CardError, match=match):
        check_options(reader, options)
