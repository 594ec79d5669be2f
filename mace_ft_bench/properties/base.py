"""The protocol of a property, the registry, and the evaluation of many frames.

A property is one module of this package that defines ``PROPERTY = Property(...)``. ``compute`` needs a calculator and
is expensive; ``compare`` is pure. Nothing here knows MACE: any ASE calculator goes through.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from mace_ft_bench import properties
from mace_ft_bench.errors import UnknownNameError, suggestion

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Property:
    """A property of a material, or a measure of a calculator.

    ``compute(target, calculator, settings)`` returns an instance of ``result``. ``target`` is an ``Atoms`` for a case
    with a ``[structure]`` and a ``list[Atoms]`` with ``REF_*`` labels for a case with ``[frames]``; it is not
    modified. It raises :class:`~mace_ft_bench.errors.UnconvergedError` or
    :class:`~mace_ft_bench.errors.UnstableError` where the physics fails.

    ``compare(result, reference)`` returns signed errors (result minus reference) by metric name, the unit in the name.
    ``result`` is an instance of ``result``; ``reference`` maps field names of ``result`` to numbers or curves; an entry
    of a table is named ``<field>_<key>``. Only metrics whose reference value exists are returned.
    """

    name: str
    version: int
    """Raise it when the same input would give another result."""
    settings: type[Any]
    """Frozen dataclass."""
    result: type[Any]
    """Frozen dataclass of floats, strings, tuples and dicts."""
    compute: Callable[[Any, Any, Any], Any]
    compare: Callable[[Any, Values], dict[str, float]]
    timing: bool = False
    """Whether the result depends on the machine."""
    single_precision: bool = False
    """Whether float32 is enough: averages over many steps, where speed counts and rounding does not."""


@dataclass(frozen=True)
class Evaluation:
    """Energy [eV], forces [eV/Angstrom] (n, 3) and stress [eV/Angstrom^3] (6,) or None of one frame."""

    energy: float
    forces: Any
    stress: Any


def evaluate(calculator: Calculator, frames: Iterable[Atoms], *, stress: bool = True) -> list[Evaluation]:
    """Evaluate frames without attaching the calculator to the caller's objects.

    A calculator with a method ``evaluate(frames)`` that returns one dictionary of results per frame is asked for all of
    them at once; any other one by one.

    Parameters
    ----------
    calculator
        Any ASE calculator.
    frames
        Structures.
    stress
        Whether stresses are asked for; only frames with a three-dimensional cell have one.
    """
    batched = getattr(calculator, "evaluate", None)
    results = batched(frames) if batched else [_one(calculator, frame, stress=stress) for frame in frames]
    return [Evaluation(found["energy"], found["forces"], found.get("stress") if stress else None) for found in results]


def _one(calculator: Calculator, frame: Atoms, *, stress: bool) -> dict[str, Any]:
    atoms = frame.copy()
    atoms.calc = calculator
    # of fixed atoms, too: a batched calculator knows no constraints either
    forces = atoms.get_forces(apply_constraint=False).copy()
    results = {"energy": float(atoms.get_potential_energy()), "forces": forces}
    if stress and atoms.cell.rank == 3:  # noqa: PLR2004 - three dimensions
        results["stress"] = atoms.get_stress(apply_constraint=False).copy()
    return results


@cache
def all_properties() -> Mapping[str, Property]:
    """Return every property of this package by name."""
    modules = (
        importlib.import_module(f"{properties.__name__}.{info.name}")
        for info in pkgutil.iter_modules(properties.__path__)
    )
    found = [module.PROPERTY for module in modules if hasattr(module, "PROPERTY")]
    return {item.name: item for item in found}


def get_property(name: str) -> Property:
    """Return the property of that name.

    Raises
    ------
    UnknownNameError
        With the nearest known name.
    """
    known = all_properties()
    if name not in known:
        raise UnknownNameError(f'No property is called "{name}".', fix=suggestion(name, known))
    return known[name]
