"""Errors of energies, forces and stresses on labelled frames.

Energies are compared twice: as they are, and with one offset removed, the mean over all labelled frames of the error
per atom. Models differ in their zero of energy; the offset is the same for every composition and configuration type,
so an error between compositions stays visible. Where labels are of another functional than the models', only energies
within one configuration type compare: ``energy_zero = "config_type"``. Where only the zero of every element differs,
as between two codes with pseudopotentials of their own, energies compare but for a linear function of the composition:
``energy_zero = "elements"``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mace_ft_bench.composition import composition_shares, fit_element_zeros
from mace_ft_bench.errors import DataError
from mace_ft_bench.properties.base import Evaluation, Property, evaluate
from mace_ft_bench.properties.checks import require, require_finite
from mace_ft_bench.toml_schema import StrictTable
from mace_ft_bench.units import EV_PER_A3_IN_GPA, MEV
from mace_ft_bench.voigt import voigt_label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms
    from ase.calculators.calculator import Calculator

Array: TypeAlias = NDArray[np.float64]
Pairs: TypeAlias = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Settings(StrictTable):
    """Settings of the comparison."""

    stress: bool = True
    """Whether stresses are compared where frames have them; false for a calculator without stress."""
    energy_zero: Literal["common", "config_type", "elements"] = "common"
    """What shares a zero of energy: all frames, or those of one configuration type, or the atoms of one element. In the
    second case energies are compared with the mean of their type, and types with one energy are left out; in the third
    a least-squares fit to the numbers of atoms is taken out of labels and of the model's energies."""
    every: int = 1
    """Take the first frame and every n-th after it; more than one is for quick looks."""
    samples: int = 1500
    """Largest number of force components kept for a parity plot."""
    seed: int = 0
    """Seed of their selection."""

    def __post_init__(self) -> None:
        require(self.every >= 1, f"every = {self.every} is below 1.", fix="use 1 for all frames.")
        require(self.samples >= 0, f"samples = {self.samples} is negative.", fix="use 0 to keep none.")
        require(self.seed >= 0, f"seed = {self.seed} is negative.", fix="use 0.")


@dataclass(frozen=True)
class Result:
    """Errors over all frames and per configuration type, by metric name; a metric without labels is absent.

    Metrics: ``energy_rmse_mev_per_atom``, ``energy_mae_mev_per_atom``, ``energy_aligned_rmse_mev_per_atom``,
    ``energy_aligned_mae_mev_per_atom``, ``force_rmse_mev_per_a``, ``force_mae_mev_per_a`` (components),
    ``force_relative_percent`` (RMSE / root mean square of the reference), ``stress_rmse_gpa``, ``stress_mae_gpa``
    (six components). Counts: ``frames``, ``atoms``, ``missing_energy``, ``missing_forces``, ``missing_stress``.
    Without a common zero of energy only the aligned errors of energy are there.
    """

    overall: dict[str, float]
    per_config_type: dict[str, dict[str, float]]
    energy_offset_mev_per_atom: float | None
    """Mean of model minus reference; None without energies, or without a common zero of energy."""
    energy_pairs_ev_per_atom: Pairs
    """Reference and model, every frame with an energy; without a common zero each minus the mean of its type."""
    force_pairs_ev_per_angstrom: Pairs
    """Reference and model, a random sample of components."""


@dataclass(frozen=True)
class _Compared:
    """Reference and model of one frame, shape (2, ...); None where the label is missing."""

    config_type: str
    symbols: tuple[str, ...]
    energy: Array | None  # per atom [eV], shape (2,)
    aligned: Array | None  # the same without the offset, or relative to the mean of the type
    forces: Array | None  # [eV/Angstrom], shape (2, 3 n)
    stress: Array | None  # [eV/Angstrom^3], shape (2, 6)

    @property
    def atoms(self) -> int:
        return len(self.symbols)


