"""Gradients of a loss on energies, forces and stresses, through the fused kernel instead of torch's autograd.

With u = dL/dF, s = dL/dstress and a = dL/dE, the chain rule asks for second derivatives of the energy:

    dL/dw = a dE/dw - u . d(dE/dx)/dw + (s / V) . d(dE/dstrain)/dw

The last two terms are the derivative of dE/dw along one direction of positions and strain, and a central difference of
it needs first derivatives only, which the kernel has (doi 10.1162/neco.1994.6.1.147 does this for Hessian-vector
products). In double precision the difference is good to seven digits or so. The weights of the kernel are functions
of those of the model, which torch differentiates: they are small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.interpolate import make_interp_spline

from mace_ft_bench.calculators.fused import gradient_kernels, kernels
from mace_ft_bench.calculators.fused.model import Crew, FusedModel
from mace_ft_bench.calculators.fused.radials import LOWEST, FixedRadials, RadialTable
from mace_ft_bench.calculators.fused.repulsion import read_repulsion
from mace_ft_bench.calculators.fused.tables import make_tables, read_patterns, read_weights, refusal
from mace_ft_bench.calculators.graph import Graph
from mace_ft_bench.finetune.trained_readouts import TrainedReadouts
from mace_ft_bench.torch_env import default_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_ft_bench.calculators.fused.model import Pairs, Trace
    from mace_ft_bench.calculators.fused.repulsion import Repulsion
    from mace_ft_bench.calculators.fused.tables import Mixing, Tables, Weights

_INTERVALS = 192
"""Of the radial tables; errors fall with the sixth power."""
_STEP = 2e-4
"""Largest displacement of an atom in the central difference [Angstrom]; a strain counts as one of an atom 5 A away."""
_ARM = 5.0
"""[Angstrom]."""


def fused_training_refusal(model: Any) -> str | None:  # noqa: ANN401 - a ScaleShiftMACE
    """Return why a model cannot be trained through the fused kernel, or None if it can."""
    reason = refusal(model)
    if reason:
        return reason
    if hasattr(model.radial_embedding, "distance_transform"):
        return "radial functions that depend on the elements"
    if any("Density" in type(block).__name__ for block in model.interactions):
        return "messages divided by a density"
    if len(set(model.scale_shift.scale.reshape(-1).tolist())) > 1:
        return "heads of different scale"
    return None


class TrainingRadials:
    """The radial functions as tables that torch can differentiate; their basis is not trained.

    Parameters
    ----------
    model
        In double precision.
    intervals
        Of the tables.
    """

    def __init__(self, model: Any, intervals: int) -> None:  # noqa: ANN401 - a ScaleShiftMACE
        self._networks = [block.conv_tp_weights for block in model.interactions]
        self._elements = len(model.atomic_numbers)
        roots = np.linspace(LOWEST**0.5, float(model.r_max) ** 0.5, intervals + 1)
        self._lowest, self._spacing = float(roots[0]), float(roots[1] - roots[0])
        basis = torch.eye(self._elements, dtype=torch.float64)
        edges = torch.tensor([[0], [0]]).expand(2, len(roots))
        with torch.no_grad():
            distances = torch.from_numpy(roots**2)[:, None]
            self._features, envelope = model.radial_embedding(distances, basis, edges, model.atomic_numbers)
        self._envelope = torch.ones(1, dtype=torch.float64) if envelope is None else envelope
        spline = make_interp_spline(roots, np.eye(len(roots)), k=5)
        orders = [spline(roots, order) * self._spacing**order for order in (1, 2)]
        for order in orders:
            order[-1] = 0  # as the envelope's
        self._to_rows = torch.from_numpy(np.stack([np.eye(len(roots)), *orders], axis=1))

    def rows(self) -> list[torch.Tensor]:
        """Return the rows of every layer's table (3 (knots + 1), functions)."""
        found = []
        for network in self._networks:
            values = network(self._features) * self._envelope
            rows = torch.einsum("rok,kf->rof", self._to_rows, values).reshape(-1, values.shape[1])
            found.append(torch.cat([rows, torch.zeros(3, values.shape[1], dtype=torch.float64)]))
        return found

    def tables(self, rows: Sequence[torch.Tensor]) -> FixedRadials:
        """Return the rows as the kernels take them."""
        one = np.zeros((self._elements, self._elements), np.int64)
        first, spacing = np.zeros(1, np.int64), np.array([self._spacing])
        return FixedRadials([RadialTable(self._lowest, one, first, spacing, _array(item)) for item in rows])


