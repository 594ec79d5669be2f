"""A model plus D3 as one calculator, and the check that the two belong together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from ase.calculators.calculator import Calculator, all_changes

from mace_ft_bench.calculators.d3.settings import D3Settings
from mace_ft_bench.errors import DispersionError, UnknownNameError
from mace_ft_bench.voigt import voigt_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ase import Atoms

    from mace_ft_bench.zoo.card import ModelCard

SUMMED = ("energy", "free_energy", "energies", "forces", "stress", "stresses")
"""Results that are sums of the two parts; of each part they are also kept as ``model_...`` and ``dispersion_...``."""


class CombinedCalculator(Calculator):
    """The sum of a model and a dispersion correction that keeps every result of both.

    Energy, forces, stress and site energies are sums, where both parts have them. The parts are in the results as
    ``model_energy``, ``dispersion_energy``, ``dispersion_forces`` and so on; whatever else the model returns
    (magnetic moments, variances, heads) is passed on unchanged.

    Parameters
    ----------
    model
        Any ASE calculator.
    dispersion
        Usually a :class:`mace_ft_bench.calculators.dispersion.D3Calculator`.
    """

    def __init__(self, model: Calculator, dispersion: Calculator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in ASE
        self.model, self.dispersion = model, dispersion
        added = dispersion.implemented_properties
        both = [name for name in SUMMED if name in model.implemented_properties and name in added]
        self.implemented_properties = [
            *both,
            *(name for name in model.implemented_properties if name not in SUMMED),
            *(f"model_{name}" for name in model.implemented_properties if name in SUMMED),
            *(f"dispersion_{name}" for name in added),
        ]
        self.parameters = dict(model.parameters) | {"dispersion": dict(dispersion.parameters)}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the model has
        # Heads, label_name, device and so on of the model; not while unpickling, when there is no model yet.
        if name.startswith("__") or "model" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.__dict__["model"], name)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate both parts; what they cannot do, they refuse."""
        self.results = {}  # ASE replaces self.atoms even if a check raises below
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]  # untyped in ASE
        structure = cast("Atoms", self.atoms)
        wanted = list(properties or ("energy",))
        own = _evaluated(self.model, structure, wanted, "model_")
        added = _evaluated(self.dispersion, structure, wanted, "dispersion_")
        self.results = _summed(own, added)

    def evaluate(self, frames: Iterable[Atoms]) -> list[dict[str, Any]]:
        """Evaluate many structures; a model that can do so at once is asked to.

        Returns
        -------
        list of dict
            Per structure what :meth:`calculate` puts into ``results``.
        """
        structures = list(frames)
        own, added = evaluate_all(self.model, structures), evaluate_all(self.dispersion, structures)
        return [_summed(*parts) for parts in zip(own, added, strict=True)]


def evaluate_all(calculator: Calculator, structures: Sequence[Atoms]) -> list[dict[str, Any]]:
    """Return the results of a calculator for many structures: at once if it can, else one by one."""
    if hasattr(calculator, "evaluate"):
        return cast("list[dict[str, Any]]", calculator.evaluate(structures))
    found = []
    for structure in structures:
        wanted = ["energy", "forces"]
        if structure.cell.rank == 3 and "stress" in calculator.implemented_properties:  # noqa: PLR2004 - three dimensions
            wanted.append("stress")
        calculator.reset()
        calculator.calculate(structure.copy(), wanted, all_changes)
        found.append(_results_of(calculator))
    return found


def _results_of(calculator: Calculator) -> dict[str, Any]:
    """Return all results, the stress as six numbers: ASE takes matrices, too, and CHGNet gives one."""
    results = dict(calculator.results)
    if "stress" in results:
        results["stress"] = voigt_label(results["stress"], "The stress of the model")
    return results


def _summed(own: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    results = {name: value for name, value in own.items() if name not in SUMMED}
    for name in SUMMED:
        if name in own:
            results[f"model_{name}"] = own[name]
        if name in own and name in added:
            results[name] = own[name] + added[name]
    return results | {f"dispersion_{name}": value for name, value in added.items()}


def _evaluated(calculator: Calculator, atoms: Atoms, wanted: Sequence[str], prefix: str) -> dict[str, Any]:
    """Return all results of a calculator that was asked for what is wanted of it; the most demanding first."""
    plain = {name.removeprefix(prefix) for name in wanted} | {"energy"}
    for name in ("stress", "forces", *sorted(plain - {"stress", "forces"})):
        if name in plain and name in calculator.implemented_properties:
            calculator.get_property(name, atoms)
    return _results_of(calculator)


def resolve_dispersion(
    card: ModelCard | None,
    dispersion: str | D3Settings | bool | None,
    *,
    allow_double_counting: bool = False,
    allow_other_functional: bool = False,
) -> D3Settings | None:
    """Return the options of the dispersion to add to a model, after checking that it belongs to the model.

    Parameters
    ----------
    card
        Card of the model; None for a file without one, about which nothing is known.
    dispersion
        None or False for none, a functional, options, or True for the functional that the card names.
    allow_double_counting
        Add dispersion to a model whose labels contain it.
    allow_other_functional
        Add the dispersion of another functional than that of the labels.

    Raises
    ------
    DispersionError
        If the model's labels contain dispersion already, or may, or were computed with another functional.
    UnknownNameError
        If the functional does not exist, or is left to a card that there is none of.
    """
    if dispersion is None or dispersion is False:
        return None
    settings = _settings(card, dispersion)
    from mace_ft_bench.calculators.d3.parameters import damping_parameters, plain  # noqa: PLC0415 - first use

    damping_parameters(settings)
    if card is None:
        return settings
    if card.dispersion == "included" and not allow_double_counting:
        raise DispersionError(
            f'The labels of model "{card.name}" contain dispersion already; D3 would count it twice.',
            fix="leave dispersion out, or pass allow_double_counting=True if you know better.",
        )
    if card.dispersion == "unknown" and not allow_double_counting:
        raise DispersionError(
            f'The card of model "{card.name}" does not say whether its labels contain dispersion already.',
            fix='write dispersion = "none" or "included" into the card, or, if it is none, '
            "pass allow_double_counting=True.",
        )
    if plain(settings.functional) not in map(plain, _names(card.functional)) and not allow_other_functional:
        raise DispersionError(
            f'Model "{card.name}" was trained on {card.functional}; D3 for "{settings.functional}" is not of it.',
            fix="pass the functional of the labels, or allow_other_functional=True if you know better.",
        )
    return settings


def _settings(card: ModelCard | None, dispersion: str | D3Settings | bool) -> D3Settings:
    if isinstance(dispersion, D3Settings):
        return dispersion
    if isinstance(dispersion, str):
        return D3Settings(functional=dispersion)
    if card is None:
        raise UnknownNameError(
            "dispersion=True takes the functional from the model's card, and there is none.",
            fix='name the functional: dispersion="pbe".',
        )
    return D3Settings(functional=_names(card.functional)[0])


def _names(functional: str) -> list[str]:
    """Return the words of a card's functional; ``PBE (VASP, 520 eV)`` begins with ``PBE``."""
    return [word for word in re.split(r"[\s/,()+]+", functional) if word] or [functional]
