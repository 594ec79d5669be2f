"""Options of D3, checked before anything is computed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ase.units import Bohr

from mace_ft_bench.calculators.neighbors import SkinSettings
from mace_ft_bench.errors import UnknownNameError, suggestion

MACE_CUTOFF = 40 * Bohr
"""Cutoff [Angstrom] of ``mace_mp(dispersion=True)``."""
S_DFTD3_CUTOFF = 60 * Bohr
"""Default cutoff [Angstrom] of s-dftd3."""
ORIGINAL_CUTOFF = 95 * Bohr
"""Cutoff [Angstrom] of Grimme's program, of torch-dftd, and (50.2) of VASP."""
CN_CUTOFF = 40 * Bohr
"""Cutoff [Angstrom] of coordination numbers that all of these use."""
LARGEST_CUTOFF = 150.0
"""Cutoffs [Angstrom] beyond this are taken for a mistake in the unit."""

TOUCHING_DISTANCE = 0.1
"""Distance [Angstrom] below which two atoms count as one put in twice."""

DAMPINGS = ("bj", "bjm", "zero", "zerom")
ENGINES = ("auto", "numba", "torch-dftd")

DEFAULT_SKIN = 1.0
"""Skin [Angstrom]. At a cutoff of 20 Angstrom it costs a tenth more pairs, and a list lasts 30 to 100 fs."""


@dataclass(frozen=True)
class D3Settings:
    """Options of :class:`mace_ft_bench.calculators.dispersion.D3Calculator`; lengths in Angstrom."""

    functional: str = "pbe"
    """Name of the density functional, as torch-dftd or the literature writes it: ``b3-lyp``, ``B3LYP``, ``r2SCAN``."""
    damping: Literal["bj", "bjm", "zero", "zerom"] = "bj"
    """``bj`` (Becke-Johnson, doi 10.1002/jcc.21759), ``zero`` (10.1063/1.3382344), and both refitted as ``bjm`` and
    ``zerom`` (10.1021/acs.jpclett.6b00780)."""
    cutoff: float = MACE_CUTOFF
    """Cutoff of pairs. The default is that of ``mace_mp``, so that numbers obtained there come back, and has a
    thirteenth of the pairs of :data:`ORIGINAL_CUTOFF`; take the latter to correct labels of VASP."""
    cn_cutoff: float = CN_CUTOFF
    """Cutoff of coordination numbers, and of all three sides of triangles."""
    abc: bool = False
    """Add the three-body term; it takes hundreds of times as long."""
    smoothing: float = 0.0
    """Width below the cutoffs over which pairs and coordination numbers fade out by a quintic; 0 cuts them off.
    torch-dftd's ``poly`` is 1 bohr. The three-body term is cut off."""
    skin: float = DEFAULT_SKIN
    """See :class:`mace_ft_bench.calculators.neighbors.SkinSettings`, as the next four."""
    every: int = 1
    delay: int = 0
    check: bool = True
    on_dangerous: Literal["warn", "rebuild", "raise"] = "warn"
    engine: Literal["auto", "numba", "torch-dftd"] = "auto"
    """``numba`` (processor, double precision), ``torch-dftd`` (reference, any device), or ``auto``: the first."""

    def __post_init__(self) -> None:
        for option, known in (("damping", DAMPINGS), ("engine", ENGINES)):
            value = getattr(self, option)
            if value not in known:
                raise UnknownNameError(f'{option}="{value}" does not exist.', fix=suggestion(str(value), known))
        for option in ("cutoff", "cn_cutoff"):
            _check_cutoff(option, getattr(self, option))
        if not (math.isfinite(self.smoothing) and 0 <= self.smoothing < min(self.cutoff, self.cn_cutoff)):
            raise ValueError(
                f"smoothing = {self.smoothing} Å. To fix: pass 0 (off), or a width below the cutoffs; 0.53 is usual."
            )
        _ = self.neighbours

    @property
    def neighbours(self) -> SkinSettings:
        """The options of the neighbour list."""
        return SkinSettings(self.skin, self.every, self.delay, self.check, self.on_dangerous)


def _check_cutoff(option: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{option} = {value} Å is no cutoff. To fix: pass a positive length in Angstrom.")
    if value > LARGEST_CUTOFF:
        raise ValueError(
            f"{option} = {value} Å is far more than D3 needs ({ORIGINAL_CUTOFF:.1f} Å). "
            "To fix: pass Angstrom, not bohr or picometres."
        )
