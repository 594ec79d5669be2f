"""vasprun.xml and OUTCAR: which energy, converged or not, complete or not."""

from __future__ import annotations

import numpy as np
import pytest

from mace_ft_bench.datasets.readers import read_frames
from mace_ft_bench.errors import CardError, DataError

from .conftest import CELL, FORCES, POSITIONS, STRESS, check, matrix_of

KBAR = -1602.1766208 * matrix_of(STRESS)
SCALED = np.array(POSITIONS) @ np.linalg.inv(CELL)
FREE, SIGMA0 = -20.5, -20.25
NELM = 3


def rows(array, tag="v"):
    return "".join(f"<{tag}> {' '.join(repr(float(x)) for x in row)} </{tag}>\n" for row in array)


def structure(name=""):
    return (
        f"<structure{name}><crystal><varray name='basis'>{rows(CELL)}</varray></crystal>"
        f"<varray name='positions'>{rows(SCALED)}</varray></structure>"
    )


def energies(free=FREE, sigma0=SIGMA0):
    return f"<energy><i name='e_fr_energy'>{free}</i><i name='e_0_energy'>{sigma0}</i></energy>"


def calculation(iterations=2, forces=True):
    return (
        "<calculation>"
        + iterations * f"<scstep>{energies()}</scstep>"
        + structure()
        + (f"<varray name='forces'>{rows(FORCES)}</varray>" if forces else "")
        + f"<varray name='stress'>{rows(KBAR)}</varray>{energies()}</calculation>\n"
    )


def vasprun(*steps):
    return (
        "<modeling><kpoints><varray name='kpointlist'><v>0 0 0</v></varray>"
        "<varray name='weights'><v>1</v></varray></kpoints>"
        f"<parameters><i type='int' name='NELM'>{NELM}</i></parameters>"
        "<atominfo><array name='atoms'><set><rc><c>Mo</c><c>1</c></rc><rc><c>Nb</c><c>2</c></rc></set></array>"
        "</atominfo>" + structure(" name='initialpos'") + "".join(steps) + "</modeling>"
    )


def step(converged=True):
    """Return an ionic step of an OUTCAR."""
    table = np.hstack([POSITIONS, FORCES])
    xx, yy, zz, yz, xz, xy = -1602.1766208 * STRESS
    return "\n".join(
        [
            "--------------------------------------- Iteration      1(   1)  ---------------",
            "------ aborting loop because EDIFF is reached ------" if converged else "",
            "  FORCE on cell =-STRESS in cart. coord.  units (eV):",
            f"  in kB   {xx:.6f} {yy:.6f} {zz:.6f} {xy:.6f} {yz:.6f} {xz:.6f}",
            "      direct lattice vectors                 reciprocal lattice vectors",
            *(" ".join(f"{x:.9f}" for x in [*row, 0, 0, 0]) for row in CELL),
            " POSITION                                       TOTAL-FORCE (eV/Angst)",
            " -----------------------------------------------------------------------",
            *(" ".join(f"{x:.6f}" for x in row) for row in table),
            " -----------------------------------------------------------------------",
            "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)",
            "  ---------------------------------------------------",
            f"  free  energy   TOTEN  =       {FREE} eV",
            "",
            f"  energy  without entropy=      -20.0  energy(sigma->0) =      {SIGMA0}",
            "",
        ]
    )


def outcar(*steps, end=" General timing and accounting informations for this job:\n"):
    return (
        " vasp.6.3.2\n"
        + 2 * " POTCAR:    PAW_PBE Mo_pv 04Feb2005\n POTCAR:    PAW_PBE Nb_pv 08Apr2002\n"
        + "   ISPIN  =      1    spin polarized calculation?\n"
        + "   k-points           NKPTS =      1   k-points in BZ   NKDIM =      1   number of bands    NBANDS=     9\n"
        + " k-points in reciprocal lattice and weights: gamma\n   0.0 0.0 0.0  1.0\n"
        + "   ions per type =               1   1\n"
        + "".join(steps)
        + end
    )


