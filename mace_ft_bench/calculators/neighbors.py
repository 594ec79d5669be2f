"""Neighbour lists that are kept while they are provably complete, with the options of LAMMPS's ``neigh_modify``.

A list is built for ``cutoff + skin`` and reused until an atom may have come within the cutoff of one that is not on
it. Pairs beyond the cutoff are masked, so a reused list gives the same pairs, and the same energy, as a fresh one.

When a list may be reused
-------------------------
With cells h (rows) and h0 at the build, h = h0 F, write every position as its affine image plus a rest,
x_i = x0_i F + u_i. The vector of a pair at the build was v0 = (v - u_j + u_i) F⁻¹, so a pair that lies within the
cutoff now lay within norm(F⁻¹) (cutoff + norm(u_i) + norm(u_j)) then. While that does not exceed ``cutoff + skin`` for
any pair the list is complete. A common shift of all atoms cancels and is taken out of u first. Wrapping an atom back
into the cell moves it by a cell vector, which costs a build.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from mace_ft_bench.errors import StructureError, UnknownNameError, suggestion

if TYPE_CHECKING:
    import vesin
    from ase import Atoms

DEFAULT_SKIN = 0.5
"""Skin [Angstrom] for cutoffs of 4 to 7 Angstrom: a list lasts 10 to 30 fs at room temperature."""
ON_DANGEROUS = ("warn", "rebuild", "raise")

_GUARD = 1e-9
"""Length [Angstrom] by which lists are built too long, against rounding at their rim."""
_BOXES_PER_ATOM = 100
"""Boxes per atom from which a structure counts as sparse."""
_LONGEST_STRETCHED = 16.0
"""Length [Angstrom] to which, or to four times the cutoff, a search may be lengthened; no more, since a cluster in a
huge cell is dense all the same."""
_THREADED_FROM = 400
"""Number of atoms from which threads shorten the search."""

_log = logging.getLogger("mace_ft_bench")


@dataclass(frozen=True)
class SkinSettings:
    """When a list is built anew; ``every``, ``delay`` and ``check`` as in LAMMPS's ``neigh_modify``.

    The defaults are exact. With ``every > 1``, ``delay > 1`` a list may become outdated before it is allowed to be
    built; ``on_dangerous`` decides what happens then. Other atoms, another pbc, or a leap of more than twice the skin
    always lead to a build.
    """

    skin: float = DEFAULT_SKIN
    """Length [Angstrom] by which the list exceeds the cutoff; 0 stores nothing and searches at every update."""
    every: int = 1
    """Builds happen at updates whose number since the last build is a multiple of this."""
    delay: int = 0
    """Updates after a build before the next one."""
    check: bool = True
    """Build only if the list may be incomplete; otherwise at every update that ``every`` and ``delay`` allow."""
    on_dangerous: Literal["warn", "rebuild", "raise"] = "warn"
    """What to do when a list is outdated while ``every`` and ``delay`` forbid a build: use it as LAMMPS does and warn
    once, build nevertheless, or raise a ``StructureError``."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.skin) and self.skin >= 0):
            raise ValueError(f"skin = {self.skin} Å is no length. To fix: pass 0 (no skin) or a positive number.")
        if self.every < 1 or self.delay < 0:
            raise ValueError(f"every = {self.every}, delay = {self.delay}. To fix: pass every >= 1 and delay >= 0.")
        if self.on_dangerous not in ON_DANGEROUS:
            raise UnknownNameError(
                f'on_dangerous="{self.on_dangerous}" does not exist.', fix=suggestion(self.on_dangerous, ON_DANGEROUS)
            )


