"""CP2K's text output, in the layouts before and since version 8."""

from __future__ import annotations

import numpy as np
import pytest
from ase.geometry import cellpar_to_cell

from mace_ft_bench.datasets.readers import read_frames
from mace_ft_bench.errors import DataError

from .conftest import FORCES, POSITIONS, STRESS, matrix_of

CELL = cellpar_to_cell([3.2, 3.101611, 3.306054, 86.5, 90.0, 88.152])
GPA = -160.21766208 * matrix_of(STRESS)
ENERGY = -20.5 / 27.211386024367243
FORCE = np.array(FORCES) / 51.42206747632591
UNITS = {"GPa": 1.0, "bar": 1e4}


def header(cell=CELL, periodicity="XYZ"):
    lengths, angles = np.linalg.norm(cell, axis=1), [86.5, 90.0, 88.152]
    lines = [f" CELL| Volume [angstrom^3]: {abs(np.linalg.det(cell)):.6f}"]
    for name, row, length in zip("abc", cell, lengths, strict=True):
        vector = " ".join(f"{x:9.3f}" for x in row)
        lines.append(f" CELL| Vector {name} [angstrom]: {vector}   |{name}| = {length:12.6f}")
    names = ["(b,c), alpha", "(a,c), beta ", "(a,b), gamma"]
    lines += [f" CELL| Angle {name} [degree]: {angle:30.6f}" for name, angle in zip(names, angles, strict=True)]
    if periodicity:
        lines.append(f" CELL| Periodicity {periodicity:>40}")
    lines += [line.replace(" CELL|", " CELL_REF|").replace("3.", "9.") for line in lines]
    return "\n".join(lines)


def coordinates(title="MODULE QUICKSTEP:  ATOMIC COORDINATES IN angstrom"):
    lines = [f" {title}", "", "  Atom  Kind  Element       X           Y           Z          Z(eff)       Mass", ""]
    for number, (kind, z, position) in enumerate([("Mo1", 42, POSITIONS[0]), ("Nb", 41, POSITIONS[1])], start=1):
        vector = " ".join(f"{x:11.6f}" for x in position)
        lines.append(f"  {number:6} {number:5} {kind:3} {z:3} {vector} {14.0:11.4f} {95.95:11.4f}")
    return "\n".join([*lines, "", ""])


def old(stress=True):
    forces = [
        f"  {number:5} {number:5}      {symbol:3} " + " ".join(f"{x:14.8f}" for x in row)
        for number, (symbol, row) in enumerate(zip(["Mo", "Nb"], FORCE, strict=True), start=1)
    ]
    tensor = [f"  {axis}   " + " ".join(f"{x:15.8f}" for x in row) for axis, row in zip("XYZ", GPA, strict=True)]
    return "\n".join(
        [
            header(periodicity=""),
            coordinates(),
            "  *** SCF run converged in    12 steps ***",
            f" ENERGY| Total FORCE_EVAL ( QS ) energy (a.u.): {ENERGY:30.15f}",
            " ATOMIC FORCES in [a.u.]",
            "",
            " # Atom   Kind   Element          X              Y              Z",
            *forces,
            " SUM OF ATOMIC FORCES           0.00000000     0.00000000    -0.00194469     0.00194469",
            *(
                ["", " STRESS TENSOR [GPa]", "", "            X               Y               Z", *tensor]
                if stress
                else []
            ),
            "",
            "  1/3 Trace(stress tensor):  -1.06811773E+00",
        ]
    )


def new(unit="bar"):
    forces = [
        f" FORCES| {n:6} " + " ".join(f"{x:15.8E}" for x in row) + " 1.0E-2" for n, row in enumerate(FORCE, start=1)
    ]
    tensor = [
        f" STRESS|      {axis} " + " ".join(f"{x:19.11E}" for x in row)
        for axis, row in zip("xyz", UNITS[unit] * GPA, strict=True)
    ]
    return "\n".join(
        [
            header(),
            coordinates("MODULE QUICKSTEP: ATOMIC COORDINATES IN ANGSTROM"),
            "  *** SCF run converged in    12 steps ***",
            f" ENERGY| Total FORCE_EVAL ( QS ) energy [hartree] {ENERGY:30.15f}",
            " FORCES| Atomic forces [hartree/bohr]",
            " FORCES|   Atom     x               y               z               |f|",
            *forces,
            " FORCES| Sum     1.0 2.0 3.0 4.0",
            f" STRESS| Analytical stress tensor [{unit}]",
            " STRESS|                        x                   y                   z",
            *tensor,
            " STRESS| 1/3 Trace                                            -1.52803276373E-01",
        ]
    )


