"""One frame, one calculator: its energy, forces and stress, with where they come from."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase.calculators.calculator import PropertyNotImplementedError, get_calculator_class

from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.datasets.frames import CONFIG_TYPE, FORCES, labelled
from mace_ft_bench.errors import CardError, DataError, MissingDependencyError, UnknownNameError

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from mace_ft_bench.labelling.settings import LabelSettings

ZERO_WIDTH = "label_energy_zero_width"
"""Energy extrapolated to zero width of the smearing [eV], in ``atoms.info``; the label is the free energy, of which
forces are the derivative."""
_MODEL = "model:"


@dataclass(frozen=True)
class Labeller:
    """Labels frames by some settings."""

    settings: LabelSettings
    code: str
    """What made the labels: the package with the calculator and its version, which for a program of its own (VASP) is
    ASE, and says nothing of the program; of a file of weights with its checksum."""
    model: str = ""
    """Name, or whole path, of a model of ours."""

    @classmethod
    def of(cls, settings: LabelSettings) -> Labeller:
        """Return the labeller of some settings.

        Raises
        ------
        CardError
            If ASE knows no such calculator.
        MissingDependencyError
            If its package is not installed.
        UnknownNameError
            If a file of weights does not exist.
        """
        name = settings.calculator
        if not name.startswith(_MODEL):
            return cls(settings, _code(name))
        return cls(settings, *_identity(name, name.removeprefix(_MODEL)))

    def label(self, atoms: Atoms) -> Atoms:
        """Return a copy with labels, what was in its ``info``, and what made them.

        Parameters
        ----------
        atoms
            The structure; initial magnetic moments and charges are handed on to the calculator.

        Raises
        ------
        DataError
            If a label is not finite.
        Exception
            Whatever the calculator raises.
        """
        group = str(atoms.info.get(CONFIG_TYPE, "unnamed"))
        started = time.perf_counter()
        working = atoms.copy()
        working.calc = self._calculator(group)
        zero_width = float(working.get_potential_energy())
        forces = working.get_forces(apply_constraint=False)
        stress = _stress(working) if self.settings.has_stress(group) else None
        energy = working.calc.results.get("free_energy", zero_width)
        frame = labelled(atoms, energy=float(energy), forces=forces, stress=stress, config_type=group)
        frame.info.update({key: value for key, value in atoms.info.items() if key not in frame.info})
        frame.info[ZERO_WIDTH] = zero_width
        frame.info["label_code"] = self.code
        frame.info["label_settings"] = self.settings.digest[:12]
        frame.info["label_seconds"] = round(time.perf_counter() - started, 1)
        return frame

    def _calculator(self, group: str) -> Calculator:
        arguments = self.settings.arguments_of(group)
        if self.model:
            from mace_ft_bench.calculators.factory import get_calculator  # noqa: PLC0415 - imports torch and mace

            return get_calculator(self.model, **arguments)
        calculator: Calculator = get_calculator_class(self.settings.calculator)(**arguments)
        return calculator


def refuse_unusable(frames: list[Atoms]) -> None:
    """Refuse frames that cannot be labelled, before an hour is spent on the first.

    Raises
    ------
    DataError
        If there are none, one has labels, or a position is not finite.
    """
    import numpy as np  # noqa: PLC0415 - beside its use

    if not frames:
        raise DataError("There are no frames to label.", fix="give files with structures.")
    for index, frame in enumerate(frames):
        if FORCES in frame.arrays:
            raise DataError(f"Frame {index} has labels.", fix="give bare structures.")
        if not len(frame) or not np.isfinite(frame.positions).all() or not np.isfinite(frame.cell.array).all():
            raise DataError(f"Frame {index} is empty, or has positions that are not finite.", fix="remove it.")


def _stress(atoms: Atoms) -> np.ndarray | None:
    if not atoms.pbc.all():
        return None
    try:
        stress: np.ndarray = atoms.get_stress(apply_constraint=False)
    except PropertyNotImplementedError:
        return None
    return stress


def _identity(name: str, model: str) -> tuple[str, str]:
    """Return what a model is, and its name or whole path: the weights of a name are those of this package."""
    from mace_ft_bench.calculators.factory import is_path  # noqa: PLC0415 - imports torch and mace

    code = _package("mace_ft_bench", name)
    if not is_path(model):
        return code, model
    path = Path(model).absolute()
    if not path.is_file():
        raise UnknownNameError(f"{path} does not exist.", fix="check the path; names are listed by `mfb models`.")
    return f"{code}, weights {sha256_of(path)[:12]}", str(path)


def _code(name: str) -> str:
    try:
        found: Any = get_calculator_class(name)
    except ImportError as error:
        if error.name is not None and error.name.startswith("ase.calculators"):
            raise CardError(
                f'ASE knows no calculator "{name}".', fix='use the name of one, as "gpaw", or "model:mo-ft".'
            ) from error
        raise MissingDependencyError(
            f'The calculator "{name}" cannot be imported: {error}.', fix=f"install {name} into this environment."
        ) from error
    return _package(found.__module__.partition(".")[0], name)


def _package(module: str, name: str) -> str:
    distributions = packages_distributions().get(module, [module])
    try:
        return f"{name} ({distributions[0]} {version(distributions[0])})"
    except PackageNotFoundError:
        return name
