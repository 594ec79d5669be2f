"""What readers share: frames that may lack a label, and values that are numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_ft_bench.datasets.frames import ENERGY, FORCES, labelled
from mace_ft_bench.errors import CardError, DataError, suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms

NONE = "none"
"""What an option says to leave a label out: never read silently, never left out silently."""

CHARGES = "REF_charges"
"""Charges of the atoms [e], shape (n,), in ``atoms.arrays``."""
TOTAL_CHARGE = "REF_total_charge"
"""Charge of the cell [e], in ``atoms.info``."""


@dataclass(frozen=True)
class Labels:
    """The labels of a frame; what is missing is None."""

    energy: float | None
    """Total energy [eV]."""
    forces: np.ndarray | None
    """Forces [eV/Angstrom], shape (n, 3)."""
    stress: np.ndarray | None = None
    """Stress [eV/Angstrom^3] in ASE's sign and Voigt order, shape (6,)."""


def partly_labelled(atoms: Atoms, labels: Labels, *, config_type: str, where: str, unlabelled: bool = False) -> Atoms:
    """Return a frame with the labels there are; a missing label has no key.

    Parameters
    ----------
    atoms
        The structure.
    labels
        What is known of it.
    config_type
        Group of the frame.
    where
        File and frame, for errors.
    unlabelled
        Whether a structure without any label is meant.

    Raises
    ------
    DataError
        If there is no label at all and none is not meant, a shape is wrong, or a number is not finite.
    """
    if not unlabelled and labels.energy is None and labels.forces is None and labels.stress is None:
        raise DataError(f"{where} has no label.", fix="remove the frame, or name the keys of its labels.")
    try:
        frame = labelled(
            atoms,
            energy=0.0 if labels.energy is None else labels.energy,
            forces=np.zeros((len(atoms), 3)) if labels.forces is None else labels.forces,
            stress=labels.stress,
            config_type=config_type,
        )
    except DataError as error:
        raise DataError(f"{where}: {error.message}", fix=error.fix) from error
    if labels.energy is None:
        del frame.info[ENERGY]
    if labels.forces is None:
        del frame.arrays[FORCES]
    return frame


def require_names(names: Any, option: str) -> None:  # noqa: ANN401 - whatever a card says
    """Refuse what is not a non-empty sequence of non-empty text.

    Raises
    ------
    CardError
        Naming the option.
    """
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) and name for name in names):
        raise CardError(f"{option}: {names!r} are no names.", fix="give non-empty text; config_types is a list of it.")


def numbers(labels: Mapping[str, Any], key: str, where: str) -> np.ndarray:
    """Return a label; text and logical values, which numpy would turn into numbers, are refused.

    Raises
    ------
    DataError
        If there is no such label, or it is not numeric.
    """
    if key not in labels:
        raise DataError(f'{where} has no label "{key}".', fix=suggestion(key, labels))
    values = np.asarray(labels[key])
    if values.dtype.kind not in "if":
        raise DataError(f'{where}: label "{key}" is not numeric.', fix="check the source file.")
    return values
