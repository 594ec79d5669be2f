"""Take a part of the energy out of labels before training: dispersion, or any other ASE calculator.

A model that is trained on the rest is served with the part added back, which keeps long-ranged interactions out of what
a short-ranged model has to learn::

    from mace_ft_bench.calculators.dispersion import ORIGINAL_CUTOFF, D3Calculator
    rest = subtract(frames, D3Calculator("pbe", cutoff=ORIGINAL_CUTOFF), name="D3(bj)-pbe")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_ft_bench.datasets.frames import ENERGY, FORCES, STRESS
from mace_ft_bench.errors import DataError
from mace_ft_bench.voigt import voigt_label

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ase import Atoms
    from ase.calculators.calculator import Calculator

SUBTRACTED = "REF_subtracted"
"""Name of what was taken out of the labels, in ``atoms.info``."""


def subtract(frames: Iterable[Atoms], calculator: Calculator, *, name: str) -> list[Atoms]:
    """Return copies of labelled frames with the calculator's energy, forces and stress taken out of the labels.

    Parameters
    ----------
    frames
        Labelled frames; they are not changed. Forces and stress may be missing.
    calculator
        What to take out.
    name
        What to call it; written to ``info["REF_subtracted"]``.

    Raises
    ------
    DataError
        If a frame has no energy, or something has been taken out of it before.
    """
    rest = []
    for index, frame in enumerate(frames):
        _check(index, frame)
        copy: Atoms = frame.copy()
        copy.calc = calculator
        copy.info[ENERGY] = frame.info[ENERGY] - copy.get_potential_energy()
        if FORCES in frame.arrays:
            copy.arrays[FORCES] = frame.arrays[FORCES] - copy.get_forces(apply_constraint=False)
        if STRESS in frame.info:
            copy.info[STRESS] = voigt_label(frame.info[STRESS], f"{STRESS} of frame {index}") - copy.get_stress(
                apply_constraint=False
            )
        copy.info[SUBTRACTED] = name
        copy.calc = None
        rest.append(copy)
    return rest


def _check(index: int, frame: Atoms) -> None:
    if SUBTRACTED in frame.info:
        raise DataError(
            f"{frame.info[SUBTRACTED]} has been taken out of frame {index} before.",
            fix="start from the original labels.",
        )
    if ENERGY not in frame.info:
        raise DataError(f"Frame {index} has no {ENERGY}.", fix="label it first, see mace_ft_bench.datasets.frames.")
