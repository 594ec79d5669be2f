"""ASE's effective-medium potential (doi 10.1016/0039-6028(96)00816-3) behind the same call: fast, not accurate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ase.calculators.calculator import all_changes
from ase.calculators.emt import EMT
from ase.data import atomic_numbers

from mace_ft_bench.calculators.structure_checks import check_structure
from mace_ft_bench.errors import CardError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from mace_ft_bench.zoo.card import ModelCard


class StrictEMT(EMT):
    """EMT with our structure checks, and such that it can be pickled.

    Parameters
    ----------
    card
        Its model card.
    head
        Name of its only head.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 - as ASE declares it

    def __init__(self, card: ModelCard, head: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in ASE
        self._card = card
        self.label_name = card.name
        self.head = head
        self.numbers = frozenset(atomic_numbers[symbol] for symbol in card.elements)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),  # noqa: ARG002 - as ASE calls it
    ) -> None:
        """Check the structure, then evaluate.

        Raises
        ------
        StructureError
            If the structure cannot be evaluated.
        """
        self.results = {}
        if atoms is not None:
            check_structure(atoms, self.numbers, model=self.label_name)
        # All changes: EMT fills its arrays in place, and those of the last structure may be somebody's.
        super().calculate(atoms, properties, all_changes)  # type: ignore[no-untyped-call]  # untyped in ASE

    def __reduce__(self) -> tuple[object, ...]:
        """Be built anew: EMT keeps its tables in a form that cannot be pickled."""
        return StrictEMT, (self._card, self.head)


def build(card: ModelCard, device: str, dtype: str | None, head: str) -> StrictEMT:
    """Return an EMT calculator; the factory its model card names.

    Raises
    ------
    CardError
        If a dtype other than float64 is asked for.
    """
    del device  # it has no choice; a run on a GPU may have it in the same table
    if dtype not in {None, "float64"}:
        raise CardError(f"{card.name} runs in float64 only, not {dtype}.", fix="leave dtype out.")
    return StrictEMT(card, head)