@dataclass(frozen=True)
class Direction:
    """What a loss asks of a batch: its derivatives with respect to the results."""

    energies: np.ndarray
    """dL/dE (B,)."""
    forces: np.ndarray
    """dL/dF (N, 3)."""
    strains: np.ndarray
    """dL/dstress over the volume (B, 3, 3)."""


class FusedGradients:
    """Energies, forces and stresses of a model, and the gradients of a loss on them.

    Parameters
    ----------
    model
        A ``ScaleShiftMACE`` in double precision on the CPU, without a :func:`fused_training_refusal`.
    intervals
        Of the radial tables.
    """

    def __init__(self, model: Any, *, intervals: int = _INTERVALS) -> None:  # noqa: ANN401 - a ScaleShiftMACE
        self._model = model
        with default_dtype(torch.float64), torch.no_grad():
            self._patterns = read_patterns(model)
            self._radials = TrainingRadials(model, intervals)
        self._repulsion = read_repulsion(model, float(model.scale_shift.scale.reshape(-1)[0]))

    def step(self) -> FusedStep:
        """Return what belongs to the present weights of the model."""
        with default_dtype(torch.float64):
            weights, rows = read_weights(self._model, self._patterns), self._radials.rows()
        tables = make_tables(self._model, self._patterns, weights, self._radials.tables(rows))
        return FusedStep(self._model, tables, self._repulsion, weights, rows)


