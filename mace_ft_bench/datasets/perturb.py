"""New structures from old ones: random strain, then displacements that keep atoms apart.

Displacements are Gaussian, made in several small sweeps over the atoms. A move is accepted with the probability
``(1 + erf((d - d_min) / width)) / 2``, where d is the distance of the closest pair of the moved atom beyond its own
minimum, as in hiphive's Monte Carlo rattle (doi 10.1002/adts.201800184). Where no pair comes close, the displacements
are exactly Gaussian; two widths below the minimum nothing is accepted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from ase.neighborlist import neighbor_list
from scipy.linalg import expm
from scipy.special import erf

from mace_ft_bench.datasets.frames import CONFIG_TYPE
from mace_ft_bench.errors import CardError, StructureError, UnknownNameError, suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

StrainKind = Literal["full", "volume", "shear"]

SMALLEST_RATTLE = 0.01
LARGEST_RATTLE = 1.0
"""Bounds of the standard deviation of a displacement component [Angstrom]; 0 switches displacements off."""
LARGEST_STRAIN = 0.5
FLOOR_WIDTHS = 2.0
"""No pair comes closer than its minimum distance less this many widths."""
_CEILING_WIDTHS = 4.0
"""Beyond this many widths above the minimum the probability is 1 to 1e-8."""
_LARGEST_MOVE = 6.0
"""Standard deviations after which one move is cut; bounds the reach of a sweep. One in 1e7 moves is longer."""
_KEPT_ARRAYS = ("numbers", "positions", "masses", "initial_magmoms", "initial_charges", "tags")
"""What belongs to the atoms; labels and velocities of the old structure do not belong to the new one."""
_DIMENSIONS = 3


@dataclass(frozen=True)
class PerturbSettings:
    """How structures are perturbed; lengths in Angstrom."""

    count: int = 1
    """Frames per structure."""
    rattle: float | tuple[float, float] = 0.05
    """Standard deviation of every displacement component, or the two ends between which it is drawn per frame."""
    strain: float = 0.0
    """Amplitude: components of the logarithmic strain are drawn between minus and plus this number."""
    strain_kind: StrainKind = "full"
    """``full`` (six independent components), ``volume`` (isotropic), or ``shear`` (traceless: the volume stays)."""
    min_distances: Mapping[str, float] = field(default_factory=dict)
    """Minimum distances by pair of elements, ``{"Mo-Mo": 2.1}``."""
    min_distance_factor: float = 0.7
    """Minimum distance of the other pairs, in sums of covalent radii (doi 10.1039/B801115J)."""
    width: float = 0.1
    """Width over which the acceptance falls from 1 to 0 around the minimum distance."""
    sweeps: int = 10
    """Number of moves of every atom."""
    attempts: int = 1000
    """Draws of one move before it is given up."""
    seed: int = 0
    config_type: str = ""
    """Group of the new frames; by default that of the structure, or ``perturbed``."""

    def __post_init__(self) -> None:
        for value in self.rattle_range:
            _require(
                value == 0 or SMALLEST_RATTLE <= value <= LARGEST_RATTLE,
                f"A rattle of {value} Å",
                f"0 or between {SMALLEST_RATTLE} and {LARGEST_RATTLE}",
            )
        low, high = self.rattle_range
        _require(low <= high, f"A rattle from {low} to {high} Å", "given as lowest, highest")
        _require(0 <= self.strain <= LARGEST_STRAIN, f"A strain of {self.strain}", f"between 0 and {LARGEST_STRAIN}")
        _require(high > 0 or self.strain > 0, "A perturbation without rattle and strain", "given one of them")
        _require(0 < self.width <= 1, f"A width of {self.width} Å", "above 0 and 1 at most")
        _require(0 <= self.min_distance_factor <= 1, f"A factor of {self.min_distance_factor}", "between 0 and 1")
        for name, number in (("count", self.count), ("sweeps", self.sweeps), ("attempts", self.attempts)):
            _require(number >= 1, f"{name} = {number}", "1 or more")
        _require(self.seed >= 0, f"seed = {self.seed}", "0 or more")
        if self.strain_kind not in get_args(StrainKind):
            raise UnknownNameError(
                f'No kind of strain is called "{self.strain_kind}".',
                fix=suggestion(self.strain_kind, get_args(StrainKind)),
            )
        _parse_pairs(self.min_distances)

    @property
    def summary(self) -> str:
        """All that shapes a frame beside its seed, in one line."""
        low, high = self.rattle_range
        pairs = ",".join(f"{pair}:{distance}" for pair, distance in sorted(self.min_distances.items()))
        return (
            f"rattle={low}:{high} strain={self.strain} strain_kind={self.strain_kind} "
            f"min_distance_factor={self.min_distance_factor} min_distances={pairs or 'none'} width={self.width} "
            f"sweeps={self.sweeps} attempts={self.attempts}"
        )

    @property
    def rattle_range(self) -> tuple[float, float]:
        """Lowest and highest standard deviation [Angstrom]."""
        return self.rattle if isinstance(self.rattle, tuple) else (self.rattle, self.rattle)


def _require(holds: bool, what: str, rule: str) -> None:
    if not holds:  # also of nan, which no comparison holds for
        raise CardError(f"{what} makes no sense.", fix=f"it has to be {rule}.")


def perturb(structures: Iterable[Atoms], settings: PerturbSettings) -> list[Atoms]:
    """Return perturbed copies of structures, ``settings.count`` of each.

    Every frame has a seed of its own, made from ``settings.seed``, the index of its structure and its own number. The
    seed is kept in ``info["perturb_seed"]``, so that :func:`perturb_one` makes this frame again alone, and more frames
    leave the earlier ones as they are.

    Parameters
    ----------
    structures
        Structures; they are not changed.
    settings
        How to perturb.

    Returns
    -------
    list of Atoms
        Bare frames (labels, velocities and constraints are dropped) with provenance in ``info``: ``perturb_parent``
        (index of the structure), ``perturb_seed``, ``perturb_rattle`` [Angstrom], ``perturb_strain`` (logarithmic,
        tensor components in Voigt order), ``perturb_settings`` (all that shapes it beside the seed) and
        ``config_type``.

    Raises
    ------
    StructureError
        If a structure cannot be strained, or its atoms cannot be kept apart; naming the pair and its distance.
    """
    frames = []
    for parent, structure in enumerate(structures):
        for number in range(settings.count):
            try:
                frame = perturb_one(structure, settings, frame_seed(settings.seed, parent, number))
            except StructureError as error:
                raise StructureError(f"Structure {parent}, frame {number}: {error.message}", fix=error.fix) from error
            frame.info["perturb_parent"] = parent
            frames.append(frame)
    return frames


def frame_seed(seed: int, parent: int, number: int) -> int:
    """Return the seed of one frame, from the seed of all, the index of its structure and its number."""
    state = np.random.SeedSequence(seed, spawn_key=(parent, number)).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(11))  # 53 bits, which every file format and JSON keep exactly


def perturb_one(structure: Atoms, settings: PerturbSettings, seed: int) -> Atoms:
    """Return one perturbed copy; the same structure, settings and seed give the same frame.

    Raises
    ------
    StructureError
        As :func:`perturb`.
    """
    refuse_unusable(structure)
    generator = np.random.default_rng(seed)
    frame = bare(structure)
    strain = _draw_strain(frame, settings, generator)
    frame.set_cell(frame.cell.array @ expm(strain), scale_atoms=True)
    rattle = float(generator.uniform(*settings.rattle_range))
    minima = pair_minima(frame.numbers, settings.min_distances, settings.min_distance_factor)
    refuse_closer(frame, minima - FLOOR_WIDTHS * settings.width)
    if rattle > 0:
        _rattle(frame, rattle / math.sqrt(settings.sweeps), minima, settings, generator)
    frame.info = {
        CONFIG_TYPE: settings.config_type or str(structure.info.get(CONFIG_TYPE, "perturbed")),
        "perturb_seed": seed,
        "perturb_rattle": rattle,
        "perturb_strain": strain[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        "perturb_settings": settings.summary,
    }
    return frame


def refuse_unusable(structure: Atoms) -> None:
    """Refuse a structure without atoms, with numbers that are not finite, or without extent along a periodic direction.

    Raises
    ------
    StructureError
        Saying which.
    """
    if len(structure) == 0:
        raise StructureError("It has no atoms.", fix="check how it was built or read.")
    if not (np.isfinite(structure.positions).all() and np.isfinite(structure.cell.array).all()):
        raise StructureError("A position or cell vector is not finite.", fix="check how it was built or read.")
    periodic = structure.cell.array[structure.pbc]
    if np.linalg.matrix_rank(periodic) < len(periodic):
        raise StructureError(
            f"Its cell has no extent along a periodic direction (pbc = {structure.pbc.tolist()}).",
            fix="set a cell, or switch periodicity off.",
        )


def bare(structure: Atoms) -> Atoms:
    """Return a copy without labels, velocities, constraints and calculator; masses, magnetic moments and so on stay."""
    frame = Atoms(structure.numbers, positions=structure.positions, cell=structure.cell, pbc=structure.pbc)
    for name in _KEPT_ARRAYS[2:]:
        if structure.has(name):
            frame.set_array(name, structure.arrays[name])
    return frame


def _draw_strain(frame: Atoms, settings: PerturbSettings, generator: np.random.Generator) -> np.ndarray:
    """Return a symmetric logarithmic strain (3, 3); its trace is the logarithm of the ratio of the volumes."""
    drawn = generator.uniform(-1, 1, size=(3, 3)) * settings.strain
    if settings.strain == 0:
        return np.zeros((3, 3))
    if not frame.pbc.all() or frame.cell.rank < _DIMENSIONS:
        raise StructureError(
            "It is not periodic in three directions and cannot be strained.", fix="leave the strain out for it."
        )
    strain: np.ndarray = np.eye(3) * drawn[0, 0]
    if settings.strain_kind == "volume":
        return strain
    strain = np.triu(drawn) + np.triu(drawn, 1).T
    if settings.strain_kind == "shear":
        strain -= np.eye(3) * np.trace(strain) / 3
    return strain


def _rattle(
    frame: Atoms, sigma: float, minima: np.ndarray, settings: PerturbSettings, generator: np.random.Generator
) -> None:
    """Move every atom by Gaussian steps, in sweeps."""
    reach = float(minima.max(initial=0.0)) + _CEILING_WIDTHS * settings.width + 2 * _LARGEST_MOVE * sigma
    positions = frame.positions  # ASE hands out the array itself
    for _ in range(settings.sweeps):
        first, second, shift = neighbor_list("ijS", frame, reach)
        apart = first != second  # the distance of an atom to its own image does not change
        first, second, vectors = first[apart], second[apart], shift[apart] @ frame.cell.array
        starts = np.searchsorted(first, np.arange(len(frame) + 1))
        for atom in range(len(frame)):
            own = slice(starts[atom], starts[atom + 1])
            positions[atom] = _moved(
                atom,
                positions,
                _Neighbours(second[own], vectors[own], minima[atom, second[own]]),
                sigma,
                settings,
                generator,
                frame.numbers,
            )


@dataclass(frozen=True)
class _Neighbours:
    """The atoms that one atom may meet in a sweep."""

    atoms: np.ndarray
    vectors: np.ndarray
    """Cell vectors added to their positions (P, 3) [Angstrom]."""
    minima: np.ndarray
    """Minimum distances (P,) [Angstrom]."""

    def margins(self, position: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return the distances less the minima (P,) [Angstrom]."""
        margins: np.ndarray = np.linalg.norm(positions[self.atoms] + self.vectors - position, axis=1) - self.minima
        return margins


