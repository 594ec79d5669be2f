"""A MACE model evaluated by the fused kernel: energies, forces and virial without autograd."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from mace_ft_bench.calculators.fused import kernels
from mace_ft_bench.calculators.fused.radials import Radials
from mace_ft_bench.calculators.fused.readouts import Readouts
from mace_ft_bench.calculators.fused.repulsion import Repulsion, read_repulsion
from mace_ft_bench.calculators.fused.tables import Tables, read_tables
from mace_ft_bench.calculators.structure_checks import refuse_overlap
from mace_ft_bench.calculators.threads import pool, thread_count

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_ft_bench.calculators.fused.radials import RadialTable
    from mace_ft_bench.calculators.fused.tables import Layer
    from mace_ft_bench.calculators.graph import Graph

_ATOMS_PER_THREAD = 12
"""Fewer atoms than this are not worth waking another thread for."""
_MOST_THREADS = 16
"""Every thread has accumulators of its own, so more would cost memory."""


@dataclass(frozen=True)
class FusedResult:
    """Site energies [eV] (N,), forces [eV/Angstrom] (N, 3) and dE/dstrain [eV] (B, 3, 3) of B structures."""

    energies: np.ndarray
    forces: np.ndarray
    virials: np.ndarray


class Pairs(NamedTuple):
    """Pairs within the cutoff: those of atom i are ``first_pair[i]`` and the ``active[i] - 1`` that follow."""

    first_pair: np.ndarray
    active: np.ndarray
    neighbour: np.ndarray
    unit: np.ndarray
    """From the neighbour to the atom, (P, 3)."""
    length: np.ndarray
    harmonics: np.ndarray


class Trace(NamedTuple):
    """What the forward pass leaves for the backward pass, per layer."""

    radials: list[RadialTable]
    sent: list[tuple[np.ndarray, np.ndarray]]
    """What atoms send (rows, H, C), and the row of each atom."""
    messages: list[np.ndarray]
    hidden: list[np.ndarray]
    shares: list[np.ndarray]
    """What messages were multiplied by (N,); empty where they were not."""
    unmixed: list[np.ndarray]
    """Messages before they are mixed (N, R, C); empty unless kept."""
    products: list[np.ndarray]
    """Contracted messages (N, H, C); empty unless kept."""


class SiteEnergies(Protocol):
    """The readouts."""

    def evaluate(self, hidden: list[np.ndarray], species: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return site energies [eV] (N,) in float64, and dE/dhidden of every layer."""


