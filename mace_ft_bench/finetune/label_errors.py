"""Errors of energies, forces and stresses against labels, by quantity and by group of frames.

Quantities, the unit of their errors, and what one error is:

- ``energy`` [meV/atom]: energy of a frame per atom.
- ``energy_relative`` [meV/atom]: the same relative to the mean over the frames of one config_type and one composition,
  so that no zero of energy matters. Frames that are alone in their group do not count.
- ``forces`` [meV/Angstrom]: a component.
- ``stress`` [GPa]: one of the six components.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mace_ft_bench.datasets.frames import CONFIG_TYPE, ENERGY, FORCES, STRESS
from mace_ft_bench.errors import DataError
from mace_ft_bench.properties.checks import require_finite
from mace_ft_bench.units import EV_PER_A3_IN_GPA, MEV
from mace_ft_bench.voigt import voigt_label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms

    from mace_ft_bench.properties.base import Evaluation

Array: TypeAlias = NDArray[np.float64]
Pairs: TypeAlias = list[Array | None]
"""Of every frame label and prediction, shape (2, values); None where the frame has no label."""

QUANTITIES = ("energy", "energy_relative", "forces", "stress")
_SCATTER = 1e-9
"""Standard deviation of labels [meV or GPa] that is rounding: nothing is relative to it."""
_DRAWS = 1000
_FEWEST_FRAMES = 5
_INTERVAL_PERCENT = (2.5, 97.5)


@dataclass(frozen=True)
class Metric:
    """Errors of one quantity."""

    rmse: float
    mae: float
    relative_percent: float | None
    """RMSE over the standard deviation of the labels; None where these do not differ."""
    frames: int
    """How many frames have the label."""


@dataclass(frozen=True)
class Comparison:
    """Labels and predictions of some frames, in the units of the errors."""

    config_types: tuple[str, ...]
    """Of every frame."""
    pairs: dict[str, Pairs]
    """By quantity."""


def compare_labels(
    frames: Sequence[Atoms], evaluations: Sequence[Evaluation], *, shift: Mapping[str, float] | None = None
) -> Comparison:
    """Pair labels and predictions.

    Parameters
    ----------
    frames
        Labelled frames; a missing label is left out.
    evaluations
        What the model says about them.
    shift
        Energy per element [eV] that is added to every prediction.

    Raises
    ------
    DataError
        If a label has the wrong shape or is not finite; naming the frame.
    UnstableError
        If a prediction is not finite.
    """
    columns: dict[str, Pairs] = {"energy": [], "forces": [], "stress": []}
    for index, (frame, found) in enumerate(zip(frames, evaluations, strict=True)):
        where = f"frame {index} ({_group(frame)})"
        extra = sum((shift or {}).get(str(symbol), 0.0) for symbol in frame.symbols)
        energy = _pair(frame.info.get(ENERGY), found.energy + extra, f"{ENERGY} of {where}")
        columns["energy"].append(None if energy is None else energy * MEV / len(frame))
        forces = _pair(frame.arrays.get(FORCES), found.forces, f"{FORCES} of {where}")
        columns["forces"].append(None if forces is None else forces * MEV)
        label = None if STRESS not in frame.info else voigt_label(frame.info[STRESS], f"{STRESS} of {where}")
        stress = _pair(label, found.stress, f"{STRESS} of {where}")
        columns["stress"].append(None if stress is None else stress * EV_PER_A3_IN_GPA)
    columns["energy_relative"] = _relative(
        columns["energy"], [(_group(frame), _composition(frame)) for frame in frames]
    )
    return Comparison(tuple(map(_group, frames)), columns)


def _group(frame: Atoms) -> str:
    return str(frame.info.get(CONFIG_TYPE, "unspecified"))


def _composition(frame: Atoms) -> str:
    return str(frame.symbols.formula.reduce()[0].format("hill"))


def _pair(label: Any, prediction: Any, what: str) -> Array | None:  # noqa: ANN401 - numbers or arrays
    if label is None or prediction is None:
        return None
    expected, found = np.asarray(label, dtype=float), np.asarray(prediction, dtype=float)
    if expected.shape != found.shape or not np.isfinite(expected).all():
        raise DataError(
            f"{what} has shape {expected.shape}, not {found.shape}, or is not finite.",
            fix="lint the frames, and correct or drop this one.",
        )
    require_finite(found.ravel().tolist(), f"the prediction for {what}")
    return np.array([expected.ravel(), found.ravel()])


def _relative(energies: Pairs, groups: Sequence[tuple[str, str]]) -> Pairs:
    """Return energies minus their means over the frames of the same group; None where a frame is alone."""
    members: dict[tuple[str, str], list[Array]] = defaultdict(list)
    for pair, group in zip(energies, groups, strict=True):
        if pair is not None:
            members[group].append(pair)
    means = {group: np.mean(pairs, axis=0) for group, pairs in members.items() if len(pairs) > 1}
    return [
        pair - means[group] if pair is not None and group in means else None
        for pair, group in zip(energies, groups, strict=True)
    ]


def metric(pairs: Pairs) -> Metric | None:
    """Return the errors over all values; None without a label."""
    values = joined(pairs)
    if values is None:
        return None
    errors, scatter = values[1] - values[0], float(values[0].std())
    rmse = float(np.sqrt(np.mean(errors**2)))
    relative = 100 * rmse / scatter if scatter > _SCATTER else None
    return Metric(rmse, float(np.abs(errors).mean()), relative, sum(pair is not None for pair in pairs))


def joined(pairs: Pairs) -> Array | None:
    """Return labels and predictions of all frames, shape (2, values); None without a label."""
    present = [pair for pair in pairs if pair is not None]
    return np.concatenate(present, axis=1) if present else None


def error_table(mine: Comparison, theirs: Comparison | None) -> list[dict[str, Any]]:
    """Return errors over all frames, then of every config_type, as plain data.

    Parameters
    ----------
    mine
        The fine-tuned model.
    theirs
        The parent on the same frames; may be absent.
    """
    names = [None, *sorted(set(mine.config_types))]
    return [_row(name, mine, theirs) for name in names]


def _row(name: str | None, mine: Comparison, theirs: Comparison | None) -> dict[str, Any]:
    chosen = [index for index, group in enumerate(mine.config_types) if name in (None, group)]
    tuned = _metrics(mine, chosen)
    parent = None if theirs is None else _metrics(theirs, chosen)
    return {
        "config_type": name,
        "frames": len(chosen),
        "fine_tuned": {quantity: found and asdict(found) for quantity, found in tuned.items()},
        "parent": parent and {quantity: found and asdict(found) for quantity, found in parent.items()},
        "change_percent": parent and {quantity: _change(tuned[quantity], parent[quantity]) for quantity in QUANTITIES},
    }


def _metrics(comparison: Comparison, chosen: Sequence[int]) -> dict[str, Metric | None]:
    return {name: metric([comparison.pairs[name][index] for index in chosen]) for name in QUANTITIES}


def _change(mine: Metric | None, theirs: Metric | None) -> float | None:
    if mine is None or theirs is None or not theirs.rmse > 0:
        return None
    return 100 * (mine.rmse / theirs.rmse - 1)


def change_interval(mine: Pairs, theirs: Pairs, *, seed: int = 0) -> list[float] | None:
    """Return the 95 % interval of the change of the RMSE [%] by a bootstrap over frames.

    Both models are drawn with the same frames (doi 10.1201/9780429246593). Frames count as independent,
    which those of one trajectory are not: the true interval is then wider. None for fewer than five frames, of which
    even unanimous ones may be chance.

    Parameters
    ----------
    mine, theirs
        One quantity of the fine-tuned model and of the parent, on the same frames.
    seed
        Seed of the draws.
    """
    squares = np.array(
        [
            (np.sum((own[1] - own[0]) ** 2), np.sum((other[1] - other[0]) ** 2))
            for own, other in zip(mine, theirs, strict=True)
            if own is not None and other is not None
        ]
    )
    if len(squares) < _FEWEST_FRAMES:
        return None
    generator = np.random.default_rng(seed)
    sums = np.array([squares[generator.integers(len(squares), size=len(squares))].sum(axis=0) for _ in range(_DRAWS)])
    if not (sums[:, 1] > 0).all():
        return None
    changes = 100 * (np.sqrt(sums[:, 0] / sums[:, 1]) - 1)
    return [float(value) for value in np.percentile(changes, _INTERVAL_PERCENT)]
