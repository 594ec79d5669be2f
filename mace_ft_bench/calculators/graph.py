"""What a model evaluates: the atoms of one or several structures, and the pairs that may lie within the cutoff."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mace_ft_bench.calculators.neighbors import NeighborList, SkinSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from mace_ft_bench.calculators.neighbors import Candidates


@dataclass(frozen=True)
class PairTable:
    """Candidate pairs of one structure, sorted by their first atom."""

    first_pair: np.ndarray
    """First pair of every atom, and the end, (N + 1,) int64."""
    sender: np.ndarray
    """The atom at the other end (P,) int32."""
    shift: np.ndarray
    """Cell vectors added to the sender (P, 3) int32."""


@dataclass(frozen=True)
class Graph:
    """B structures with N atoms and P candidate pairs altogether."""

    positions: np.ndarray
    """(N, 3) [Angstrom]."""
    cells: np.ndarray
    """(B, 3, 3) [Angstrom]."""
    structure: np.ndarray
    """Structure of every atom, ascending (N,) int64."""
    species: np.ndarray
    """Index of every atom's element in the model (N,) int64."""
    first_pair: np.ndarray
    """First pair of every atom, and the end (N + 1,) int64."""
    sender: np.ndarray
    """The atom at the other end (P,) int32."""
    shift: np.ndarray
    """Cell vectors added to the sender (P, 3) int32."""

    @property
    def sizes(self) -> np.ndarray:
        """Number of atoms of every structure (B,)."""
        return np.bincount(self.structure, minlength=len(self.cells))

    def element_pairs(self) -> set[tuple[int, int]]:
        """Return the pairs of elements, as indices in the model, that are candidate neighbours."""
        first, second = self._elements_of_pairs()
        count = int(self.species.max()) + 1
        found = np.flatnonzero(np.bincount(first * count + second, minlength=count**2))
        return {(int(code) // count, int(code) % count) for code in found}

    def showing(self, pairs: set[tuple[int, int]]) -> Graph:
        """Return some of the structures, small ones first, that have all of these pairs of elements between them."""
        return self.part(self._showing(pairs))

    def sample(self, pairs: int) -> Graph:
        """Return structures that have all pairs of elements, and the first others up to so many pairs altogether."""
        if len(self.cells) == 1:
            return self
        counts = np.add.reduceat(np.diff(self.first_pair), np.searchsorted(self.structure, np.arange(len(self.cells))))
        needed = self._showing(self.element_pairs())
        others = np.setdiff1d(np.arange(len(self.cells)), needed)
        fits = counts[needed].sum() + np.cumsum(counts[others]) <= pairs
        return self.part(np.union1d(needed, others[fits]))

    def _showing(self, pairs: set[tuple[int, int]]) -> np.ndarray:
        first, second = self._elements_of_pairs()
        owner = np.repeat(self.structure, np.diff(self.first_pair))
        chosen: set[int] = set()
        for a, b in sorted(pairs):
            having = np.unique(owner[(first == a) & (second == b)])
            if not chosen & set(having.tolist()):
                chosen.add(int(having[np.argmin(self.sizes[having])]))
        return np.array(sorted(chosen), dtype=np.int64)

    def part(self, structures: np.ndarray) -> Graph:
        """Return the graph of some structures, by their ascending indices."""
        kept, counts = np.isin(self.structure, structures), np.diff(self.first_pair)
        pairs, index = np.repeat(kept, counts), np.cumsum(kept) - 1
        return Graph(
            positions=self.positions[kept],
            cells=self.cells[structures],
            structure=np.searchsorted(structures, self.structure[kept]),
            species=self.species[kept],
            first_pair=np.concatenate([[0], np.cumsum(counts[kept])]),
            sender=index[self.sender[pairs]].astype(self.sender.dtype),
            shift=self.shift[pairs],
        )

    def _elements_of_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        return np.repeat(self.species, np.diff(self.first_pair)), self.species[self.sender]


def pair_table(candidates: Candidates, atoms: int) -> PairTable:
    """Sort candidate pairs by their first atom."""
    first, second, shift = candidates.first, candidates.second, candidates.shifts
    if not (first[1:] >= first[:-1]).all():
        order = np.argsort(first, kind="stable")
        first, second, shift = first[order], second[order], shift[order]
    return PairTable(np.searchsorted(first, np.arange(atoms + 1)), second, shift)


def search_pairs(structures: Sequence[Atoms], cutoff: float) -> list[PairTable]:
    """Return the pairs within the cutoff [Angstrom] of every structure; the cells have been checked."""
    from mace_ft_bench.calculators.small_cells import find_pairs, find_small  # noqa: PLC0415 - imports numba

    searched = NeighborList(cutoff, SkinSettings(skin=0))
    small = find_small(structures, cutoff)
    tables = dict(zip(small, find_pairs([structures[index] for index in small], cutoff), strict=True))
    return [
        PairTable(*tables[index]) if index in tables else pair_table(searched.search(atoms), len(atoms))
        for index, atoms in enumerate(structures)
    ]


def join(structures: Sequence[Atoms], tables: Sequence[PairTable], species_of: np.ndarray) -> Graph:
    """Return one graph of several structures.

    Parameters
    ----------
    structures
        Structures whose elements have been checked.
    tables
        Their candidate pairs.
    species_of
        Index in the model by atomic number.
    """
    sizes = np.array([len(atoms) for atoms in structures])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    pairs = np.concatenate([[0], np.cumsum([len(table.sender) for table in tables])])
    starts = [table.first_pair[:-1] + offset for table, offset in zip(tables, pairs, strict=False)]
    senders = [table.sender + offset for table, offset in zip(tables, offsets.astype(np.int32), strict=False)]
    return Graph(
        positions=_joined([atoms.positions for atoms in structures]),
        cells=np.stack([atoms.cell.array for atoms in structures]),
        structure=np.repeat(np.arange(len(structures)), sizes),
        species=species_of[_joined([atoms.numbers for atoms in structures])],
        first_pair=np.concatenate([*starts, pairs[-1:]]),
        sender=_joined(senders),
        shift=_joined([table.shift for table in tables]),
    )


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return np.ascontiguousarray(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))