def _moved(  # noqa: PLR0913, PLR0917 - one move needs all of it
    atom: int,
    positions: np.ndarray,
    near: _Neighbours,
    sigma: float,
    settings: PerturbSettings,
    generator: np.random.Generator,
    numbers: np.ndarray,
) -> np.ndarray:
    """Return the accepted new position of an atom."""
    worst, partner = np.inf, 0
    for _ in range(settings.attempts):
        step = generator.normal(0.0, sigma, size=3)
        if step @ step > (_LARGEST_MOVE * sigma) ** 2:
            continue
        trial: np.ndarray = positions[atom] + step
        margins = near.margins(trial, positions)
        closest = float(margins.min(initial=np.inf))
        if generator.random() < acceptance(closest, settings.width):
            return trial
        worst, partner = closest, int(margins.argmin())
    other = int(near.atoms[partner])
    pair = f"{chemical_symbols[numbers[atom]]}-{chemical_symbols[numbers[other]]}"
    raise StructureError(
        f"No move of atom {atom} in {settings.attempts} attempts kept atoms {atom} and {other} (or an image) apart: "
        f"{pair} {worst + near.minima[partner]:.3g} Å, minimum distance {near.minima[partner]:.3g} Å.",
        fix=f"lower the rattle, or the minimum distance of {pair}.",
    )