@dataclass(frozen=True)
class Pairs:
    """All pairs within the cutoff; the vector of a pair is ``x[second] - x[first] + shifts @ cell``."""

    first: np.ndarray
    """Index of the first atom, shape (pairs,), int64."""
    second: np.ndarray
    """Index of the second atom, shape (pairs,), int64."""
    shifts: np.ndarray
    """Cell vectors added to the second atom, shape (pairs, 3), int32."""
    vectors: np.ndarray
    """From the first to the second atom [Angstrom], shape (pairs, 3), float64."""
    distances: np.ndarray
    """Length of the vectors [Angstrom], shape (pairs,), float64."""


@dataclass(frozen=True)
class Candidates:
    """A superset of the pairs within the cutoff, without geometry, for code that masks by distance itself."""

    first: np.ndarray
    """Index of the first atom, shape (pairs,), int32."""
    second: np.ndarray
    """Index of the second atom, shape (pairs,), int32."""
    shifts: np.ndarray
    """Cell vectors added to the second atom, shape (pairs, 3), int32."""


class SkinTracker:
    """Decides at every update whether a stored list still serves, and counts.

    Whoever stores something that is valid for ``cutoff + skin`` asks :meth:`must_build` once per update, and builds if
    the answer is yes.

    Parameters
    ----------
    cutoff
        Largest cutoff [Angstrom]; what is stored may have several.
    settings
        See :class:`SkinSettings`.
    """

    builds: int
    """Number of builds."""
    dangerous_builds: int
    """Builds that came after an outdated list had been used, or would have been. LAMMPS counts every build at the first
    step it was allowed at; here the list is checked at every update, so only those are counted that were overdue."""
    updates: int
    """Number of updates."""

    def __init__(self, cutoff: float, settings: SkinSettings) -> None:
        self.cutoff = cutoff
        self.settings = settings
        self.builds = self.dangerous_builds = self.updates = 0
        self._warned = False
        self.reset()

    def reset(self) -> None:
        """Forget the structure of the last build; the counters stay."""
        self._ago = 0
        self._overdue = False
        self._numbers: np.ndarray | None = None

    def must_build(self, atoms: Atoms) -> bool:
        """Whether the list has to be built for this structure; the answer is taken as done.

        Raises
        ------
        StructureError
            If the list is outdated, may not be built yet, and ``on_dangerous="raise"``.
        """
        self.updates += 1
        self._ago += 1
        wanted = self._decide(self._used_skin(atoms))
        if wanted:
            self._remember(atoms)
        return wanted

    def _decide(self, used: float) -> bool:
        settings = self.settings
        outdated = used > settings.skin
        if used > max(2 * settings.skin, settings.skin + _GUARD):
            return True
        if self._ago >= settings.delay and self._ago % settings.every == 0:
            return outdated or not settings.check
        return outdated and self._overdue_build()

    def _overdue_build(self) -> bool:
        settings = self.settings
        if settings.on_dangerous == "raise":
            raise StructureError(
                f"The neighbour list is outdated {self._ago} updates after it was built, and every = {settings.every}, "
                f"delay = {settings.delay} forbid a new one.",
                fix='enlarge the skin, lower every and delay, or pass on_dangerous="rebuild".',
            )
        if settings.on_dangerous == "warn" and not self._warned:
            self._warned = True
            _log.warning(
                "A neighbour list is outdated and every = %d, delay = %d forbid a new one: pairs may be missing. "
                'To fix: enlarge the skin, lower every and delay, or pass on_dangerous="rebuild".',
                *(settings.every, settings.delay),
            )
        self._overdue = True
        return settings.on_dangerous == "rebuild"

    def _remember(self, atoms: Atoms) -> None:
        self.builds += 1
        self.dangerous_builds += self._overdue
        self._ago = 0
        self._overdue = False
        self._numbers = atoms.numbers.copy()
        self._pbc = atoms.pbc.copy()
        self._cell = atoms.cell.array.copy()
        self._positions = atoms.positions.copy()

    def _used_skin(self, atoms: Atoms) -> float:
        """Return how much of the skin may be used up [Angstrom]; infinite for another structure."""
        numbers = self._numbers
        if numbers is None or numbers.shape != atoms.numbers.shape or not (numbers == atoms.numbers).all():
            return math.inf
        if not (self._pbc == atoms.pbc).all():
            return math.inf
        cell = atoms.cell.array
        if (cell == self._cell).all():
            return _two_largest(atoms.positions - self._positions)
        if not (_has_volume(cell) and _has_volume(self._cell)):
            return math.inf
        inverse = np.linalg.solve(cell, self._cell)
        rest = atoms.positions - np.linalg.solve(inverse.T, self._positions.T).T
        # An expansion gains less at shorter cutoffs, for which others may keep lists beside this one: it gains nothing.
        growth = max(1.0, float(np.linalg.norm(inverse, 2)))
        return growth * (self.cutoff + _two_largest(rest)) - self.cutoff


