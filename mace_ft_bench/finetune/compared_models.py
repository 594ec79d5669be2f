"""The models that a validation compares, as they are served."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase.data import chemical_symbols

from mace_ft_bench.calculators.factory import get_calculator, is_path
from mace_ft_bench.calculators.mace import MaceCalculator
from mace_ft_bench.errors import TrainingError
from mace_ft_bench.finetune.initial import PARENT_HEAD, e0s_of
from mace_ft_bench.finetune.parent import weights_sha256
from mace_ft_bench.properties.base import evaluate
from mace_ft_bench.zoo.registry import find_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from mace_ft_bench.finetune.finished_run import FinishedRun
    from mace_ft_bench.properties.base import Evaluation
    from mace_ft_bench.zoo.card import ModelCard

NO_PARENT = "none"
"""Name of a parent that means: compare with nothing."""


@dataclass(frozen=True)
class ComparedModel:
    """A model with what has to be known to compare it."""

    name: str
    calculator: Any
    sha256: str
    """Of the weights; empty for a model that its package brings along."""
    elements: frozenset[str]
    """Chemical symbols it knows."""
    e0s: dict[str, float] | None
    """Energy per element [eV]; None where a model has none to read."""

    def evaluate(self, frames: Sequence[Atoms], *, stress: bool) -> list[Evaluation]:
        """Return energies, forces and, where asked for, stresses; in batches where the model can."""
        return evaluate(self.calculator, frames, stress=stress)


def fine_tuned_model(run: FinishedRun, *, device: str) -> ComparedModel:
    """Return the exported model of a run, as ``get_calculator`` serves it: in double precision."""
    return _load(str(run.weights), run.config.name, head="", device=device, trust=False)


def domain_model(model: ComparedModel, name_or_path: str, *, device: str, trust: bool) -> ComparedModel:
    """Return what a model has for the parent's domain: with the parent's head where replay has kept one, else itself.

    Parameters
    ----------
    model
        The model.
    name_or_path
        Where it was loaded from.
    device
        ``auto``, ``cpu`` or ``cuda``.
    trust
        Allow unpickling a ``.model`` file.
    """
    if PARENT_HEAD not in getattr(model.calculator, "heads", ()):
        return model
    return _load(name_or_path, model.name, head=PARENT_HEAD, device=device, trust=trust)


def served_model(name_or_path: str, *, device: str, trust: bool) -> ComparedModel:
    """Return any model, as ``get_calculator`` serves it.

    Raises
    ------
    UnknownNameError
        If there is no such model.
    """
    name = Path(name_or_path).stem if is_path(name_or_path) else name_or_path
    return _load(name_or_path, name, head="", device=device, trust=trust)


def card_of(name_or_path: str) -> ModelCard | None:
    """Return the card of a model given by name; None for a file.

    Raises
    ------
    UnknownNameError
        If no model has that name.
    """
    return None if is_path(name_or_path) else find_model(name_or_path)


def parent_model(run: FinishedRun, name: str | None, *, device: str, trust: bool) -> ComparedModel | None:
    """Return the model to compare with; None where there is none, or none is wanted.

    Parameters
    ----------
    run
        The run.
    name
        Name or path of a model, ``"none"``, or None for the parent of the run.
    device
        ``auto``, ``cpu`` or ``cuda``.
    trust
        Allow unpickling a ``.model`` file.

    Raises
    ------
    TrainingError
        If the parent's weights are no longer those that the run started from.
    UnknownNameError
        If there is no such model.
    """
    recipe_name, recipe_head = run.parent
    wanted = name or recipe_name
    if not wanted or wanted == NO_PARENT:
        return None
    head = recipe_head if wanted == recipe_name else ""
    if name is None and weights_sha256(wanted, trust=trust) != run.run["parent_sha256"]:
        raise TrainingError(
            f"{wanted} is no longer the model that the run started from (sha256 {run.run['parent_sha256']}).",
            fix=f"name what to compare with: --parent FILE, --parent {wanted} (as it is now), --parent {NO_PARENT}.",
        )
    return _load(wanted, wanted, head=head, device=device, trust=trust)


def _load(name_or_path: str, name: str, *, head: str, device: str, trust: bool) -> ComparedModel:
    calculator = get_calculator(name_or_path, head=head or None, device=device, trust=trust)
    if isinstance(calculator, MaceCalculator):
        elements = frozenset(chemical_symbols[number] for number in calculator.numbers)
        e0s = e0s_of(calculator.model, calculator.heads.index(calculator.head))
        return ComparedModel(name, calculator, weights_sha256(name_or_path, trust=trust), elements, e0s)
    return ComparedModel(name, calculator, "", frozenset(find_model(name_or_path).elements), None)