def acceptance(margin: float, width: float) -> float:
    """Return the probability of accepting a distance by its margin over the minimum [Angstrom]; 0 below the floor."""
    if margin < -FLOOR_WIDTHS * width:
        return 0.0
    return float(0.5 * (1 + erf(margin / width)))


def pair_minima(numbers: np.ndarray, given: Mapping[str, float], factor: float) -> np.ndarray:
    """Return the minimum distances of all pairs of atoms (n, n) [Angstrom].

    Parameters
    ----------
    numbers
        Atomic numbers (n,).
    given
        Distances by pair of elements, ``{"Mo-Mo": 2.1}``, in either order.
    factor
        Of the sum of covalent radii, for the other pairs.

    Raises
    ------
    CardError
        If a pair or a distance makes no sense.
    """
    table = factor * (covalent_radii[:, None] + covalent_radii[None, :])
    for (first, second), distance in _parse_pairs(given).items():
        table[first, second] = table[second, first] = distance
    minima: np.ndarray = table[np.ix_(numbers, numbers)]
    return minima


def _parse_pairs(given: Mapping[str, float]) -> dict[tuple[int, int], float]:
    pairs = {}
    for name, distance in given.items():
        symbols = name.split("-")
        if len(symbols) != 2 or not all(symbol in atomic_numbers for symbol in symbols):  # noqa: PLR2004 - a pair
            raise CardError(f'"{name}" is no pair of elements.', fix='write it as, for example, "Mo-Mo".')
        _require(0 <= distance < math.inf, f"A minimum distance of {distance} Å for {name}", "0 or more")
        pairs[atomic_numbers[symbols[0]], atomic_numbers[symbols[1]]] = float(distance)
    return pairs


