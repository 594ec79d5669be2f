"""Parameters of D3, read from the files of torch-dftd, and the names of its functionals."""

from __future__ import annotations

import ast
import importlib.resources
import inspect
import re
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from ase.units import Bohr

from mace_ft_bench.errors import UnknownNameError, suggestion

if TYPE_CHECKING:
    from mace_ft_bench.calculators.d3.settings import D3Settings

ELEMENTS = range(1, 95)
"""Atomic numbers with parameters."""
_TABLE_BOHR = 0.52917726
"""Angstrom per bohr with which torch-dftd's tables were converted from Angstrom."""
_NICKNAMES = {"bp86": "bp", "blyp3": "b3lyp", "revpbed3": "revpbe", "hse": "hse06", "pbesold3": "pbesol"}
_EXPONENT = 14
"""Exponent of the damping of C6 that the kernels have built in."""


@lru_cache(maxsize=1)
def tables() -> dict[str, np.ndarray]:
    """Return C6 and coordination numbers of reference systems, and radii; lengths in bohr.

    Returns
    -------
    dict
        ``c6`` [a.u.], shape (95, 95, 5, 5), zero where there is no such reference; ``cn``, (95, 5), negative where
        there is none; ``r0``, cutoff radii of pairs, (95, 95); ``rcov``, 4/3 of covalent radii, (95,); ``r2r4``, (95,).
    """
    path = importlib.resources.files("torch_dftd") / "nn" / "params" / "dftd3_params.npz"
    with path.open("rb") as file, np.load(file) as stored:
        references = stored["c6ab"]
        diagonal = references[np.arange(95), np.arange(95)]
        return {
            "c6": np.maximum(references[..., 0], 0.0),
            "cn": np.where(diagonal[:, :, 0, 0] > 0, diagonal[:, :, 0, 1], -1.0),
            "r0": stored["r0ab"] * _TABLE_BOHR / Bohr,
            "rcov": stored["rcov"] * _TABLE_BOHR / Bohr,
            "r2r4": stored["r2r4"],
        }


@lru_cache(maxsize=1)
def _all_names() -> tuple[str, ...]:
    # torch-dftd keeps its functionals in a chain of comparisons with `xc` and no list of them.
    from torch_dftd.dftd3_xc_params import get_dftd3_default_params  # noqa: PLC0415 - first use

    tree = ast.parse(inspect.getsource(get_dftd3_default_params))
    comparisons = [node for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    constants = {
        constant.value
        for node in comparisons
        if isinstance(node.left, ast.Name) and node.left.id == "xc"
        for constant in ast.walk(node)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    }
    return tuple(sorted(constants))


@lru_cache(maxsize=8)
def functionals(damping: str) -> dict[str, dict[str, float]]:
    """Return the parameters of every functional that has this damping, by torch-dftd's name."""
    from torch_dftd.dftd3_xc_params import get_dftd3_default_params  # noqa: PLC0415 - first use

    found = {}
    for name in _all_names():
        try:
            parameters = get_dftd3_default_params(damping, name)
        except ValueError:
            continue
        if parameters["alp"] == _EXPONENT:
            found[name] = parameters
    return found


def plain(name: str) -> str:
    """Return the name in lower case without punctuation: ``B3-LYP`` and ``b3lyp`` are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def functional_name(functional: str, damping: str) -> str:
    """Return torch-dftd's name of a functional.

    Raises
    ------
    UnknownNameError
        If there is none, or not with this damping.
    """
    known = functionals(damping)
    wanted = plain(functional)
    wanted = _NICKNAMES.get(wanted, wanted)
    for name in known:
        if plain(name) == wanted:
            return name
    others = [other for other in ("bj", "zero", "bjm", "zerom") if wanted in map(plain, functionals(other))]
    if others:
        raise UnknownNameError(
            f'"{functional}" has no parameters for damping="{damping}".',
            fix=f"use damping= one of {', '.join(others)}.",
        )
    raise UnknownNameError(
        f'D3 has no parameters for the functional "{functional}".', fix=suggestion(functional, known)
    )


def damping_parameters(settings: D3Settings) -> dict[str, float]:
    """Return s6, s18, rs6, rs18 and alp of a functional."""
    return functionals(settings.damping)[functional_name(settings.functional, settings.damping)]


def damping_table(settings: D3Settings, numbers: np.ndarray) -> np.ndarray:
    """Return what the damping of a pair of elements needs, in the layout of the kernels.

    Returns
    -------
    array, shape (elements, elements, 6)
        Becke-Johnson: s6, 3 s8 Q, R^6, R^8 with R = a1 sqrt(3 Q) + a2. Zero: s6, 3 s8 Q, then slopes and offsets of the
        arguments of the two dampings. Q is the product of the elements' ``r2r4``.
    """
    values, table = damping_parameters(settings), tables()
    ratio = 3.0 * np.multiply.outer(table["r2r4"][numbers], table["r2r4"][numbers])
    r0 = table["r0"][np.ix_(numbers, numbers)]
    s6, s8 = np.full_like(ratio, values["s6"]), values["s18"] * ratio
    if settings.damping in {"bj", "bjm"}:
        radius = values["rs6"] * np.sqrt(ratio) + values["rs18"]
        parts = [s6, s8, radius**6, radius**8, np.zeros_like(s6), np.zeros_like(s6)]
    elif settings.damping == "zero":
        parts = [s6, s8, 1 / (values["rs6"] * r0), 1 / (values["rs18"] * r0), np.zeros_like(s6), np.zeros_like(s6)]
    else:
        parts = [s6, s8, 1 / (values["rs6"] * r0), 1 / r0, values["rs18"] * r0, values["rs18"] * r0]
    return np.stack(parts, axis=-1)


def reference_weights(references: np.ndarray, coordination: np.ndarray) -> np.ndarray:
    """Return the weights of the reference systems of every atom, and their derivatives.

    Parameters
    ----------
    references
        Coordination numbers of the reference systems, shape (atoms, 5), negative where there is none.
    coordination
        Coordination numbers of the atoms, shape (atoms,).

    Returns
    -------
    array, shape (atoms, 2, 5)
        Gaussian weights exp(-4 (CN - CN_ref)^2), normalised, and their derivatives with respect to CN.
    """
    off = np.where(references >= 0, coordination[:, None] - references, np.inf)
    exponents = -4.0 * off**2
    weights = np.exp(exponents - exponents.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    slopes = -8.0 * np.where(references >= 0, off, 0.0)
    derivatives = weights * (slopes - (weights * slopes).sum(axis=1, keepdims=True))
    return np.stack([weights, derivatives], axis=1)
