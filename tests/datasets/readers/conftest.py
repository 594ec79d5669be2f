"""One frame whose numbers are all different, as every format writes it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import units

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


def matrix_of(voigt):
    xx, yy, zz, yz, xz, xy = voigt
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


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
