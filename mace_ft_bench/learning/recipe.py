"""Recipes of ``mfb distill``: one strict TOML file each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mace_ft_bench.errors import CardError
from mace_ft_bench.learning.dynamics import DynamicsConfig  # noqa: TC001 - pydantic reads it
from mace_ft_bench.toml_schema import StrictTable, parse, read_toml

if TYPE_CHECKING:
    from pathlib import Path


Family = Literal[
    "elements",
    "pairs",
    "compounds",
    "molecules",
    "defects",
    "surfaces",
    "adsorbates",
    "interfaces",
    "cages",
    "liquids",
    "ion-conductors",
    "templates",
    "structures",
]


@dataclass(frozen=True)
class FamilyConfig(StrictTable):
    """What becomes of every parent structure of a family, in this order."""

    volumes: tuple[float, ...] = ()
    """Volumes at which it is labelled, in units of its own; the best one is gone on with."""
    relax_steps: int = 0
    """Steps downhill with the teacher's forces, cell fixed; every fourth is kept."""
    frames: int = 0
    """Perturbed copies of where that ended."""
    rattle: tuple[float, float] = (0.02, 0.2)
    """Range of the standard deviation of their displacements [Angstrom]."""
    strain: float = 0.0
    """Amplitude of their strain."""
    least_atoms: int = 1
    """Cells are repeated until they have so many atoms before they are perturbed."""
    most_parents: int = 0
    """Use no more parents than this, the first ones; 0 for all."""

    def __post_init__(self) -> None:
        if min(self.volumes, default=1.0) <= 0 or min(self.relax_steps, self.frames, self.most_parents) < 0:
            raise CardError("A volume is not positive, or a number is negative.", fix="correct it.")
        if self.least_atoms < 1 or not 0 < self.rattle[0] <= self.rattle[1] or self.strain < 0:
            raise CardError("least_atoms, rattle or strain is out of range.", fix="give 1, [0.02, 0.2] and 0.05, say.")


@dataclass(frozen=True)
class DistillConfig(StrictTable):
    """Which structures a teacher labels."""

    teacher: str
    """Name of its model."""
    elements: tuple[str, ...]
    family: dict[Family, FamilyConfig]
    """Families of parent structures."""
    energies: Literal["as-they-are", "without-anion-corrections"]
    """Whether the teacher's energies contain corrections of the Materials Project that are taken out."""
    dynamics: tuple[DynamicsConfig, ...] = ()
    """Short molecular dynamics of some parents."""
    real: tuple[str, ...] = ()
    """Dataset splits with real labels. Their frames of these elements are mixed in."""
    templates: tuple[str, ...] = ()
    """Dataset splits whose structures the family ``templates`` takes."""
    most_template_atoms: int = 12
    structures: tuple[str, ...] = ()
    """Files of structures, of any format ASE reads, that the family ``structures`` takes as they are."""
    max_force: float = 30.0
    """Frames with a larger force [eV/Angstrom] are left out."""
    valid_fraction: float = 0.06
    test_fraction: float = 0.08
    """Shares of the parents whose frames validate and are kept for tests."""
    seed: int = 1

    def __post_init__(self) -> None:
        if not self.elements or self.seed < 0 or not self.max_force > 0:
            raise CardError("elements is empty, seed negative or max_force not positive.", fix="correct it.")
        if min(self.valid_fraction, self.test_fraction) <= 0 or self.valid_fraction + self.test_fraction >= 1:
            raise CardError("valid_fraction and test_fraction leave nothing.", fix="give, say, 0.06 and 0.08.")
        for name, listed in (("templates", self.templates), ("structures", self.structures)):
            if (name in self.family) != bool(listed):
                raise CardError(f"The family and the list {name} belong together.", fix="give both or neither.")


def load_recipe(path: Path) -> DistillConfig:
    """Read a recipe.

    Raises
    ------
    CardError
        Naming every offending key.
    """
    return parse(read_toml(path), DistillConfig, where=str(path))
