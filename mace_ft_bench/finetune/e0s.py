"""Energies of atoms without neighbours (E0s): from frames, from the recipe, from the parent, or fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mace_ft_bench.datasets.frames import ENERGY
from mace_ft_bench.datasets.lint.geometry import is_isolated
from mace_ft_bench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms

    from mace_ft_bench.finetune.config import E0sConfig

_INDEPENDENT = 1e-8
"""Singular values of the compositions, relative to the largest, below which a direction is undetermined."""


def choose_e0s(
    config: E0sConfig,
    frames: Sequence[Atoms],
    *,
    parent: Mapping[str, float] | None = None,
    interaction: Sequence[float] | None = None,
) -> dict[str, float]:
    """Return the E0 of every element of the frames [eV].

    Parameters
    ----------
    config
        The policy.
    frames
        Training frames.
    parent
        E0s of the parent [eV]; None when training from scratch.
    interaction
        Interaction energy of every frame by the parent [eV], which a fit takes out of the labels first.

    Raises
    ------
    DataError
        If an element gets no energy, or a fit is not determined.
    """
    elements = sorted({str(symbol) for frame in frames for symbol in set(frame.symbols)})
    if config.policy == "given":
        return _complete(config.values_ev, elements, "values_ev", "add it to [e0s.values_ev]")
    if config.policy == "isolated-atoms":
        found = isolated_atom_energies(frames)
        return _complete(found, elements, "the frames of one atom", "add a frame of the isolated atom")
    if config.policy == "parent":
        return _complete(parent or {}, elements, "the parent", 'choose another policy, for example "given"')
    return fit_e0s(frames, elements, prior=parent, interaction=interaction)


def isolated_atom_energies(frames: Sequence[Atoms]) -> dict[str, float]:
    """Return the energies [eV] of frames that hold a single atom without periodic images in reach.

    Raises
    ------
    DataError
        If two such frames of one element disagree.
    """
    found: dict[str, float] = {}
    for frame in frames:
        if not is_isolated_atom(frame):
            continue
        symbol, energy = str(frame.symbols[0]), float(frame.info[ENERGY])
        if abs(found.setdefault(symbol, energy) - energy) > 1e-6:  # noqa: PLR2004 - [eV], rounding of text files
            raise DataError(f"Two isolated atoms of {symbol} have different energies.", fix="keep one of them.")
    return found


def is_isolated_atom(frame: Atoms) -> bool:
    """Whether a frame is an isolated atom with an energy."""
    return is_isolated(frame) and ENERGY in frame.info


def fit_e0s(
    frames: Sequence[Atoms],
    elements: Sequence[str],
    *,
    prior: Mapping[str, float] | None = None,
    interaction: Sequence[float] | None = None,
) -> dict[str, float]:
    """Fit E0s to total energies by least squares per atom, as the smallest change of the prior.

    A direction of composition space that no frame probes stays where the prior has it: from frames of one composition
    only a shift along it follows.

    Parameters
    ----------
    frames
        Labelled frames.
    elements
        Chemical symbols.
    prior
        E0s to stay near [eV]; without them the compositions must determine everything.
    interaction
        Energy of every frame [eV] that is not to be explained by E0s.

    Raises
    ------
    DataError
        If compositions do not determine the E0s and there is no prior.
    """
    used = [index for index, frame in enumerate(frames) if ENERGY in frame.info]
    sizes = np.array([len(frames[index]) for index in used])
    counts = np.array([[frames[index].symbols.count(symbol) for symbol in elements] for index in used], dtype=float)
    energies = np.array([frames[index].info[ENERGY] for index in used], dtype=float)
    if interaction is not None:
        energies -= np.array(interaction)[used]
    shares = counts / sizes[:, None]
    start = np.array([(prior or {}).get(symbol, 0.0) for symbol in elements])
    rank = int(np.linalg.matrix_rank(shares, tol=_INDEPENDENT * np.linalg.norm(shares))) if used else 0
    undetermined = rank < len(elements)
    if undetermined and (prior is None or not set(elements) <= set(prior)):
        raise DataError(
            f"{rank} independent compositions do not determine {len(elements)} E0s ({', '.join(elements)}).",
            fix="give isolated-atom energies, or start from a parent that knows the elements.",
        )
    change = np.linalg.lstsq(shares, (energies - counts @ start) / sizes, rcond=_INDEPENDENT)[0]
    return dict(zip(elements, (start + change).tolist(), strict=True))


def _complete(found: Mapping[str, float], elements: Sequence[str], where: str, fix: str) -> dict[str, float]:
    missing = [symbol for symbol in elements if symbol not in found]
    if missing:
        raise DataError(f"{where} has no energy of {', '.join(missing)}.", fix=f"{fix}.")
    return {symbol: float(found[symbol]) for symbol in elements}
