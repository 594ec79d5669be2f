"""Benchmark cases: one TOML card each, naming a property, its input, settings, references and tolerances.

The card of ``reference_data/<material>/<case>.toml`` has the identifier ``<material>/<case>``. Reading cases needs
neither torch nor ASE, so that the leaderboard can show them without either.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

from mace_ft_bench import paths
from mace_ft_bench.errors import CardError, UnknownNameError, suggestion
from mace_ft_bench.toml_schema import StrictTable, merged, parse, read_toml

if TYPE_CHECKING:
    from pathlib import Path

ReferenceKind = Literal["dft", "experiment", "exact", "published_model"]
"""``exact`` values hold by definition, such as the zero faults of a smooth curve."""

Mode = Literal["quick", "standard", "full"]
"""How long a run may take: minutes, an hour, or whatever the physics asks for."""

MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True)
class BulkStructure(StrictTable):
    """A crystal made by :func:`ase.build.bulk`."""

    element: str
    """Chemical symbol or formula."""
    lattice: str
    """Crystal structure as ASE names it, for example ``bcc``."""
    a: float
    """Lattice constant [Angstrom]."""
    cubic: bool = True
    """Whether the conventional cubic cell is built."""
    repeat: tuple[int, int, int] = (1, 1, 1)
    """Supercell size."""
    builder: Literal["bulk"] = "bulk"


@dataclass(frozen=True)
class OrientedStructure(StrictTable):
    """A cubic crystal whose cell vectors lie along given directions, made by :mod:`ase.lattice.cubic`."""

    builder: Literal["oriented"]
    element: str
    """Chemical symbol."""
    lattice: Literal["sc", "bcc", "fcc", "diamond"]
    """Cubic lattice."""
    a: float
    """Lattice constant [Angstrom]."""
    directions: tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]
    """Miller directions of the three cell vectors, in the order given (also left-handed)."""
    size: tuple[int, int, int] = (1, 1, 1)
    """Repetitions along each direction."""


@dataclass(frozen=True)
class FileStructure(StrictTable):
    """A structure file beside the cards."""

    builder: Literal["file"]
    file: str
    """Path relative to ``reference_data/structures``."""


@dataclass(frozen=True)
class DatasetStructure(StrictTable):
    """One frame of a dataset card; its labels, if it has any, are not used."""

    builder: Literal["dataset"]
    dataset: str
    """Name of the dataset card."""
    split: str
    """Name of the split."""
    config_type: str = ""
    """Configuration type that this frame alone has; not needed where the split has one frame."""


@dataclass(frozen=True)
class FramesInput(StrictTable):
    """Labelled frames of a dataset card."""

    dataset: str
    """Name of the dataset card."""
    split: str
    """Name of the split."""


@dataclass(frozen=True)
class Metric(StrictTable):
    """One scored or shown error of a case."""

    label: str
    """How people call it, for example ``C11``."""
    unit: str
    """Unit of the error."""
    tolerance: float
    """Error [unit] at which the score of this metric is one half; positive."""


@dataclass(frozen=True)
class Reference(StrictTable):
    """Values of one source; ``scored`` marks the one that errors are taken against."""

    label: str
    """Name shown in tables."""
    kind: ReferenceKind
    """What produced the values."""
    level_of_theory: str
    """Functional and code, or ``experiment``."""
    source: str
    """Where the numbers are published."""
    values: dict[str, float | list[float]] = field(default_factory=dict)
    """Field name (with its unit) -> number or curve."""
    errors: dict[str, float] = field(default_factory=dict)
    """Errors against the scored reference where only those were published."""
    doi: str = ""
    scored: bool = False
    note: str = ""


@dataclass(frozen=True)
class ModeChanges(StrictTable):
    """What a case does differently in one mode."""

    settings: dict[str, Any]
    """Settings of the property in place of those of the case; the others stay."""


@dataclass(frozen=True)
class Case(StrictTable):
    """A benchmark case."""

    title: str
    """One line for tables."""
    property: str
    """Name of the property module that computes it."""
    structure: BulkStructure | OrientedStructure | FileStructure | DatasetStructure | None = None
    """What to compute on, or ..."""
    frames: FramesInput | None = None
    """... labelled frames to compare with."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the property; checked by its module."""
    dispersion: str = ""
    """Functional whose DFT-D3 is added to models whose labels hold no dispersion; empty adds none."""
    runs_in: tuple[Mode, ...] = MODES
    """Modes that the case belongs to."""
    modes: dict[Mode, ModeChanges] = field(default_factory=dict)
    """Mode -> what is different in it; without an entry a mode takes the settings as they are."""
    metrics: dict[str, Metric] = field(default_factory=dict)
    """Error name -> label, unit, tolerance. Only these are scored; none means the case is shown but not scored."""
    references: tuple[Reference, ...] = ()
    """Sources, at most one of them scored."""
    description: str = ""
    """What it tests and how, for people."""
    id: str = ""
    """``<material>/<case>``; taken from the path."""
    mode: Mode | Literal[""] = ""
    """Mode whose settings are in force; empty where they are the same in all. Set by :meth:`in_mode`."""

    @cached_property
    def material(self) -> str:
        """First part of the identifier."""
        return self.id.split("/")[0]

    @cached_property
    def scored_reference(self) -> Reference | None:
        """The reference that errors are taken against, if any."""
        return next((reference for reference in self.references if reference.scored), None)

    def in_mode(self, mode: Mode) -> Case | None:
        """Return the case with the settings of a mode, its title saying so, or None if it does not belong to it.

        A case without settings of modes returns as it is: its records count in every mode.
        """
        if mode not in self.runs_in:
            return None
        if not self.modes:
            return self
        changes = self.modes.get(mode, ModeChanges(settings={}))
        settings = merged(self.settings, changes.settings)
        return replace(self, settings=settings, mode=mode, title=f"{self.title} ({mode})")

    def content_hash(self) -> str:
        """Return a hash of all that determines the errors: property, input, settings, scored reference."""
        reference = self.scored_reference
        content = {
            "property": self.property,
            "structure": asdict(self.structure) if self.structure else None,
            "frames": asdict(self.frames) if self.frames else None,
            "settings": self.settings,
            "reference": reference.values if reference else None,
        }
        if self.dispersion:  # only then, so that older records of the other cases stay valid
            content["dispersion"] = self.dispersion
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def load_case(path: Path, *, root: Path) -> Case:
    """Read one card.

    Parameters
    ----------
    path
        The TOML file.
    root
        The folder that holds the materials; the identifier is the path relative to it.

    Raises
    ------
    CardError
        If the card is malformed.
    """
    identifier = path.relative_to(root).with_suffix("").as_posix()
    table = read_toml(path)
    for key, fix in (("id", "the identifier is the path"), ("mode", "it is chosen when the case is run")):
        if key in table:
            raise CardError(f'{path} sets "{key}".', fix=f"remove it: {fix}.")
    case = parse({**table, "id": identifier}, Case, where=str(path))
    _check(case, path)
    return case


