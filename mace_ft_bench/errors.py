"""Exceptions of mace_ft_bench.

Every exception states what is wrong and ends with what to do about it::

    MaceFtBenchError
    ├── CardError              a model, dataset, case or recipe file is malformed (also ValueError)
    │   └── DispersionError    a dispersion correction does not belong to a model
    ├── UnknownNameError       no model, head, case, dataset or option of that name (also LookupError)
    ├── UntrustedFileError     loading would execute code from a pickle
    ├── ChecksumError          a file's sha256 is not the one its card names
    ├── CheckpointError        a weights file cannot be read or rebuilt
    │   └── MissingWeightsError       the weights of a model are not on this machine
    ├── LicenceError           the licence of a model has not been accepted
    ├── StructureError         a structure cannot be evaluated (also ValueError)
    │   └── UnsupportedElementError   an element the model has never seen
    ├── DataError              frames or labels are unusable (also ValueError)
    │   └── MissingDataError   a dataset is not on this machine
    ├── PropertyError          a property could not be computed
    │   ├── UnconvergedError   a relaxation or fit did not converge
    │   ├── UnstableError      the crystal is mechanically unstable or the structure fell apart
    │   └── TooSlowError       the model is too slow for the time that a case may take
    ├── StoreError             the results folder is unusable
    ├── AccelerationError      an accelerator asked for by name cannot be used
    ├── TrainingError          a training run failed
    ├── LabelError             frames could not be labelled
    ├── WorkerError            the process that serves a model of another environment failed
    └── MissingDependencyError an optional package is not installed (also ImportError)
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class MaceFtBenchError(Exception):
    """Base of all exceptions of this package.

    Parameters
    ----------
    message
        What is wrong, naming the offending object.
    fix
        What the user can do about it.
    """

    def __init__(self, message: str, *, fix: str) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message} To fix: {self.fix}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.fix))


def _rebuild(kind: type[MaceFtBenchError], message: str, fix: str) -> MaceFtBenchError:
    return kind(message, fix=fix)


class CardError(MaceFtBenchError, ValueError):
    """A model, dataset, case or recipe file is malformed."""


class DispersionError(CardError):
    """A dispersion correction does not belong to a model: its labels hold one, may hold one, or are of another kind."""


class UnknownNameError(MaceFtBenchError, LookupError):
    """No model, head, case, dataset or option of that name exists."""


class UntrustedFileError(MaceFtBenchError):
    """Loading the file would execute code stored in it."""


class ChecksumError(MaceFtBenchError):
    """A file's sha256 differs from the one its card names."""


class CheckpointError(MaceFtBenchError):
    """A weights file cannot be read, or its model cannot be rebuilt."""


class MissingWeightsError(CheckpointError):
    """The weights of a model are not on this machine."""


class LicenceError(MaceFtBenchError):
    """The licence of a model has not been accepted."""


class StructureError(MaceFtBenchError, ValueError):
    """A structure cannot be evaluated."""


class UnsupportedElementError(StructureError):
    """The structure holds an element that the model has never seen."""


class DataError(MaceFtBenchError, ValueError):
    """Frames or labels are unusable."""


class MissingDataError(DataError):
    """A dataset is not on this machine."""


class PropertyError(MaceFtBenchError):
    """A property could not be computed."""


class UnconvergedError(PropertyError):
    """A relaxation or a fit did not converge."""


class UnstableError(PropertyError):
    """The crystal is mechanically unstable, or the structure fell apart."""


class TooSlowError(PropertyError):
    """The model is too slow for the time that the case may take."""


class StoreError(MaceFtBenchError):
    """The results folder is unusable."""


class AccelerationError(MaceFtBenchError):
    """An accelerator asked for by name cannot be used, or differs from the plain path."""


class TrainingError(MaceFtBenchError):
    """A training run failed."""


class LabelError(MaceFtBenchError):
    """Frames could not be labelled."""


class WorkerError(MaceFtBenchError):
    """The process that serves a model of another environment cannot start, failed, or does not answer."""


class MissingDependencyError(MaceFtBenchError, ImportError):
    """An optional package is not installed."""


def suggestion(name: str, options: Iterable[str]) -> str:
    """Return the nearest option as a question, and all options.

    Parameters
    ----------
    name
        What the user wrote.
    options
        What would have been valid.
    """
    known = sorted(options)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f'did you mean "{near[0]}"? Known: {", ".join(known)}.'
    return f"use one of: {', '.join(known) or '(none)'}."