def compute(frames: Sequence[Atoms], calc: Calculator, settings: Settings) -> Result:
    """Evaluate every frame and compare it with its labels.

    Parameters
    ----------
    frames
        With ``info["REF_energy"]`` [eV], ``arrays["REF_forces"]`` [eV/Angstrom], ``info["REF_stress"]`` [eV/Angstrom^3,
        ASE's sign; 6, 9 or 3 x 3 numbers] and ``info["config_type"]``. A missing label is counted.
    calc
        Any ASE calculator.
    settings
        See :class:`Settings`.

    Raises
    ------
    DataError
        If no frame has a label, or a label has the wrong shape or is not finite.
    UnstableError
        If the calculator returns a number that is not finite.
    """
    taken = frames[:: settings.every]
    stress = settings.stress and any("REF_stress" in frame.info for frame in taken)
    evaluations = evaluate(calc, taken, stress=stress)
    compared = [_compare_frame(frame, item) for frame, item in zip(taken, evaluations, strict=True)]
    if all(item.energy is None and item.forces is None and item.stress is None for item in compared):
        raise DataError(
            f"None of {len(compared)} frames has a label to compare with.",
            fix="name the labels REF_energy and REF_stress (info) and REF_forces (arrays).",
        )
    return _summarise(compared, settings)


def _summarise(compared: list[_Compared], settings: Settings) -> Result:
    energies = _stack(item.energy for item in compared)
    offset = None
    if settings.energy_zero == "config_type":
        compared = _aligned_by_type(compared)
        energies = _stack(item.aligned for item in compared)
    elif settings.energy_zero == "elements" and energies is not None:
        compared = _aligned_by_element(compared)
        energies = _stack(item.aligned for item in compared)
    elif energies is not None:
        offset = float(_errors(energies).mean())
        compared = [_shifted(item, np.array([0.0, offset])) for item in compared]
    return Result(
        overall=_metrics(compared, settings),
        per_config_type={name: _metrics(group, settings) for name, group in _by_type(compared).items()},
        energy_offset_mev_per_atom=None if offset is None else offset * MEV,
        energy_pairs_ev_per_atom=_pairs(energies),
        force_pairs_ev_per_angstrom=_pairs(_sampled(_stack(item.forces for item in compared), settings)),
    )


def _by_type(compared: list[_Compared]) -> dict[str, list[_Compared]]:
    types = sorted({item.config_type for item in compared})
    return {name: [item for item in compared if item.config_type == name] for name in types}


def _aligned_by_type(compared: list[_Compared]) -> list[_Compared]:
    """Return the frames with energies relative to the mean of their type; one energy alone has no error."""
    means = {}
    for name, group in _by_type(compared).items():
        energies = [item.energy for item in group if item.energy is not None]
        if len(energies) > 1:
            means[name] = np.mean(energies, axis=0)
    return [_shifted(item, means.get(item.config_type)) for item in compared]


def _aligned_by_element(compared: list[_Compared]) -> list[_Compared]:
    """Return the frames with energies relative to a fit to their composition, of the labels and of the model alike."""
    shares, _ = composition_shares([item.symbols for item in compared])
    labelled = [index for index, item in enumerate(compared) if item.energy is not None]
    energies = np.array([compared[index].energy for index in labelled])
    zeros, rank = fit_element_zeros(shares[labelled], energies)
    if len(labelled) <= rank:
        raise DataError(
            f"{len(labelled)} energies say nothing beside the zeros of {rank} elements.",
            fix='compare more frames, or with energy_zero = "common".',
        )
    return [_shifted(item, share @ zeros) for item, share in zip(compared, shares, strict=True)]


def _shifted(item: _Compared, zero: Array | None) -> _Compared:
    return item if item.energy is None or zero is None else replace(item, aligned=item.energy - zero)


def _compare_frame(frame: Atoms, model: Evaluation) -> _Compared:
    energy, forces = frame.info.get("REF_energy"), frame.arrays.get("REF_forces")
    label = None if model.stress is None else frame.info.get("REF_stress")
    stress = None if label is None else voigt_label(label)
    return _Compared(
        config_type=str(frame.info.get("config_type", "unspecified")),
        symbols=tuple(frame.symbols),
        energy=None if energy is None else _pair(energy, model.energy, "REF_energy") / len(frame),
        aligned=None,
        forces=None if forces is None else _pair(forces, model.forces, "REF_forces"),
        stress=None if stress is None else _pair(stress, model.stress, "REF_stress"),
    )