def _two_largest(rest: np.ndarray) -> float:
    """Return the sum of the two largest lengths after subtracting the mean; nan counts as infinite."""
    count = len(rest)
    if count < 2:  # noqa: PLR2004 - a single atom cannot move relative to its images
        return 0.0 if np.isfinite(rest).all() else math.inf
    rest = rest - rest.sum(axis=0) / count
    squares = np.einsum("ij,ij->i", rest, rest)
    most = int(squares.argmax())
    largest = float(squares[most])
    squares[most] = 0.0
    total = math.sqrt(largest) + math.sqrt(float(squares.max())) if largest >= 0 else math.inf
    return total if math.isfinite(total) else math.inf


def _has_volume(cell: np.ndarray) -> bool:
    lengths = np.sqrt((cell**2).sum(axis=1)).prod()
    return bool(abs(np.linalg.det(cell)) > 1e-6 * lengths > 0)  # all but coplanar


class NeighborList:
    """Pairs within a cutoff, searched by vesin and kept while a skin allows.

    Parameters
    ----------
    cutoff
        Cutoff [Angstrom].
    settings
        Skin and when to build.
    half
        List every pair once instead of in both directions.

    Raises
    ------
    ValueError
        If the cutoff is not positive and finite.

    Notes
    -----
    Copies and pickles are empty lists of the same settings. Atoms that lie on each other are listed like any other
    pair: refusing them is up to the caller. A structure with positions that are not finite must not come here.
    """

    def __init__(self, cutoff: float, settings: SkinSettings | None = None, *, half: bool = False) -> None:
        if not (math.isfinite(cutoff) and cutoff > 0):
            raise ValueError(f"cutoff = {cutoff} Å is no cutoff. To fix: pass a positive number.")
        self.cutoff = float(cutoff)
        self.settings = settings or SkinSettings()
        self.half = half
        self.tracker = SkinTracker(self.cutoff, self.settings)
        self._searches: dict[tuple[float, int], vesin.NeighborList] = {}
        self.reset()

    def __getstate__(self) -> tuple[float, SkinSettings, bool]:
        return self.cutoff, self.settings, self.half

    def __setstate__(self, state: tuple[float, SkinSettings, bool]) -> None:
        self.__init__(*state[:2], half=state[2])  # type: ignore[misc]  # the state is the arguments

    @property
    def builds(self) -> int:
        """Number of searches."""
        return self.tracker.builds

    @property
    def dangerous_builds(self) -> int:
        """Number of builds that came too late, see :class:`SkinTracker`."""
        return self.tracker.dangerous_builds

    @property
    def updates(self) -> int:
        """Number of updates."""
        return self.tracker.updates

    def reset(self) -> None:
        """Forget the list; the counters stay."""
        self.tracker.reset()
        self._list: _Stored | None = None

    def update(self, atoms: Atoms) -> Pairs:
        """Return all pairs within the cutoff in the present geometry.

        Raises
        ------
        StructureError
            If the list is outdated, may not be built yet, and ``on_dangerous="raise"``.
        """
        if self.settings.skin == 0:
            self.tracker.updates += 1
            self.tracker.builds += 1
            first, second, *geometry = self._search(atoms, self.cutoff, "ijSDd")
            return Pairs(first.astype(np.int64), second.astype(np.int64), *geometry)
        return self._stored(atoms).within(self.cutoff, atoms.positions, atoms.cell.array)

    def candidates(self, atoms: Atoms) -> Candidates:
        """Return all pairs of the stored list, skin included; counts as an update.

        The same arrays are returned until the next build; do not write to them.
        """
        return self._stored(atoms).candidates

    def search(self, atoms: Atoms) -> Candidates:
        """Return the pairs of a search of its own; nothing is stored or counted."""
        return _Stored(*self._search(atoms, self.cutoff + self.settings.skin + _GUARD, "ijS")).candidates

    def _stored(self, atoms: Atoms) -> _Stored:
        if self.tracker.must_build(atoms) or self._list is None:
            self._list = None  # the old one goes before the new one comes
            self._list = _Stored(*self._search(atoms, self.cutoff + self.settings.skin + _GUARD, "ijS"))
        return self._list

    def _search(self, atoms: Atoms, cutoff: float, quantities: str) -> list[np.ndarray]:
        stretch = _stretch(atoms, cutoff)
        if stretch == 1:
            return self._searched(atoms, cutoff, quantities)
        *found, distances = self._searched(atoms, stretch * cutoff, f"{quantities}d")
        kept = distances <= cutoff
        return [array[kept] for array in found]

    def _searched(self, atoms: Atoms, cutoff: float, quantities: str) -> list[np.ndarray]:
        import vesin  # noqa: PLC0415 - it imports torch where there is one

        threads = 0 if len(atoms) >= _THREADED_FROM else 1
        search = self._searches.get((cutoff, threads))
        if search is None:
            search = vesin.NeighborList(cutoff=cutoff, full_list=not self.half, n_threads=threads)
            self._searches[cutoff, threads] = search
        positions = np.ascontiguousarray(atoms.positions)
        return [*search.compute(positions, atoms.cell.array, atoms.pbc, quantities, copy=True)]