class FusedModel:
    """The compiled form of a ``ScaleShiftMACE``.

    Parameters
    ----------
    tables
        Its weights.
    readouts
        Its readouts.
    repulsion
        Its pair repulsion.
    """

    def __init__(self, tables: Tables, readouts: SiteEnergies, repulsion: Repulsion | None) -> None:
        self.tables = tables
        self.readouts = readouts
        self.repulsion = repulsion
        self.dtype = tables.embedding.dtype

    @classmethod
    def of(cls, model: Any, head: int) -> FusedModel:  # noqa: ANN401 - a ScaleShiftMACE
        """Compile a head of a model that :func:`mace_ft_bench.calculators.fused.tables.refusal` accepts, on the CPU."""
        readouts = Readouts(model, head)
        return cls(read_tables(model), readouts, read_repulsion(model, readouts.scale))

    def evaluate(self, graph: Graph) -> FusedResult:
        """Return energies, forces and virials."""
        crew = Crew(len(graph.positions))
        pairs, shortest = self.geometry(crew, graph)
        refuse_overlap(graph, shortest)
        radials = self._radials(crew, graph.species, pairs)
        trace = self.forward(crew, graph.species, pairs, radials)
        energies, gradients = self.readouts.evaluate(trace.hidden, graph.species)
        pair_gradients = self._backward(crew, graph.species, pairs, trace, gradients)
        if self.repulsion is not None:
            crew.run(kernels.pair_repulsion, graph.species, pairs, self.repulsion, energies, pair_gradients[1])
        forces = np.zeros((crew.size, *graph.positions.shape))
        virials = np.zeros((crew.size, *graph.cells.shape))
        arrays = (graph.structure, pairs, self.tables.lift, *pair_gradients)
        crew.run(kernels.pair_forces, *arrays, own=(forces, virials))
        total = virials.sum(axis=0)
        # As mace does: rounded coefficients (see tables) cost a model the last digits of its invariance under rotation.
        return FusedResult(energies, forces.sum(axis=0), (total + total.transpose(0, 2, 1)) / 2)

    def geometry(self, crew: Crew, graph: Graph) -> tuple[Pairs, float]:
        """Return the pairs within the cutoff, and the shortest distance [Angstrom]."""
        count = len(graph.sender)
        pairs = Pairs(
            graph.first_pair,
            active=np.empty(len(graph.positions), np.int64),
            neighbour=np.empty(count, np.int64),
            unit=np.empty((count, 3), self.dtype),
            length=np.empty(count, self.dtype),
            harmonics=np.empty((count, self.tables.components), self.dtype),
        )
        searched = (graph.first_pair, graph.sender, graph.shift, self.tables.lift, *pairs[1:])
        where = (graph.positions, graph.structure, graph.cells, self.tables.cutoff)
        return pairs, min(crew.run(kernels.pair_geometry, *where, *searched))

    def _radials(self, crew: Crew, species: np.ndarray, pairs: Pairs) -> list[RadialTable]:
        """Return the radial tables of every layer; they cover the pairs of elements of this structure."""
        radials = self.tables.radials
        if isinstance(radials, Radials) and radials.by_pair:
            known = radials.known
            missing = np.zeros_like(known)
            arrays = (species, pairs.first_pair, pairs.active, pairs.neighbour, known, missing)
            crew.run(kernels.mark_pairs, *arrays)
            radials.add(np.argwhere(missing))
        return radials.layers

    def forward(
        self, crew: Crew, species: np.ndarray, pairs: Pairs, radials: list[RadialTable], *, keep: bool = False
    ) -> Trace:
        """Return messages and features of all layers; with ``keep`` also what the gradients of weights need."""
        trace = Trace(radials, [], [], [], [], [], [])
        before = self.tables.embedding[species]
        rows = species
        for layer, radial in zip(self.tables.layers, radials, strict=True):
            # What is sent in the first layer depends on the element only.
            source = trace.hidden[-1] if trace.hidden else self.tables.embedding
            trace.sent.append((_send(crew, layer, source), rows))
            atoms, channels = len(species), before.shape[2]
            trace.messages.append(np.empty((atoms, layer.size, channels), self.dtype))
            trace.hidden.append(np.empty((atoms, layer.hidden, channels), self.dtype))
            trace.shares.append(np.empty(atoms if layer.density else 0, self.dtype))
            kept = atoms if keep else 0
            trace.unmixed.append(np.empty((kept, layer.mixing.target.size, channels), self.dtype))
            trace.products.append(np.empty((kept, layer.hidden, channels), self.dtype))
            weights = (radial, layer.links, layer.mixing, layer.product, layer.skip)
            written = (trace.messages, trace.hidden, trace.shares, trace.unmixed, trace.products)
            arrays = (*trace.sent[-1], before, *(item[-1] for item in written))
            crew.run(kernels.layer_forward, species, pairs, *weights, *arrays)
            before, rows = trace.hidden[-1], np.arange(len(species))
        return trace

    def _backward(
        self, crew: Crew, species: np.ndarray, pairs: Pairs, trace: Trace, gradients: list[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the gradients with respect to the harmonics and the lengths of the pairs."""
        of_pairs = (np.zeros_like(pairs.harmonics), np.zeros_like(pairs.length))
        for index in reversed(range(len(self.tables.layers))):
            layer, features = self.tables.layers[index], trace.sent[index][0]
            below = gradients[index - 1] if index else np.zeros((len(species), *features.shape[1:]), self.dtype)
            of_sent = np.zeros((crew.size, *features.shape) if index else (crew.size, 0, 1, 1), self.dtype)
            weights = (trace.radials[index], layer.links, layer.mixing_back, layer.product_back, layer.skip_back)
            traced = (*trace.sent[index], trace.messages[index], trace.shares[index])
            arrays = (*traced, gradients[index], below, *of_pairs)
            crew.run(kernels.layer_backward, species, pairs, *weights, *arrays, own=(of_sent,))
            if index:
                crew.run(kernels.send_back, of_sent, layer.up_back.matrices, layer.up_back.block, below)
        return of_pairs


def _send(crew: Crew, layer: Layer, features: np.ndarray) -> np.ndarray:
    sent = np.empty_like(features)
    arrays = (features, layer.up.matrices, layer.up.block, sent)
    (crew if crew.count == len(features) else Crew(len(features))).run(kernels.send, *arrays)
    return sent


class Crew:
    """Threads that share the atoms ``0 <= i < count``."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.size = max(1, min(thread_count(), _MOST_THREADS, count // _ATOMS_PER_THREAD))
        edges = np.linspace(0, count, self.size + 1).astype(int).tolist()
        self.ranges = list(pairwise(edges))

    def run(self, kernel: Callable[..., Any], *arrays: Any, own: tuple[np.ndarray, ...] = ()) -> list[Any]:  # noqa: ANN401
        """Call ``kernel(start, stop, *arrays, *own)`` for every range; each gets its own row of ``own``."""
        calls = [(*span, *arrays, *(array[index] for array in own)) for index, span in enumerate(self.ranges)]
        others = [pool(self.size).submit(kernel, *call) for call in calls[1:]]
        return [kernel(*calls[0]), *(item.result() for item in others)]