def _pair(reference: Any, model: Any, label: str) -> Array:  # noqa: ANN401 - numbers or arrays
    """Return both as an array of shape (2, n), or (2,) for scalars."""
    expected, found = np.asarray(reference, dtype=float), np.asarray(model, dtype=float)
    if expected.shape != found.shape or not np.isfinite(expected).all():
        raise DataError(
            f"{label} of shape {expected.shape} is not finite or is not of shape {found.shape}.",
            fix="lint the dataset and correct or drop the frame.",
        )
    require_finite(found.ravel().tolist(), f"a value for {label}")
    return np.array([expected.ravel(), found.ravel()]).squeeze()


def _stack(pairs: Any) -> Array | None:  # noqa: ANN401 - an iterator of arrays and None
    """Return shape (2, number of components), or None if every label is missing."""
    present = [pair.reshape(2, -1) for pair in pairs if pair is not None]
    return np.concatenate(present, axis=1) if present else None


def _errors(pairs: Array) -> Array:
    errors: Array = pairs[1] - pairs[0]
    return errors


def _metrics(compared: list[_Compared], settings: Settings) -> dict[str, float]:
    metrics: dict[str, float] = {
        "frames": len(compared),
        "atoms": sum(item.atoms for item in compared),
        "missing_energy": sum(item.energy is None for item in compared),
        "missing_forces": sum(item.forces is None for item in compared),
        "missing_stress": sum(item.stress is None for item in compared),
    }
    energies, aligned = _stack(item.energy for item in compared), _stack(item.aligned for item in compared)
    if energies is not None and settings.energy_zero == "common":
        metrics |= _rmse_mae("energy", "mev_per_atom", _errors(energies) * MEV)
    if aligned is not None:
        metrics |= _rmse_mae("energy_aligned", "mev_per_atom", _errors(aligned) * MEV)
    stresses = _stack(item.stress for item in compared)
    if stresses is not None:
        metrics |= _rmse_mae("stress", "gpa", _errors(stresses) * EV_PER_A3_IN_GPA)
    return metrics | _force_metrics(_stack(item.forces for item in compared))


def _force_metrics(forces: Array | None) -> dict[str, float]:
    if forces is None:
        return {}
    metrics = _rmse_mae("force", "mev_per_a", _errors(forces) * MEV)
    scale = _rms(forces[0]) * MEV
    relative = {"force_relative_percent": 100 * metrics["force_rmse_mev_per_a"] / scale} if scale > 0 else {}
    return metrics | relative


def _rmse_mae(quantity: str, unit: str, errors: Array) -> dict[str, float]:
    return {f"{quantity}_rmse_{unit}": _rms(errors), f"{quantity}_mae_{unit}": float(np.abs(errors).mean())}


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _sampled(pairs: Array | None, settings: Settings) -> Array | None:
    if pairs is None or pairs.shape[1] <= settings.samples:
        return pairs
    chosen = np.random.default_rng(settings.seed).choice(pairs.shape[1], settings.samples, replace=False)
    return pairs[:, np.sort(chosen)]


def _pairs(pairs: Array | None) -> Pairs:
    if pairs is None:
        return ()
    return tuple((float(reference), float(model)) for reference, model in pairs.T.round(4))


def compare(result: Result, reference: Mapping[str, Any]) -> dict[str, float]:  # noqa: ARG001 - the labels are it
    """Return the root-mean-square errors over all frames; the labels of the frames are the reference."""
    names = (
        "force_rmse_mev_per_a",
        "energy_aligned_rmse_mev_per_atom",
        "energy_rmse_mev_per_atom",
        "stress_rmse_gpa",
        "force_relative_percent",
    )
    return {name: result.overall[name] for name in names if name in result.overall}


PROPERTY = Property(name="frame_errors", version=1, settings=Settings, result=Result, compute=compute, compare=compare)