def _stretch(atoms: Atoms, cutoff: float) -> int:
    """Return by how much to lengthen a search, so that boxes as long as it do not far outnumber the atoms.

    vesin visits all of its boxes, which takes up to a second for a few atoms far apart.
    """
    lengths = np.abs(atoms.cell.array[atoms.pbc]).sum(axis=0)
    if not atoms.pbc.all():  # vesin wraps atoms along periodic directions
        lengths = np.maximum(lengths, np.ptp(atoms.positions, axis=0))
    stretch = 1
    while np.maximum(lengths / (stretch * cutoff), 1.0).prod() > _BOXES_PER_ATOM * len(atoms):
        if stretch * cutoff >= max(4 * cutoff, _LONGEST_STRETCHED):
            break
        stretch *= 2
    return stretch


class _Stored:
    """The pairs of a build."""

    def __init__(self, first: np.ndarray, second: np.ndarray, shifts: np.ndarray) -> None:
        self.candidates = Candidates(first.astype(np.int32), second.astype(np.int32), shifts)

    def within(self, cutoff: float, positions: np.ndarray, cell: np.ndarray) -> Pairs:
        from mace_ft_bench.calculators.neighbor_kernel import keep_within  # noqa: PLC0415 - numba is slow to import

        stored = self.candidates
        size = len(stored.first) + 1  # the kernel writes before it decides
        kept = (
            np.empty(size, dtype=np.int64),
            np.empty(size, dtype=np.int64),
            np.empty((size, 3), dtype=np.int32),
            np.empty((size, 3)),
            np.empty(size),
        )
        count = keep_within(
            (stored.first, stored.second, stored.shifts), np.ascontiguousarray(positions), cell, cutoff, kept
        )
        return Pairs(*(array[:count] for array in kept))
