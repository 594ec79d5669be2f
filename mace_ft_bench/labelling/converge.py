"""Is a setting converged? The same frames with several values of it, compared with the last, the finest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from ase.io import read

from mace_ft_bench.composition import composition_shares, fit_element_zeros
from mace_ft_bench.datasets.frames import ENERGY, FORCES, STRESS
from mace_ft_bench.errors import CardError, DataError
from mace_ft_bench.labelling.run import label
from mace_ft_bench.units import EV_PER_A3_IN_GPA, MEV

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ase import Atoms

    from mace_ft_bench.labelling.settings import LabelSettings

_FEWEST_VALUES = 2


@dataclass(frozen=True)
class Convergence:
    """What one value of a setting is off the finest."""

    value: Any
    energy_mev_per_atom: float
    """Root mean square of the difference of energies, but for a zero of every element, which E0s absorb; with no more
    frames than these determine, but for its mean, and with one frame the difference itself."""
    force_mev_per_a: float
    """Root mean square over all components."""
    stress_gpa: float | None
    seconds_per_frame: float


def converge(  # noqa: PLR0913 - what, how, where to, and how it is shown
    frames: list[Atoms],
    settings: LabelSettings,
    key: str,
    values: Sequence[Any],
    folder: Path,
    *,
    processes: int = 1,
    retry: bool = False,
    on_value: Callable[[Any], None] | None = None,
) -> list[Convergence]:
    """Label frames with every value of a setting and compare; what is done in the folder is not done again.

    Parameters
    ----------
    frames
        A few structures without labels.
    settings
        Everything else.
    key
        The argument that varies, with dots into nested tables: ``mode.ecut``.
    values
        Its values, the finest last.
    folder
        Receives a labelling per value.
    processes
        Frames that are labelled at the same time.
    retry
        Try frames again that have failed before.
    on_value
        Called with each value before its frames are labelled.

    Returns
    -------
    list of Convergence
        One for every value but the last.

    Raises
    ------
    CardError
        If there are fewer than two values, or no such argument.
    DataError
        If a frame could not be labelled.
    """
    if len(values) < _FEWEST_VALUES:
        raise CardError("One value has nothing to be compared with.", fix="give two or more, the finest last.")
    found = []
    for value in values:
        if on_value is not None:
            on_value(value)
        varied = settings.with_argument(key, value)
        result = label(frames, varied, folder / f"{key}={value}".replace("/", "-"), processes=processes, retry=retry)
        if result.labelled < len(frames):
            reason = result.failures[0].reason if result.failures else "another run works on one"
            raise DataError(
                f"With {key} = {value} frames are missing: {reason}.",
                fix="see its folder of outputs, and try again with --retry.",
            )
        found.append(cast("list[Atoms]", read(result.path, ":", format="extxyz")))
    return [_compare(value, of_value, found[-1]) for value, of_value in zip(values[:-1], found[:-1], strict=True)]


def _compare(value: Any, frames: list[Atoms], finest: list[Atoms]) -> Convergence:  # noqa: ANN401 - any TOML value
    pairs = list(zip(frames, finest, strict=True))
    energies = np.array([(one.info[ENERGY] - best.info[ENERGY]) / len(best) for one, best in pairs])
    energies -= _explained([list(best.symbols) for _, best in pairs], energies)
    forces = np.concatenate([(one.arrays[FORCES] - best.arrays[FORCES]).ravel() for one, best in pairs])
    stresses = [one.info[STRESS] - best.info[STRESS] for one, best in pairs if STRESS in one.info]
    return Convergence(
        value=value,
        energy_mev_per_atom=MEV * _rms(energies),
        force_mev_per_a=MEV * _rms(forces),
        stress_gpa=EV_PER_A3_IN_GPA * _rms(np.concatenate(stresses)) if stresses else None,
        seconds_per_frame=float(np.mean([one.info["label_seconds"] for one in frames])),
    )


def _explained(structures: list[list[str]], energies: np.ndarray) -> np.ndarray | float:
    """Return what a zero of every element, or else one of all, makes of differences of energies per atom."""
    shares, _ = composition_shares(structures)
    zeros, rank = fit_element_zeros(shares, energies)
    if len(energies) > rank:
        return np.asarray(shares @ zeros)
    return float(energies.mean()) if len(energies) > 1 else 0.0


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))
