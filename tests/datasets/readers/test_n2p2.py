"""n2p2's input.data: units, charges, blocks that are not complete."""

from __future__ import annotations

import pytest
from ase import units

from mace_ft_bench.datasets.readers import read_frames
from mace_ft_bench.errors import CardError, DataError

from .conftest import CELL, FORCES, POSITIONS, STRESS, check

ATOMIC = {"energy_unit": "hartree", "length_unit": "bohr"}


def block(energy=units.Hartree, length=units.Bohr, charges=(0.0, 0.0), total=0.0):
    lines = ["begin", "comment a frame: energy 1 begin"]
    lines += ["lattice " + " ".join(repr(x / length) for x in row) for row in CELL]
    for symbol, position, force, charge in zip(["Mo", "Nb"], POSITIONS, FORCES, charges, strict=True):
        words = [*(x / length for x in position), symbol, charge, 0.0, *(f / energy * length for f in force)]
        lines.append("atom " + " ".join(word if isinstance(word, str) else repr(word) for word in words))
    return "\n".join([*lines, f"energy {-20.5 / energy!r}", f"charge {total}", "end\n"])


def read(folder, text, **options):
    (folder / "input.data").write_text(text)
    return read_frames(folder / "input.data", "n2p2", options or ATOMIC)


@pytest.mark.parametrize(
    ("options", "energy", "length"),
    [(ATOMIC, units.Hartree, units.Bohr), ({"energy_unit": "eV", "length_unit": "A"}, 1.0, 1.0)],
)
def test_a_frame_in_the_units_that_are_named(tmp_path, options, energy, length):
    first, second = read(tmp_path, 2 * block(energy, length), **options)
    for frame in (first, second):
        frame.info["REF_energy"] = round(frame.info["REF_energy"], 12)
        assert "REF_stress" not in frame.info
        frame.info["REF_stress"] = STRESS
        check(frame)
        assert frame.info["config_type"] == tmp_path.name
        assert "REF_charges" not in frame.arrays


def test_units_are_not_guessed(tmp_path):
    with pytest.raises(CardError, match='"length_unit" is missing'):
        read(tmp_path, block(), energy_unit="hartree")
    with pytest.raises(CardError, match='did you mean "bohr"'):
        read(tmp_path, block(), energy_unit="hartree", length_unit="Bohr")


def test_charges_are_kept_for_all_frames_where_one_has_some(tmp_path):
    plain, charged = read(tmp_path, block() + block(charges=(0.25, -1.25), total=-1.0))
    assert charged.arrays["REF_charges"].tolist() == [0.25, -1.25]
    assert charged.info["REF_total_charge"] == -1.0
    assert plain.arrays["REF_charges"].tolist() == [0.0, 0.0]


def test_without_a_lattice_nothing_is_periodic(tmp_path):
    text = "\n".join(line for line in block().splitlines() if not line.startswith("lattice"))
    (frame,) = read(tmp_path, text, **ATOMIC, config_type="molecule")
    assert not frame.pbc.any()
    assert frame.info["config_type"] == "molecule"


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("end\n", "", "line 1 has no end"),
        ("begin\ncomment", "comment", "out of place"),
        ("comment", "remark", "line 2: .* out of place"),
        ("energy -", "entropy -", "out of place"),
        ("lattice 6", "comment 6", "lacks lattice vectors"),
        ("end\n", "begin\n", "out of place"),
        ("Mo", "Xy", "not a n2p2 file"),
        ("Mo 0.0", "Mo zero", "not a n2p2 file"),
        ("Mo 0.0 0.0", "Mo 0.0", "out of place"),
        ("energy -0", "energy nan -0", "not finite"),
    ],
)
def test_malformed_blocks_are_data_errors(tmp_path, old, new, match):
    text = block()
    assert old in text
    with pytest.raises(DataError, match=match) as caught:
        read(tmp_path, text.replace(old, new, 1))
    assert caught.value.fix


def test_blocks_without_atoms_or_energy_and_no_block_at_all(tmp_path):
    for text in ("begin\nenergy 1\nend\n", "\n".join(line for line in block().splitlines() if "energy -" not in line)):
        with pytest.raises(DataError, match="block at line 1 lacks"):
            read(tmp_path, text)
    with pytest.raises(DataError, match="no frame"):
        read(tmp_path, "\n")
