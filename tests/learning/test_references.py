"""A teacher beside real labels: what the fit per element finds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT

from mace_ft_bench.datasets.frames import labelled
from mace_ft_bench.errors import DataError, StructureError
from mace_ft_bench.learning.references import compare

SHIFTS = {"Al": 0.3, "Au": -0.2}


class Fickle(EMT):
    """EMT that refuses gold."""

    def calculate(self, atoms=None, *arguments, **options):
        if "Au" in atoms.get_chemical_symbols():
            raise StructureError("No gold.", fix="none.")
        super().calculate(atoms, *arguments, **options)


class Nothing(Calculator):
    """A teacher that refuses everything."""

    implemented_properties = ("energy", "forces")

    def calculate(self, *_arguments, **_options):
        raise StructureError("No.", fix="none.")


def real(symbols, *, with_stress=True):
    """Return copper-like cells whose labels are those of EMT less a constant per element."""
    atoms = bulk("Al", cubic=True)
    atoms.symbols = list(symbols)
    atoms.rattle(0.05, seed=len(set(symbols)))
    atoms.calc = EMT()
    return labelled(
        atoms,
        energy=atoms.get_potential_energy() - sum(SHIFTS[symbol] for symbol in symbols),
        forces=atoms.get_forces() + 0.1,
        stress=atoms.get_stress() if with_stress else None,
        config_type="dft",
    )


FRAMES = [
    real(["Al"] * 4),
    real(["Au"] * 4),
    real(["Al", "Au", "Au", "Au"], with_stress=False),
    real(["Al", "Al", "Au", "Au"]),
]


def test_constants_per_element_are_found():
    found = compare(FRAMES, EMT())
    assert found.per_element_ev == pytest.approx(SHIFTS)
    assert found.after_fit == pytest.approx(np.zeros(4), abs=1e-10)
    assert found.energies == pytest.approx([0.3, -0.2, -0.075, 0.05])
    assert found.force_rmse_ev_per_a == pytest.approx(0.1)
    assert [frame.stress_rmse_ev_per_a3 is None for frame in found.frames] == [False, False, True, False]
    assert (found.frames_with("Al"), found.frames_with("Au")) == (3, 3)
    assert found.frames[3].formula == "AlAu"


def test_a_correction_is_taken_out_and_remembered():
    found = compare(FRAMES, EMT(), lambda atoms: 0.3 * atoms.get_chemical_symbols().count("Al"))
    assert found.per_element_ev == pytest.approx({"Al": 0.0, "Au": -0.2}, abs=1e-10)
    assert [frame.correction_ev_per_atom for frame in found.frames] == pytest.approx([0.3, 0.0, 0.075, 0.15])


def test_constants_that_the_frames_leave_open_are_the_smallest():
    found = compare(FRAMES[3:], EMT())
    assert found.per_element_ev == pytest.approx({"Al": 0.05, "Au": 0.05})


def test_refused_frames_are_counted():
    found = compare(FRAMES, Fickle())
    assert (len(found.frames), found.refused) == (1, 3)
    assert dataclasses.asdict(found)["per_element_ev"].keys() == {"Al"}


def test_a_teacher_that_refuses_all_is_an_error():
    with pytest.raises(DataError, match="refuses all of 4 real frames"):
        compare(FRAMES, Nothing())
