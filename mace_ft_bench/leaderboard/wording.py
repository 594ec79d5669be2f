"""Numbers and names as people write them: significant digits, units, symbols."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_ft_bench.results.case import Case

NONE = "—"
"""Stands where there is no value."""

_UNITS = {
    "_angstrom3_per_atom": "Å³/atom",
    "_angstrom2": "Å²",
    "_j_per_mol_k": "J/mol/K",
    "_mev_per_atom_per_ps": "meV/atom/ps",
    "_cm2_per_s": "cm²/s",
    "_ms_per_step": "ms/step",
    "_us_per_atom": "µs/atom",
    "_mev_per_atom": "meV/atom",
    "_ev_per_atom": "eV/atom",
    "_mev_per_a3": "meV/Å³",
    "_mev_per_a": "meV/Å",
    "_ev_per_angstrom": "eV/Å",
    "_ev_per_a": "eV/Å",
    "_degree": "°",
    "_j_per_m2": "J/m²",
    "_angstrom": "Å",
    "_percent": "%",
    "_gpa": "GPa",
    "_mev": "meV",
    "_ev": "eV",
    "_thz": "THz",
    "_nm": "nm",
    "_ps": "ps",
    "_k": "K",
    "_s": "s",
}
"""Suffixes of field names, longer ones first where one ends in another."""

_SYMBOLS = {
    "bulk_modulus": "B",
    "shear_modulus": "G",
    "poisson_ratio": "ν",
    "born_stable": "Born stable",
    "b0_prime": "B0′",
    "e0": "E0",
}
"""Quantities whose symbol says more than their field name."""

_DIGITS = {"Å": 4, "Å³/atom": 4, "eV/atom": 5}
"""Significant digits of units whose interesting differences are small; three otherwise."""

_SHORT = 4
"""Most numbers of a list that is shown in one cell."""


def split_field(name: str) -> tuple[str, str]:
    """Return stem and unit of a field or metric name: ``c11_gpa`` gives ``("c11", "GPa")``."""
    for suffix, unit in _UNITS.items():
        if name.endswith(suffix) and name != suffix:
            return name.removesuffix(suffix), unit
    return name, ""


def field_label(name: str, case: Case) -> str:
    """Return the symbol of a result field: that of the card's metric where one has its stem."""
    stem, _ = split_field(name)
    labels = {split_field(metric)[0]: entry.label for metric, entry in case.metrics.items()}
    return labels.get(stem) or _SYMBOLS.get(stem) or stem.replace("_", " ")


def number(value: float, digits: int = 3) -> str:
    """Return ``value`` with significant digits, plain where that is short, with a true minus sign."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else NONE
    exponent = math.floor(math.log10(abs(value)))
    plain = -4 <= exponent < 6  # noqa: PLR2004 - beyond, zeros hide the number
    text = f"{value:.{max(digits - 1 - exponent, 0)}f}" if plain else f"{value:.{digits - 1}e}"
    return text.replace("-", "−")


def signed(value: float, unit: str = "") -> str:
    """Return an error with its sign and unit."""
    text = f"+{number(value)}" if value > 0 else number(value)
    return f"{text} {unit}".rstrip()


def quantity(name: str, value: Any) -> str:  # noqa: ANN401 - fields of results are plain data of any kind
    """Return the value of a result field without its unit: a number, a short list of numbers, or a word."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return number(value, _DIGITS.get(split_field(name)[1], 3))
    if is_short_list(value):
        return " / ".join(quantity(name, item) for item in value)
    return value if isinstance(value, str) else NONE


def is_short_list(value: object) -> TypeGuard[Sequence[float]]:
    """Return whether ``value`` is a list of so few numbers that they fit into a table cell."""
    if not isinstance(value, (list, tuple)):
        return False
    return 0 < len(value) <= _SHORT and all(isinstance(item, (int, float)) for item in value)


def score(value: float | None) -> str:
    """Return a score with three decimals."""
    return NONE if value is None else f"{value:.3f}"


def duration(seconds: float | None) -> str:
    """Return a wall time in the unit that suits it."""
    if seconds is None:
        return NONE
    for limit, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= limit:
            return f"{number(seconds / limit)} {unit}"
    return f"{number(seconds)} s"


def plural(count: int, noun: str) -> str:
    """Return ``1 case`` or ``2 cases``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