def parse_distances(texts: Sequence[str]) -> dict[str, float]:
    """Return minimum distances from ``["Mo-Mo=2.1"]``.

    Raises
    ------
    CardError
        If a text is not of that form.
    """
    found = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError as error:
            raise CardError(f'"{text}" is no minimum distance.', fix='write it as "Mo-Mo=2.1", in Å.') from error
    _parse_pairs(found)
    return found


def refuse_closer(atoms: Atoms, minima: np.ndarray) -> None:
    """Refuse a structure with atoms, or an atom and its own image, closer than allowed.

    Parameters
    ----------
    atoms
        Structure.
    minima
        Smallest distances (n, n) [Angstrom].

    Raises
    ------
    StructureError
        Naming the pair that falls shortest, its distance and its limit.
    """
    reach = float(minima.max(initial=0.0))
    if reach <= 0:
        return
    first, second, distance = neighbor_list("ijd", atoms, reach)
    margins = distance - minima[first, second]
    if margins.min(initial=np.inf) >= 0:
        return
    worst = int(margins.argmin())
    i, j = int(first[worst]), int(second[worst])
    pair = f"{chemical_symbols[atoms.numbers[i]]}-{chemical_symbols[atoms.numbers[j]]}"
    raise StructureError(
        f"Atoms {i} and {j} (or an image) are {distance[worst]:.3g} Å apart; {pair} may not come closer than "
        f"{minima[i, j]:.3g} Å.",
        fix=f"move them apart, or lower the minimum distance of {pair}.",
    )