def _check(case: Case, path: Path) -> None:
    if (case.structure is None) == (case.frames is None):
        raise CardError(f"{path} needs exactly one of [structure] and [frames].", fix="give one of them.")
    scored = [reference.label for reference in case.references if reference.scored]
    if len(scored) > 1:
        raise CardError(f"{path} scores against {len(scored)} references: {scored}.", fix="mark one as scored.")
    if any(reference.kind == "published_model" for reference in case.references if reference.scored):
        raise CardError(f"{path} scores against a published model.", fix="score against DFT or experiment.")
    if case.metrics and case.frames is None and not scored:
        raise CardError(f"{path} has metrics but no scored reference.", fix="mark one reference as scored = true.")
    if not case.runs_in or not set(case.modes) <= set(case.runs_in):
        raise CardError(
            f"{path} runs in {list(case.runs_in)} and changes {list(case.modes)}.", fix="add the modes to runs_in."
        )
    bad = [name for name, metric in case.metrics.items() if not metric.tolerance > 0]
    if bad:
        raise CardError(f"{path}: tolerance of {bad} is not positive.", fix="give the error that scores one half.")


_NO_CASES = {"datasets", "structures", "timings"}
"""Folders beside the materials."""


def load_cases(root: Path | None = None) -> dict[str, Case]:
    """Return all cases by identifier, sorted; ``datasets``, ``structures`` and ``timings`` folders hold no cases."""
    root = root or paths.reference_data()
    files = [path for path in root.glob("*/*.toml") if path.parent.name not in _NO_CASES]
    cases = [load_case(path, root=root) for path in files]
    return {case.id: case for case in sorted(cases, key=lambda case: case.id)}


def mode_named(name: str) -> Mode:
    """Return a mode by its name.

    Raises
    ------
    UnknownNameError
        With the nearest known name.
    """
    for mode in MODES:
        if mode == name:
            return mode
    raise UnknownNameError(f'No mode is called "{name}".', fix=suggestion(name, MODES))


def select_cases(patterns: list[str], root: Path | None = None, *, mode: Mode | None = None) -> list[Case]:
    """Return the cases that match any shell pattern or are of a material of that name, in order of their identifiers.

    Parameters
    ----------
    patterns
        Shell patterns, or materials.
    root
        The folder that holds the materials.
    mode
        Leave out the cases that do not belong to this mode, and give the others its settings; by default all cases
        return as their cards are.

    Raises
    ------
    UnknownNameError
        If a pattern matches nothing, or nothing of that mode.
    """
    cases = load_cases(root)
    materials = {case.material for case in cases.values()}
    patterns = [f"{pattern}/*" if pattern in materials else pattern for pattern in patterns]
    for pattern in patterns:
        if not fnmatch.filter(cases, pattern):
            raise UnknownNameError(f'No case matches "{pattern}".', fix=suggestion(pattern, cases))
    chosen = [case for name, case in cases.items() if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    if mode is None:
        return chosen
    of_mode = [found for case in chosen if (found := case.in_mode(mode)) is not None]
    if not of_mode:
        modes = [name for name in MODES if any(name in case.runs_in for case in chosen)]
        raise UnknownNameError(f"None of these cases runs in mode {mode}.", fix=f"use one of: {', '.join(modes)}.")
    return of_mode
