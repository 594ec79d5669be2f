"""torch-dftd as an engine: the reference implementation, able to use a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase.geometry import complete_cell
from ase.stress import voigt_6_to_full_3x3_stress
from ase.units import Bohr

from mace_ft_bench.calculators.d3.engine import Dispersion
from mace_ft_bench.calculators.d3.parameters import damping_parameters
from mace_ft_bench.calculators.d3.settings import TOUCHING_DISTANCE
from mace_ft_bench.calculators.neighbors import NeighborList
from mace_ft_bench.errors import StructureError

if TYPE_CHECKING:
    import torch
    from ase import Atoms

    from mace_ft_bench.calculators.d3.settings import D3Settings
    from mace_ft_bench.calculators.neighbors import Pairs


class TorchEngine:
    """Energy, forces and strain derivative through torch-dftd, over our neighbour list.

    In double precision, unless ``dtype`` says otherwise. Its unit conversions differ from ASE's in the seventh digit.

    Parameters
    ----------
    settings
        Options.
    device
        ``cpu`` or ``cuda``.
    dtype
        ``float64`` or ``float32``.

    Raises
    ------
    ValueError
        If an option is beyond torch-dftd.
    UnknownNameError
        If there are no parameters for the functional.
    """

    def __init__(self, settings: D3Settings, device: str, dtype: str = "float64") -> None:
        import torch  # noqa: PLC0415 - slow to import
        from torch_dftd.nn.dftd3_module import DFTD3Module  # noqa: PLC0415 - slow to import

        _refuse_what_torch_dftd_cannot(settings)
        self.settings = settings
        self.device = device
        self.dtype: torch.dtype = getattr(torch, dtype)
        self._list = NeighborList(settings.cutoff, settings.neighbours)
        self.tracker = self._list.tracker
        self._module = DFTD3Module(
            damping_parameters(settings),
            cutoff=settings.cutoff,
            cnthr=settings.cn_cutoff,
            abc=settings.abc,
            dtype=self.dtype,
            bidirectional=True,  # it ignores half of the options otherwise
            cutoff_smoothing="poly" if settings.smoothing else "none",
        ).to(device)

    def evaluate(self, atoms: Atoms) -> Dispersion:
        """Evaluate a structure that has passed the checks; see :meth:`NumbaEngine.evaluate`."""
        pairs = self._list.update(atoms)
        if self.settings.abc:
            _refuse_several_images(pairs)
        touching = int((pairs.distances < TOUCHING_DISTANCE).sum())
        # A slab without a third cell vector gets one; only the volume depends on it, and that cancels.
        cell = complete_cell(atoms.cell.array)
        results = self._module.calc_energy_and_forces(
            Z=self._tensor(atoms.numbers, integer=True),
            pos=self._tensor(atoms.positions),
            cell=self._tensor(cell),
            pbc=None,
            edge_index=self._tensor(np.stack([pairs.first, pairs.second]), integer=True),
            shift_pos=self._tensor(pairs.shifts @ atoms.cell.array),
            damping=self.settings.damping,
        )[0]
        strain = voigt_6_to_full_3x3_stress(results["stress"].astype(float)) * abs(np.linalg.det(cell))
        return Dispersion(None, float(results["energy"]), results["forces"].astype(float), strain, touching)

    def _tensor(self, values: np.ndarray, *, integer: bool = False) -> torch.Tensor:
        import torch  # noqa: PLC0415 - slow to import

        return torch.tensor(values, dtype=torch.int64 if integer else self.dtype, device=self.device)


def _refuse_what_torch_dftd_cannot(settings: D3Settings) -> None:
    if settings.cn_cutoff > settings.cutoff:
        raise ValueError(
            f"torch-dftd cannot use a cn_cutoff ({settings.cn_cutoff} Å) beyond the cutoff ({settings.cutoff} Å). "
            'To fix: lower cn_cutoff, or use engine="numba".'
        )
    if settings.smoothing and abs(settings.smoothing - Bohr) > 1e-9:  # noqa: PLR2004 - rounding
        raise ValueError(
            f"torch-dftd smooths over 1 bohr, not {settings.smoothing} Å. "
            'To fix: smoothing=ase.units.Bohr, or engine="numba".'
        )


def _refuse_several_images(pairs: Pairs) -> None:
    # It keeps C6 in a matrix of atoms, and autograd counts an element that was written twice twice (torch-dftd 0.5.3).
    atoms = np.stack([pairs.first, pairs.second], axis=1)
    if len(np.unique(atoms, axis=0)) < len(atoms):
        raise StructureError(
            "torch-dftd's three-body forces are wrong where an atom has several images of another within the cutoff.",
            fix='use engine="numba", or a larger cell.',
        )
