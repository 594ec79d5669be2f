"""DFT-D3 dispersion (doi 10.1063/1.3382344) as an ASE calculator.

``D3Calculator("pbe")`` evaluates the D3 energy, forces and stress with Becke-Johnson damping. Lengths are in Angstrom.
The engine is compiled on first use, which takes a few seconds once per machine.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, cast

from ase.calculators.calculator import Calculator, all_changes
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress

from mace_ft_bench.calculators.d3.settings import (
    CN_CUTOFF,
    MACE_CUTOFF,
    ORIGINAL_CUTOFF,
    S_DFTD3_CUTOFF,
    TOUCHING_DISTANCE,
    D3Settings,
)
from mace_ft_bench.calculators.structure_checks import check_structure, refuse_stress_without_volume
from mace_ft_bench.errors import StructureError, UnknownNameError, UnsupportedElementError, suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ase import Atoms

    from mace_ft_bench.calculators.d3.engine import NumbaEngine
    from mace_ft_bench.calculators.d3.reference import TorchEngine

__all__ = ["CN_CUTOFF", "MACE_CUTOFF", "ORIGINAL_CUTOFF", "S_DFTD3_CUTOFF", "D3Calculator", "D3Settings"]

_DIMENSIONS = 3


class D3Calculator(Calculator):
    """Energy, forces and stress of DFT-D3.

    Parameters
    ----------
    functional
        Name of the density functional, for example ``pbe``, ``B3LYP``, ``r2scan``.
    damping
        ``bj``, ``zero``, ``bjm`` or ``zerom``.
    device
        ``auto``, ``cpu`` or ``cuda``; only ``engine="torch-dftd"`` uses a GPU, ``engine="auto"`` never does.
    **options
        The other fields of :class:`D3Settings`: ``cutoff``, ``cn_cutoff``, ``abc``, ``smoothing``, ``skin``, ``every``,
        ``delay``, ``check``, ``on_dangerous``, ``engine``.

    Raises
    ------
    UnknownNameError
        If an option, the functional, the damping or the engine does not exist.
    ValueError
        If a length or a number makes no sense.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 - as ASE declares it

    def __init__(self, functional: str = "pbe", damping: str = "bj", *, device: str = "auto", **options: Any) -> None:  # noqa: ANN401 - fields of D3Settings
        known = [field.name for field in fields(D3Settings)]
        for name in options:
            if name not in known:
                raise UnknownNameError(f"D3Calculator has no option {name}.", fix=suggestion(name, [*known, "device"]))
        settings = D3Settings(functional=functional, damping=cast("Any", damping), **options)
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in ASE
        self._set_up(settings, device)

    @classmethod
    def from_settings(cls, settings: D3Settings, device: str = "auto") -> D3Calculator:
        """Return a calculator with these options."""
        options = {field.name: getattr(settings, field.name) for field in fields(D3Settings)}
        return cls(**options, device=device)

    def _set_up(self, settings: D3Settings, device: str) -> None:
        self.settings = settings
        self.device = device
        self._engine = _make_engine(settings, device)
        self.label_name = f"D3({settings.damping})-{settings.functional}"
        self.parameters = {field.name: getattr(settings, field.name) for field in fields(D3Settings)}
        if settings.engine == "torch-dftd":
            self.implemented_properties = [name for name in type(self).implemented_properties if name != "energies"]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_engine"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_up(self.settings, self.device)

    @property
    def builds(self) -> int:
        """Number of neighbour lists built."""
        return self._engine.tracker.builds

    @property
    def dangerous_builds(self) -> int:
        """Number of builds that came too late, see :class:`mace_ft_bench.calculators.neighbors.SkinTracker`."""
        return self._engine.tracker.dangerous_builds

    @property
    def updates(self) -> int:
        """Number of evaluations."""
        return self._engine.tracker.updates

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate everything; stress where the cell has a volume.

        Raises
        ------
        StructureError
            If the structure cannot be evaluated.
        PropertyNotImplementedError
            If a stress is asked of a structure without a three-dimensional cell.
        """
        self.results = {}  # ASE replaces self.atoms even if a check raises below
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]  # untyped in ASE
        structure = cast("Atoms", self.atoms)
        _check(structure)
        has_volume = structure.cell.rank == _DIMENSIONS
        refuse_stress_without_volume(structure, properties)
        found = self._engine.evaluate(structure)
        if found.touching:
            _refuse_touching(structure)
        self.results = {"energy": found.energy, "free_energy": found.energy, "forces": found.forces}
        if found.energies is not None:
            self.results["energies"] = found.energies
        if has_volume:
            stress = found.strain_derivative / structure.get_volume()
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)

    def evaluate(self, frames: Iterable[Atoms]) -> list[dict[str, Any]]:
        """Evaluate independent structures, each with a list of its own, whatever ``every`` and ``delay`` say.

        Returns
        -------
        list of dict
            Per structure what :meth:`calculate` puts into ``results``.
        """
        settings = replace(self.settings, skin=0.0, every=1, delay=0, check=True)
        apart = D3Calculator.from_settings(settings, self.device)
        found = []
        for frame in frames:
            apart.calculate(frame.copy(), ["energy", "forces"])
            found.append(apart.results)
        return found


def _make_engine(settings: D3Settings, device: str) -> NumbaEngine | TorchEngine:
    if settings.engine != "torch-dftd":
        # Also beside a model on a GPU: torch-dftd takes a list of all pairs from the processor, at every step.
        if settings.engine == "numba" and device.partition(":")[0] not in {"auto", "cpu"}:
            raise UnknownNameError(
                f'engine="numba" has no device="{device}".', fix='use device="cpu", or engine="torch-dftd".'
            )
        from mace_ft_bench.calculators.d3.engine import NumbaEngine  # noqa: PLC0415 - imports no numba yet

        return NumbaEngine(settings)
    from mace_ft_bench.calculators.d3.reference import TorchEngine  # noqa: PLC0415 - imports torch
    from mace_ft_bench.calculators.factory import resolve_device  # noqa: PLC0415 - the factory imports this module

    return TorchEngine(settings, resolve_device(device))


def _check(atoms: Atoms) -> None:
    from mace_ft_bench.calculators.d3.parameters import ELEMENTS  # noqa: PLC0415 - with the engine

    check_structure(atoms, set(atoms.numbers.tolist()), model="D3")
    unknown = sorted(set(atoms.numbers.tolist()) - set(ELEMENTS))
    if unknown:
        names = ", ".join(chemical_symbols[number] for number in unknown)
        raise UnsupportedElementError(
            f"D3 has no parameters for {names}; they end at plutonium.",
            fix="remove these atoms, or evaluate without dispersion.",
        )


def _refuse_touching(atoms: Atoms) -> None:
    from mace_ft_bench.calculators.neighbors import NeighborList, SkinSettings  # noqa: PLC0415 - rarely needed

    pairs = NeighborList(TOUCHING_DISTANCE, SkinSettings(skin=0.0), half=True).update(atoms)
    if pairs.distances.size:
        nearest = int(pairs.distances.argmin())
        raise StructureError(
            f"Atoms {pairs.first[nearest]} and {pairs.second[nearest]} (or an image) are "
            f"{pairs.distances[nearest]:.2g} Å apart.",
            fix="separate them, or remove one of them.",
        )
