"""D3 in double precision on the processor: compiled pair sums over lists that are kept while a skin allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.units import Bohr, Hartree

from mace_ft_bench.calculators.d3.blocks import Blocks, Lists, list_within, make_blocks
from mace_ft_bench.calculators.d3.parameters import damping_parameters, damping_table, reference_weights, tables
from mace_ft_bench.calculators.neighbors import SkinTracker
from mace_ft_bench.calculators.threads import in_threads, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from ase import Atoms

    from mace_ft_bench.calculators.d3.settings import D3Settings

_THREADED_FROM = 50_000
"""Entries of lists from which threads shorten a pass."""
_GUARD = 1e-9
"""Length [Angstrom] by which lists are built too long, against rounding at their rim."""


@dataclass(frozen=True)
class Dispersion:
    """What an engine returns."""

    energies: np.ndarray | None
    """Energy of every atom [eV], shape (atoms,)."""
    energy: float
    """Their sum [eV]."""
    forces: np.ndarray
    """Forces [eV/Angstrom], shape (atoms, 3)."""
    strain_derivative: np.ndarray
    """Derivative of the energy with respect to strain [eV], shape (3, 3)."""
    touching: int
    """Number of pairs closer than 0.1 Angstrom, which no one should evaluate."""


@dataclass(frozen=True)
class _Constants:
    """What the elements of a structure and the options determine, in atomic units."""

    radii: np.ndarray
    """4/3 of the sums of covalent radii, shape (elements, elements)."""
    references: np.ndarray
    """Coordination numbers of the reference systems, shape (elements, 5)."""
    c6: np.ndarray
    """C6 of the reference systems, shape (elements, elements, 5, 5)."""
    squared_r0: np.ndarray
    """Squares of the cutoff radii, shape (elements, elements)."""
    damping: np.ndarray
    """See :func:`mace_ft_bench.calculators.d3.parameters.damping_table`."""

    @classmethod
    def of(cls, settings: D3Settings, numbers: np.ndarray) -> _Constants:
        table, grid = tables(), np.ix_(numbers, numbers)
        return cls(
            radii=np.add.outer(table["rcov"][numbers], table["rcov"][numbers]),
            references=table["cn"][numbers],
            c6=np.ascontiguousarray(table["c6"][grid]),
            squared_r0=table["r0"][grid] ** 2,
            damping=damping_table(settings, numbers),
        )


@dataclass(frozen=True)
class _Stored:
    """What is computed at a build."""

    blocks: Blocks
    pairs: Lists
    counts: Lists
    triples: Lists | None
    constants: _Constants


class NumbaEngine:
    """Energy, forces and strain derivative of D3.

    Parameters
    ----------
    settings
        Options.

    Raises
    ------
    UnknownNameError
        If there are no parameters for the functional.
    """

    def __init__(self, settings: D3Settings) -> None:
        damping_parameters(settings)
        self.settings = settings
        self.tracker = SkinTracker(max(settings.cutoff, settings.cn_cutoff), settings.neighbours)
        self._stored: _Stored | None = None

    def evaluate(self, atoms: Atoms) -> Dispersion:
        """Evaluate a structure that has passed the checks.

        Raises
        ------
        StructureError
            If the list is outdated, may not be built yet, and ``on_dangerous="raise"``.
        """
        if self.tracker.must_build(atoms) or self._stored is None:
            self._stored = None  # the old lists go before the new ones come
            self._stored = self._build(atoms)
        return _Evaluation(self.settings, self._stored, atoms).result()

    def _build(self, atoms: Atoms) -> _Stored:
        settings = self.settings
        numbers, species = np.unique(atoms.numbers, return_inverse=True)
        margin = settings.skin + _GUARD
        blocks = make_blocks(atoms, species, max(settings.cutoff, settings.cn_cutoff) + margin)
        geometry = blocks.geometry(atoms, Bohr)

        def listed(cutoff: float, *, half: bool) -> Lists:
            return list_within(blocks, geometry, (cutoff + margin) / Bohr, in_threads, half=half)

        pairs = listed(settings.cutoff, half=True)
        counts = pairs if settings.cn_cutoff == settings.cutoff else listed(settings.cn_cutoff, half=True)
        triples = listed(settings.cn_cutoff, half=False) if settings.abc else None
        return _Stored(blocks, pairs, counts, triples, _Constants.of(settings, numbers))


class _Evaluation:
    """One structure through the passes: coordination numbers, pairs, triples, and back through the former."""

    def __init__(self, settings: D3Settings, stored: _Stored, atoms: Atoms) -> None:
        self.settings, self.stored, self.constants = settings, stored, stored.constants
        self.count = len(atoms)
        self.geometry = stored.blocks.geometry(atoms, Bohr)
        self.per_width = Bohr / settings.smoothing if settings.smoothing else 0.0

    def result(self) -> Dispersion:
        coordination, touching = self._coordination()
        weights = reference_weights(self.constants.references[self.stored.blocks.species], coordination)
        energies, back, forces, virial = self._pairs(weights)
        if self.stored.triples is not None:
            self._triples(self.stored.triples, weights, (energies, back, forces, virial))
        self._chain(back, forces, virial)
        order = self.stored.blocks.order
        full = -(virial + np.triu(virial, 1).T) * Hartree
        unsorted_energies, unsorted_forces = np.empty(self.count), np.empty((self.count, 3))
        unsorted_energies[order] = energies * Hartree
        unsorted_forces[order] = forces * (Hartree / Bohr)
        return Dispersion(unsorted_energies, float(unsorted_energies.sum()), unsorted_forces, full, touching)

    def _run(self, lists: Lists, work: Callable[[tuple[int, int], int], None]) -> int:
        """Call the work for every chunk of blocks and its number; return the number of chunks."""
        chunks = lists.chunks
        run = in_threads if len(lists.atoms) >= _THREADED_FROM else in_turn
        run(lambda number: work(chunks[number], number), range(len(chunks)))
        return len(chunks)

    def _arguments(self, lists: Lists) -> tuple[Any, ...]:
        blocks = self.stored.blocks
        return (blocks.bounds, lists.starts, lists.entries), self.geometry, blocks.species

    def _coordination(self) -> tuple[np.ndarray, int]:
        from mace_ft_bench.calculators.d3.kernels import count_neighbours  # noqa: PLC0415 - numba

        kernel: Any = count_neighbours

        lists = self.stored.counts
        parts, touching = np.zeros((len(lists.chunks), self.count)), np.zeros(len(lists.chunks))
        law = (self.constants.radii, self.settings.cn_cutoff / Bohr, self.per_width)

        def work(chunk: tuple[int, int], number: int) -> None:
            touching[number] = kernel(chunk, *self._arguments(lists), law, parts[number])

        self._run(lists, work)
        return parts.sum(axis=0), int(touching.sum())

    def _pairs(self, weights: np.ndarray) -> tuple[np.ndarray, ...]:
        from mace_ft_bench.calculators.d3.kernels import sum_pairs  # noqa: PLC0415 - numba

        law = (self.settings.damping in {"bj", "bjm"}, self.settings.cutoff / Bohr, self.per_width)
        table = self.constants.c6, self.constants.damping
        return self._sum(self.stored.pairs, sum_pairs, law, table, weights)

    def _triples(self, lists: Lists, weights: np.ndarray, sums: tuple[np.ndarray, ...]) -> None:
        from mace_ft_bench.calculators.d3.triples import sum_triples  # noqa: PLC0415 - numba

        law = (self.settings.cn_cutoff / Bohr,)
        added = self._sum(lists, sum_triples, law, (self.constants.c6, self.constants.squared_r0), weights)
        for total, part in zip(sums, added, strict=True):
            np.add(total, part, out=total)

    def _sum(self, lists: Lists, kernel: Any, law: Any, table: Any, weights: np.ndarray) -> tuple[np.ndarray, ...]:  # noqa: ANN401
        size, count = len(lists.chunks), self.count
        energies, back = np.zeros((size, count)), np.zeros((size, count))
        forces, virial = np.zeros((size, count, 3)), np.zeros((size, 3, 3))

        def work(chunk: tuple[int, int], number: int) -> None:
            results = energies[number], back[number], forces[number], virial[number]
            kernel(chunk, *self._arguments(lists), law, table, weights, results)

        self._run(lists, work)
        return energies.sum(axis=0), back.sum(axis=0), forces.sum(axis=0), virial.sum(axis=0)

    def _chain(self, back: np.ndarray, forces: np.ndarray, virial: np.ndarray) -> None:
        from mace_ft_bench.calculators.d3.kernels import chain_to_forces  # noqa: PLC0415 - numba

        kernel: Any = chain_to_forces

        lists = self.stored.counts
        law = (self.constants.radii, self.settings.cn_cutoff / Bohr, self.per_width)
        parts, virials = np.zeros((len(lists.chunks), self.count, 3)), np.zeros((len(lists.chunks), 3, 3))

        def work(chunk: tuple[int, int], number: int) -> None:
            kernel(chunk, *self._arguments(lists), law, back, parts[number], virials[number])

        self._run(lists, work)
        forces += parts.sum(axis=0)
        virial += virials.sum(axis=0)
