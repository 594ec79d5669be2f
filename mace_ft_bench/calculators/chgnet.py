"""CHGNet (doi 10.1038/s42256-023-00716-3) behind the same call; its weights ship in its own wheel."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import TYPE_CHECKING, Any

from ase.data import atomic_numbers

from mace_ft_bench.calculators.structure_checks import check_structure
from mace_ft_bench.errors import CardError, MissingDependencyError, StructureError

try:
    from chgnet.model.dynamics import CHGNetCalculator
except ImportError as error:
    raise MissingDependencyError(
        "CHGNet is not installed.", fix='install it with: pip install "mace-ft-bench[chgnet]".'
    ) from error

if TYPE_CHECKING:
    from ase import Atoms

    from mace_ft_bench.zoo.card import ModelCard


class StrictCHGNetCalculator(CHGNetCalculator):
    """CHGNet with our structure checks.

    Parameters
    ----------
    card
        Its model card.
    device
        ``cpu`` or ``cuda``.
    head
        Name of its only head.
    """

    implemented_properties = ("energy", "free_energy", "forces", "stress", "magmoms")

    def __init__(self, card: ModelCard, device: str, head: str) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # CHGNet prints the device
            super().__init__(use_device=device, on_isolated_atoms="error")
        self.label_name = card.name
        self.head = head
        self.parameters = {"model": card.name, "head": head, "dtype": "float32", "device": device}
        self.numbers = frozenset(atomic_numbers[symbol] for symbol in card.elements)

    def calculate(self, atoms: Atoms | None = None, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on
        """Check the structure, then evaluate."""
        if atoms is not None:
            check_structure(atoms, self.numbers, model=self.label_name)
            _refuse_what_chgnet_ignores(atoms)
            atoms = atoms.copy()
            atoms.set_constraint()  # pymatgen warns of constraints it does not know; forces do not depend on them
        with warnings.catch_warnings():
            # CHGNet 0.4.2 turns a volume tensor into a number without detaching it; the value is right.
            warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad=True to a scalar")
            try:
                super().calculate(atoms, *args, **kwargs)
            except ValueError as error:
                if "isolated atom" not in str(error):
                    raise
                raise StructureError(
                    f"CHGNet cannot evaluate isolated atoms: {error}.", fix="give every atom a neighbour within 6 Å."
                ) from error
        self.results["energy"] = float(self.results["energy"])
        self.results["free_energy"] = self.results["energy"]


def _refuse_what_chgnet_ignores(atoms: Atoms) -> None:
    """CHGNet takes every structure as periodic and has no isolated atoms."""
    if not atoms.pbc.all():
        raise StructureError(
            f"CHGNet treats every direction as periodic, the structure does not (pbc = {atoms.pbc.tolist()}).",
            fix="set atoms.pbc = True and a cell with at least 6 Å of vacuum along the free directions.",
        )


def build(card: ModelCard, device: str, dtype: str | None, head: str) -> StrictCHGNetCalculator:
    """Return a CHGNet calculator; the factory its model card names.

    Raises
    ------
    CardError
        If a dtype other than float32 is asked for.
    """
    if dtype not in {None, "float32"}:
        raise CardError(f"CHGNet runs in float32 only, not {dtype}.", fix="leave dtype out.")
    return StrictCHGNetCalculator(card, device, head)