class FusedStep:
    """Results and gradients for one state of the weights; :meth:`FusedGradients.step` makes it."""

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - a ScaleShiftMACE
        tables: Tables,
        repulsion: Repulsion | None,
        weights: Weights,
        rows: list[torch.Tensor],
    ) -> None:
        self._model, self._tables, self._repulsion = model, tables, repulsion
        self._weights, self._rows = weights, rows
        self._radials = tables.radials.layers

    def predict(self, batch: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401 - a mace batch
        """Return energies, forces and stresses of a batch."""
        graph = graph_of(batch)
        result = self._fused(self._readouts(batch)).evaluate(graph)
        energies = np.bincount(graph.structure, result.energies, minlength=len(graph.cells))
        volumes = np.abs(np.linalg.det(graph.cells))
        stress = result.virials / np.where(volumes > 0, volumes, np.inf)[:, None, None]
        named = {"energy": energies, "forces": result.forces, "stress": stress}
        return {name: torch.from_numpy(values) for name, values in named.items()}

    def scalars(self, graph: Graph) -> list[np.ndarray]:
        """Return the scalar features (N, C) of every layer."""
        fused = self._fused(TrainedReadouts(self._model, torch.zeros(len(graph.species), dtype=torch.int64)))
        crew = Crew(len(graph.positions))
        pairs, _ = fused.geometry(crew, graph)
        trace = fused.forward(crew, graph.species, pairs, self._radials)
        return [features[:, 0].copy() for features in trace.hidden]

    @property
    def repels(self) -> bool:
        """Whether the model has a pair repulsion beside its readouts."""
        return self._repulsion is not None

    def _readouts(self, batch: Any) -> TrainedReadouts:  # noqa: ANN401 - a mace batch
        return TrainedReadouts(self._model, batch.head[batch.batch])

    def _fused(self, readouts: TrainedReadouts) -> FusedModel:
        return FusedModel(self._tables, readouts, self._repulsion)

    def backward(self, batch: Any, direction: Direction) -> None:  # noqa: ANN401 - a mace batch
        """Add the gradient of a loss to the gradients of the model's parameters."""
        readouts, graph = self._readouts(batch), graph_of(batch)
        total = _Sums(self._weights, self._rows)
        lengths = np.linalg.norm(direction.forces, axis=1)
        largest = np.zeros(len(graph.cells))
        np.maximum.at(largest, graph.structure, lengths)
        largest = np.maximum(largest, _ARM * np.abs(direction.strains).max(axis=(1, 2)))
        steps = _STEP / np.where(largest > 0, largest, 1.0)
        for sign in (1.0, -1.0):
            moved = _displaced(graph, direction, sign * steps)
            self._accumulate(readouts, moved, direction.energies / 2 + sign / (2 * steps), total)
        tensors, gradients = total.trained()
        if tensors:
            torch.autograd.backward(tensors, gradients)

    def _accumulate(self, readouts: TrainedReadouts, graph: Graph, factors: np.ndarray, total: _Sums) -> None:
        """Add the gradients of the sum of all energies, each times its factor."""
        fused = self._fused(readouts)
        crew = Crew(len(graph.positions))
        pairs, _ = fused.geometry(crew, graph)
        trace = fused.forward(crew, graph.species, pairs, self._radials, keep=True)
        gradients = readouts.backward(trace.hidden, graph.species, factors[graph.structure])
        if not total.any_trained:
            return
        for index in reversed(range(len(self._tables.layers))):
            below = gradients[index - 1] if index else np.zeros((len(graph.species), 1, trace.hidden[0].shape[2]))
            self._layer(crew, graph.species, pairs, trace, index, gradients[index], below, total)

    def _layer(  # noqa: PLR0913, PLR0917 - one call of a kernel needs all of it
        self,
        crew: Crew,
        species: np.ndarray,
        pairs: Pairs,
        trace: Trace,
        index: int,
        above: np.ndarray,
        below: np.ndarray,
        total: _Sums,
    ) -> None:
        layer, sent = self._tables.layers[index], trace.sent[index]
        messages, contracted = np.empty_like(trace.messages[index]), np.empty_like(trace.products[index])
        own = tuple(
            np.zeros((crew.size, *shape))
            for shape in (layer.product[1].shape, self._radials[index].rows.shape, sent[0].shape)
        )
        weights = (self._radials[index], layer.links, layer.mixing_back, layer.product_back, layer.skip_back)
        arrays = (*sent, trace.messages[index], above, below, messages, contracted)
        crew.run(gradient_kernels.layer_gradients, species, pairs, *weights, *arrays, own=own)
        of_product, of_rows, of_sent = (array.sum(axis=0) for array in own)
        source = trace.hidden[index - 1] if index else self._tables.embedding
        before = source if index else source[species]
        sums = total.layers[index]
        sums.product += of_product
        total.rows[index] += of_rows
        _add_outer(sums.mixing, trace.unmixed[index], messages, layer.mixing, species)
        _add_outer(sums.linear, trace.products[index], above, _identity(layer.product[4]), species)
        _add_outer(sums.skip, before, above, layer.skip, species)
        _add_outer(sums.up, source, of_sent, _identity(layer.up.block), species)
        if index:
            crew.run(kernels.send_back, of_sent[None], layer.up_back.matrices, layer.up_back.block, below)
        else:
            total.embedding += of_sent[:, 0] @ layer.up_back.matrices[layer.up.block[0]]
            np.add.at(total.embedding, species, below[:, 0])


class _Outer:
    """Where the components of a channel map come from and go to."""

    def __init__(self, block: np.ndarray, target: np.ndarray) -> None:
        self.block, self.target = block, target


def _identity(block: np.ndarray) -> _Outer:
    return _Outer(block, np.arange(len(block)))


def _add_outer(
    out: np.ndarray,
    inputs: np.ndarray,
    outputs: np.ndarray,
    mixing: _Outer | Mixing[np.ndarray],
    species: np.ndarray,
) -> None:
    """Add to channel matrices (..., B, C, C), by element where there are several, what inputs and outputs say."""
    by_element = out.ndim > 3 and len(out) > 1  # noqa: PLR2004 - blocks and two axes of channels
    matrices = out if out.ndim > 3 else out[None]  # noqa: PLR2004 - as above
    for element in np.unique(species) if by_element else [0]:
        mask = species == element if by_element else slice(None)
        for row, (block, target) in enumerate(zip(mixing.block, mixing.target, strict=True)):
            matrices[element, block] += inputs[mask, row].T @ outputs[mask, target]


class _LayerSums:
    """Gradients of the tables of one layer."""

    def __init__(self, weights: Any) -> None:  # noqa: ANN401 - LayerWeights
        self.up, self.mixing, self.linear, self.skip = (
            np.zeros(item.matrices.shape) for item in (weights.up, weights.mixing, weights.linear, weights.skip)
        )
        self.product = np.zeros(weights.product.shape)


class _Sums:
    """Gradients of the tables of the model."""

    def __init__(self, weights: Weights, rows: Sequence[torch.Tensor]) -> None:
        self._weights, self._rows = weights, rows
        self.embedding = np.zeros(weights.embedding.shape)
        self.layers = [_LayerSums(layer) for layer in weights.layers]
        self.rows = [np.zeros(item.shape) for item in rows]

    @property
    def any_trained(self) -> bool:
        """Whether anything but the readouts is trained."""
        return bool(self.trained()[0])

    def trained(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return the tables that depend on trained parameters, and their gradients."""
        found = [(self._weights.embedding, self.embedding), *zip(self._rows, self.rows, strict=True)]
        for weights, sums in zip(self._weights.layers, self.layers, strict=True):
            names = ("up", "mixing", "linear", "skip")
            found += [(getattr(weights, name).matrices, getattr(sums, name)) for name in names]
            found.append((weights.product, sums.product))
        trained = [(tensor, torch.from_numpy(gradient)) for tensor, gradient in found if tensor.requires_grad]
        return [tensor for tensor, _ in trained], [gradient for _, gradient in trained]


def graph_of(batch: Any) -> Graph:  # noqa: ANN401 - a mace batch
    """Return a batch of mace as the kernel takes it."""
    sender, receiver = batch.edge_index.numpy()
    order = np.argsort(receiver, kind="stable")
    count = len(batch.positions)
    return Graph(
        positions=batch.positions.detach().double().numpy(),
        cells=batch.cell.detach().double().numpy().reshape(-1, 3, 3),
        structure=batch.batch.numpy(),
        species=batch.node_attrs.argmax(dim=1).numpy(),
        first_pair=np.searchsorted(receiver[order], np.arange(count + 1)),
        sender=sender[order].astype(np.int32),
        shift=-batch.unit_shifts.numpy()[order].round().astype(np.int32),
    )


def _displaced(graph: Graph, direction: Direction, steps: np.ndarray) -> Graph:
    """Return the graph moved along minus dL/dF, and strained along dL/dstress, by so much per structure."""
    strain = np.eye(3) + steps[:, None, None] * direction.strains
    moved = graph.positions - steps[graph.structure, None] * direction.forces
    return Graph(
        positions=np.einsum("na,nab->nb", moved, strain[graph.structure]),
        cells=graph.cells @ strain,
        structure=graph.structure,
        species=graph.species,
        first_pair=graph.first_pair,
        sender=graph.sender,
        shift=graph.shift,
    )


def _array(tensor: torch.Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().numpy()
    return np.ascontiguousarray(array)