def read(folder, text, **options):
    (folder / "cp2k.out").write_text(text)
    return read_frames(folder / "cp2k.out", "cp2k", options)


@pytest.mark.parametrize("text", [old(), new("bar"), new("GPa")], ids=["6.1", "2025", "8"])
def test_a_single_point_in_our_units_and_sign(tmp_path, text):
    (frame,) = read(tmp_path, text)
    assert frame.get_chemical_symbols() == ["Mo", "Nb"]
    assert frame.positions == pytest.approx(np.array(POSITIONS))
    assert frame.cell.array == pytest.approx(CELL, abs=3e-6)  # beyond the decimals of the vectors
    assert frame.pbc.all()
    assert frame.info["REF_energy"] == pytest.approx(-20.5, abs=1e-10)
    assert frame.arrays["REF_forces"] == pytest.approx(np.array(FORCES), abs=1e-6)
    assert frame.info["REF_stress"] == pytest.approx(STRESS, abs=1e-8)
    assert frame.info["config_type"] == tmp_path.name


def test_a_run_without_stress_has_none(tmp_path):
    (frame,) = read(tmp_path, old(stress=False), config_type="mine")
    assert "REF_stress" not in frame.info
    assert frame.info["config_type"] == "mine"


def test_a_cell_in_another_orientation(tmp_path):
    turn = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    (frame,) = read(tmp_path, new().replace(header(), header(CELL @ turn)))
    assert frame.cell.array == pytest.approx(CELL @ turn, abs=2e-3)
    assert frame.cell.cellpar() == pytest.approx([3.2, 3.101611, 3.306054, 86.5, 90.0, 88.152], abs=1e-5)


@pytest.mark.parametrize(
    ("word", "expected"), [("XY", [True, True, False]), ("NONE", [False] * 3), ("Z", [False, False, True])]
)
def test_periodicity(tmp_path, word, expected):
    (frame,) = read(tmp_path, new().replace(header(), header(periodicity=word)))
    assert frame.pbc.tolist() == expected


@pytest.mark.parametrize(
    ("old_text", "new_text", "match"),
    [
        ("SCF run converged", "SCF run NOT converged", "did not converge"),
        ("SCF run converged", "", "did not converge"),
        ("ENERGY|", "NOTHING|", "holds 0 total energies"),
        ("ATOMIC COORDINATES", "NO COORDINATES", "no atomic coordinates"),
        ("FORCES| Atomic", "FORCES| No", "0 forces"),
        (" FORCES|      2", " FORCED|      2", "1 forces .* for 2 atoms"),
        (" CELL| Vector a", " CELL| Vektor a", "vectors, lengths and angles of the cell disagree|holds no cell"),
        (" CELL| Angle (b,c)", " CELL| Winkel (b,c)", "holds no cell"),
        ("|b| =     3.101611", "|b| =     3.201611", "disagree"),
        ("tensor [bar]", "tensor [furlongs]", r"\[furlongs\] cannot be read"),
        (" STRESS|      y", " STRESS|      w", "cannot be read"),
    ],
)
def test_incomplete_outputs_are_data_errors(tmp_path, old_text, new_text, match):
    text = new()
    assert old_text in text
    with pytest.raises(DataError, match=match) as caught:
        read(tmp_path, text.replace(old_text, new_text))
    assert caught.value.fix


def test_an_unconverged_run_on_request(tmp_path):
    text = new().replace("SCF run converged", "SCF run NOT converged")
    assert len(read(tmp_path, text, allow_unconverged=True)) == 1


def test_several_steps_are_refused(tmp_path):
    with pytest.raises(DataError, match="holds 2 total energies; this reader takes single points"):
        read(tmp_path, 2 * new())
