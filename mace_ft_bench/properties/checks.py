"""Small pure functions that several properties share: validation of settings and signed errors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mace_ft_bench.errors import CardError, DataError, StructureError, UnstableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ase import Atoms


def require(condition: bool, problem: str, *, fix: str) -> None:
    """Raise a ``CardError`` about a setting unless ``condition`` holds."""
    if not condition:
        raise CardError(problem, fix=fix)


def require_positive(settings: object, *names: str) -> None:
    """Raise a ``CardError`` unless every named setting is a finite number above zero."""
    for name in names:
        value = getattr(settings, name)
        require(
            math.isfinite(value) and value > 0, f"{name} = {value} is not positive.", fix=f"give {name} above zero."
        )


def require_finite(values: Iterable[float], what: str) -> None:
    """Raise an ``UnstableError`` if a calculator returned NaN or infinity."""
    if not all(math.isfinite(value) for value in values):
        raise UnstableError(
            f"The calculator returned {what} that is not finite.",
            fix="check that the structure lies within the model's range: elements, distances, density.",
        )


def require_crystal(atoms: Atoms, what: str) -> None:
    """Raise a ``StructureError`` unless the structure is periodic along three cell vectors; ``what`` needs it."""
    if atoms.cell.rank < 3 or not atoms.pbc.all():  # noqa: PLR2004 - three dimensions
        raise StructureError(f"{what} needs a crystal.", fix="set pbc and three cell vectors.")


def percent(value: float, reference: float) -> float:
    """Return the signed deviation of ``value`` from ``reference`` [%]."""
    if reference == 0:
        raise DataError("A relative error against a reference of 0 is undefined.", fix="remove that reference value.")
    return 100.0 * (value - reference) / abs(reference)


def percent_errors(result: object, reference: Mapping[str, Any], metrics: Mapping[str, str]) -> dict[str, float]:
    """Return the signed deviations [%] of the fields that the reference has.

    Parameters
    ----------
    result
        Instance of a result dataclass.
    reference
        Field name -> value.
    metrics
        Name of the error -> field name.

    Raises
    ------
    DataError
        If the reference has a value that the result has not.
    """
    errors = {}
    for metric, field in metrics.items():
        if field not in reference:
            continue
        value = getattr(result, field)
        if value is None:
            raise DataError(
                f"The reference gives {field}, which is undefined for this structure.",
                fix="use a structure that defines it (a cubic crystal in its conventional cell), or remove the value.",
            )
        errors[metric] = percent(value, reference[field])
    return errors