def good(name):
    return vasprun(calculation()) if name == "vasprun" else outcar(step())


def read(folder, name, text, **options):
    path = folder / {"vasprun": "vasprun.xml", "outcar": "OUTCAR"}[name]
    path.write_text(text)
    return read_frames(path, name, {"energy": "free", **options})


BOTH = pytest.mark.parametrize("name", ["vasprun", "outcar"])


@BOTH
@pytest.mark.parametrize(("energy", "expected"), [("free", FREE), ("sigma0", SIGMA0)])
def test_a_step_in_our_units_with_the_energy_that_is_named(tmp_path, name, energy, expected):
    (frame,) = read(tmp_path, name, good(name), energy=energy)
    assert frame.info["REF_energy"] == pytest.approx(expected, abs=1e-12)
    frame.info["REF_energy"] = FREE
    frame.info["REF_stress"] = np.round(frame.info["REF_stress"], 8)
    check(frame)
    assert frame.info["config_type"] == tmp_path.name


@BOTH
def test_the_energy_is_not_guessed(tmp_path, name):
    with pytest.raises(CardError, match='"energy"'):
        read(tmp_path, name, good(name), energy="total")
    with pytest.raises(CardError, match='"energy" is missing'):
        read_frames(tmp_path / "x", name, {})


@BOTH
def test_unconverged_steps_are_refused_or_left_out(tmp_path, name):
    if name == "vasprun":
        text = vasprun(calculation(), calculation(iterations=NELM), calculation(iterations=1))
    else:
        text = outcar(step(), step(converged=False), step())
    with pytest.raises(DataError, match="the electronic loop of step 1 did not converge") as caught:
        read(tmp_path, name, text)
    assert "allow_unconverged" in caught.value.fix
    assert len(read(tmp_path, name, text, allow_unconverged=True)) == 2


CUT = {  # in the middle of a step, and where ASE and the count of steps may disagree
    "vasprun": [
        vasprun(calculation(), calculation()[:200]).removesuffix("</modeling>"),
        vasprun(calculation(), calculation().removesuffix("</calculation>\n")).removesuffix("</modeling>"),
    ],
    "outcar": [
        outcar(step(), step()[:300], end=""),
        outcar(step(), step().partition("  free  energy")[0], end=""),
    ],
}


@BOTH
@pytest.mark.parametrize("number", [0, 1])
def test_runs_that_did_not_end_are_refused_or_their_complete_steps_read(tmp_path, name, number):
    text = CUT[name][number]
    with pytest.raises(DataError, match="ends in the middle of a run") as caught:
        read(tmp_path, name, text)
    assert "allow_truncated" in caught.value.fix
    (frame,) = read(tmp_path, name, text, allow_truncated=True, config_type="killed")
    assert frame.info["config_type"] == "killed"


def test_a_vasprun_step_without_forces_is_refused(tmp_path):
    with pytest.raises(DataError, match="step 0 has no forces"):
        read(tmp_path, "vasprun", vasprun(calculation(forces=False)))


def test_fixed_atoms_keep_their_forces(tmp_path):
    fixed = "<varray name='selective'><v>F F F</v><v>T T T</v></varray></structure>"
    text = vasprun(calculation()).replace("</structure>", fixed, 1)
    (frame,) = read(tmp_path, "vasprun", text)
    assert frame.arrays["REF_forces"].tolist() == FORCES
    assert not frame.constraints


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("vasprun", "<modeling></modeling>", "does not name NELM"),
        ("vasprun", "hello", "does not name NELM"),
        ("vasprun", vasprun(), "0 of 0 steps"),
        ("outcar", "hello", "ends in the middle"),
        ("outcar", outcar(), "no OUTCAR that ASE can read"),
        ("outcar", outcar(step(), "  free  energy ML TOTEN  =  -20.5\n"), "machine-learned force field"),
    ],
)
def test_files_of_another_kind_are_data_errors(tmp_path, name, text, match):
    with pytest.raises(DataError, match=match) as caught:
        read(tmp_path, name, text)
    assert caught.value.fix
