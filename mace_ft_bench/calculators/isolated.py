"""Models whose packages cannot share our environment: evaluated by a worker process in one of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ase.calculators.calculator import Calculator, all_changes
from ase.data import atomic_numbers

from mace_ft_bench.calculators.structure_checks import check_structure, refuse_stress_without_volume
from mace_ft_bench.errors import CardError
from mace_ft_bench.workers.worker import Worker
from mace_ft_bench.zoo.environments import installation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from mace_ft_bench.zoo.card import ModelCard
    from mace_ft_bench.zoo.environments import Installation


class IsolatedCalculator(Calculator):
    """A model in an environment of its own, with our structure checks.

    A worker that was lost is replaced with the next structure; a copy, also one in another process, has a worker of its
    own from its first structure on.

    Parameters
    ----------
    card
        Its model card.
    installed
        Its environment on this machine.
    device
        ``cpu`` or ``cuda``.
    head
        Name of its head.
    """

    accelerator = "i-PI worker"
    """Stands in records: times hold the transfer to another process."""

    def __init__(self, card: ModelCard, installed: Installation, device: str, head: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in ASE
        self.label_name = card.name
        self.head = head
        self.implemented_properties = list(installed.implemented_properties)
        self.parameters = {"model": card.name, "head": head, "dtype": installed.environment.dtype, "device": device}
        self.numbers = frozenset(atomic_numbers[symbol] for symbol in card.elements)
        self._installed = installed
        self._worker: Worker | None = None

    def start(self) -> Worker:
        """Return the worker, after starting one if there is none.

        Raises
        ------
        WorkerError
            If it does not start.
        """
        if self._worker is None or not self._worker.alive:
            import torch  # noqa: PLC0415 - slow to import

            self._worker = Worker(
                self.label_name,
                self._installed.python,
                self._installed.description(self.parameters["device"]),
                threads=torch.get_num_threads(),  # as records say
                fix=f"make its environment anew: `mfb models install {self.label_name} --force`.",
            )
        return self._worker

    def close(self) -> None:
        """End the worker; otherwise it ends with this object. The next structure starts another."""
        if self._worker is not None:
            self._worker.close()
        self._worker = None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Check the structure, then let the worker evaluate it; everything it gives is kept.

        Raises
        ------
        WorkerError
            If the model's own code fails, or the worker is lost or silent.
        """
        self.results = {}  # ASE replaces self.atoms even if a check raises below
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]  # untyped in ASE
        structure = cast("Atoms", self.atoms)
        check_structure(structure, self.numbers, model=self.label_name)
        refuse_stress_without_volume(structure, properties)
        self.results = self.start().evaluate(structure)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_worker": None}


def build(card: ModelCard, device: str, dtype: str | None, head: str) -> IsolatedCalculator:
    """Return the calculator of an isolated model, its worker started.

    Raises
    ------
    CardError
        If it cannot run on that device, or in that dtype.
    MissingDependencyError
        If its environment has not been made.
    WorkerError
        If its worker does not start.
    """
    installed = installation(card)
    own = installed.environment.dtype
    if dtype not in {None, own or None}:
        raise CardError(f"{card.name} runs in {own or 'a dtype of its own'}, not {dtype}.", fix="leave dtype out.")
    if device != "cpu" and not installed.environment.device_argument:
        raise CardError(f"{card.name} runs on processors only.", fix='use device="cpu".')
    calculator = IsolatedCalculator(card, installed, device, head)
    calculator.start()
    return calculator
