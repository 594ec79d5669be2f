"""Several models as one calculator: the mean, every member, and how far they disagree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.calculator import compare_atoms as changes_between

from mace_ft_bench.calculators.combined import evaluate_all
from mace_ft_bench.errors import CardError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ase import Atoms

MEAN = ("energy", "free_energy", "energies", "forces", "stress")
"""Results that are averaged over the members, as far as all of them have them."""
SPREAD = ("energy", "forces", "stress")
"""Results of which every member and the variance are kept."""


class CommitteeCalculator(Calculator):
    """The mean of several calculators, with the results and the variance of the members.

    ``results`` holds, besides the means, for each of ``energy``, ``forces`` and ``stress``

    - ``<name>_members``: the result of every member, stacked along the first axis (M, ...);
    - ``<name>_variance``: their unbiased variance, in the squared unit.

    They are ordinary results: ``calc.get_property("forces_variance", atoms)``.

    Parameters
    ----------
    members
        At least two ASE calculators; none of them twice.

    Raises
    ------
    CardError
        If there are fewer than two members, or one object twice.
    """

    def __init__(self, members: Sequence[Calculator]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in ASE
        if len(members) < 2 or len({id(member) for member in members}) < len(members):  # noqa: PLR2004 - a variance needs two
            raise CardError(
                f"A committee of {len(members)} members (or one object twice) has no variance.",
                fix="give two models or more, each as a calculator of its own.",
            )
        self.members = list(members)
        shared = [name for name in MEAN if all(name in member.implemented_properties for member in members)]
        extra = [f"{name}_{what}" for name in SPREAD if name in shared for what in ("members", "variance")]
        self.implemented_properties = [*shared, *extra]
        self.parameters = {"members": [dict(member.parameters) for member in members]}

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate every member.

        Raises
        ------
        MaceFtBenchError
            Whatever a member raises.
        """
        self.results = {}  # ASE replaces self.atoms even if a check raises below
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]  # untyped in ASE
        structure = cast("Atoms", self.atoms)
        wanted = sorted(
            {name.partition("_")[0] if name != "free_energy" else name for name in properties or ["energy"]}
        )
        for member in self.members:
            if changes_between(member.atoms, structure) or any(name not in member.results for name in wanted):
                member.reset()  # nothing of another structure remains if this one is refused
                member.calculate(structure, wanted, all_changes)
        self.results = combine([member.results for member in self.members])

    def evaluate(self, frames: Iterable[Atoms]) -> list[dict[str, Any]]:
        """Evaluate many structures; members that can do so at once are asked to.

        Returns
        -------
        list of dict
            Per structure what :meth:`calculate` puts into ``results``.
        """
        structures = list(frames)
        by_member = [evaluate_all(member, structures) for member in self.members]
        return [combine(list(results)) for results in zip(*by_member, strict=True)]


def combine(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return means, members and variances of the results that all members have."""
    combined: dict[str, Any] = {}
    for name in MEAN:
        if any(name not in found for found in results):
            continue
        stacked = np.stack([np.asarray(found[name]) for found in results])
        combined[name] = _plain(stacked.mean(axis=0))
        if name in SPREAD:
            combined[f"{name}_members"] = stacked
            combined[f"{name}_variance"] = _plain(stacked.var(axis=0, ddof=1))
    return combined


def _plain(values: np.ndarray) -> Any:  # noqa: ANN401 - a float for energies, an array for the rest
    return float(values) if values.ndim == 0 else values
