"""Training of the readouts alone, on features that are computed once.

Where everything below the readouts is frozen, the scalar features h of an atom and their derivatives J with respect to
positions and strain are constants of a frame. Energies are functions of h, forces and stresses are dE/dh times J, and
torch differentiates both with respect to the weights of the readouts: the gradients are those of the whole model, at
the price of one product of a vector and a matrix per frame. The derivatives are central differences of the features
of the fused kernel, 6 N + 12 forward passes for a frame of N atoms.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mace_ft_bench.calculators.graph import Graph
from mace_ft_bench.finetune.fused_gradients import FusedGradients, graph_of
from mace_ft_bench.finetune.graphs import batches
from mace_ft_bench.finetune.trained_readouts import TrainedReadouts
from mace_ft_bench.torch_env import default_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mace_ft_bench.finetune.engines import Predict
    from mace_ft_bench.finetune.fused_gradients import FusedStep
    from mace_ft_bench.finetune.objective import Loss

_STEP = 3e-5
"""Displacement of an atom in the central differences [Angstrom]."""
_STRAIN_STEP = 6e-6
_INTERVALS = 512
"""Of the radial tables, which are made once only."""
_ATOMS_AT_ONCE = 400
"""Displaced copies of a frame that one forward pass takes have about so many atoms."""
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_NUMBER = "cached"
"""Entry of a graph that says which cached frame it is."""


@dataclass(frozen=True)
class _Backbone:
    """What the frozen part makes of one frame of N atoms."""

    species: np.ndarray
    scalars: list[torch.Tensor]
    """Of every layer (N, C)."""
    derivatives: list[torch.Tensor]
    """Of every layer (N C, 3 N + 6), by Cartesian coordinate and by strain in Voigt order; summed over the atoms,
    (C, 3 N + 6), where the readout is linear and its slope the same for all."""
    volume: float
    """[Angstrom^3]; infinite without a cell."""
    rest: dict[str, torch.Tensor]
    """Energy, forces and stress that do not come from the readouts: the pair repulsion."""


def cached_bytes(model: Any, sizes: Sequence[int]) -> int:  # noqa: ANN401 - a ScaleShiftMACE
    """Return the memory that the derivatives of frames of so many atoms take."""
    layers = list(zip(_channels(model), _linear(model), strict=True))
    numbers = (sum(width * (1 if flat else size) for width, flat in layers) * (3 * size + 6) for size in sizes)
    return 8 * sum(numbers)


class CachedEngine:
    """Losses, gradients and predictions of a model of which only the readouts are trained.

    Parameters
    ----------
    model
        A ``ScaleShiftMACE`` in double precision on the CPU that the fused kernel knows.
    graphs
        All frames that will be trained or validated on; they are numbered.
    on_kept
        Called after every frame with the numbers of frames done and in all.
    """

    name = "cached"

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - a ScaleShiftMACE
        graphs: Sequence[Any],
        on_kept: Callable[[int, int], None] | None = None,
    ) -> None:
        self._model = model
        step = FusedGradients(model, intervals=_INTERVALS).step()
        self._backbones = []
        for number, graph in enumerate(graphs):
            graph[_NUMBER] = torch.tensor([number])
            self._backbones.append(_backbone(model, step, next(batches([graph], 1))))
            if on_kept:
                on_kept(number + 1, len(graphs))

    def backward(self, batch: Any, loss: Loss) -> float:  # noqa: ANN401 - a mace batch
        """Set the gradients of the trained parameters and return the loss."""
        value = loss(batch, self._predict(batch))
        value.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        return float(value.detach())

    @contextlib.contextmanager
    def predicting(self) -> Iterator[Predict]:
        """Predict without gradients of parameters."""
        yield lambda batch: {name: values.detach() for name, values in self._predict(batch).items()}

    def _predict(self, batch: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401 - a mace batch
        frames = [self._backbones[number] for number in batch[_NUMBER].tolist()]
        return _predict(self._model, frames, batch.head)


def _predict(model: Any, frames: Sequence[_Backbone], heads: torch.Tensor) -> dict[str, torch.Tensor]:  # noqa: ANN401 - a ScaleShiftMACE
    """Return energies (B,), forces (N, 3) and stresses (B, 3, 3), as functions of the weights of the readouts."""
    sizes = [len(frame.species) for frame in frames]
    structure = torch.repeat_interleave(torch.arange(len(frames)), torch.tensor(sizes))
    joined = zip(*(frame.scalars for frame in frames), strict=True)
    scalars = [torch.cat(layer).requires_grad_() for layer in joined]
    with default_dtype(torch.float64):
        readouts = TrainedReadouts(model, heads[structure])
        sites = readouts.energies(scalars, np.concatenate([frame.species for frame in frames]))
    energies = torch.zeros(len(frames), dtype=torch.float64).index_add(0, structure, sites)
    slopes = torch.autograd.grad(sites.sum(), scalars, create_graph=True)
    split = zip(*(torch.split(slope, sizes) for slope in slopes), strict=True)
    changes = [_along(own, frame.derivatives) for own, frame in zip(split, frames, strict=True)]
    forces = [frame.rest["forces"] - change[:-6].reshape(-1, 3) for change, frame in zip(changes, frames, strict=True)]
    stress = [
        frame.rest["stress"] + _matrix(change[-6:]) / frame.volume
        for change, frame in zip(changes, frames, strict=True)
    ]
    rest = torch.cat([frame.rest["energy"] for frame in frames])
    return {"energy": energies + rest, "forces": torch.cat(forces), "stress": torch.cat(stress)}


def _along(slopes: Sequence[torch.Tensor], derivatives: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the derivative of a frame's energy with respect to positions and strain (3 N + 6,)."""
    parts = [
        slope.reshape(-1)[: len(derivative)] @ derivative for slope, derivative in zip(slopes, derivatives, strict=True)
    ]
    return torch.stack(parts).sum(dim=0)


def _matrix(voigt: torch.Tensor) -> torch.Tensor:
    """Return the symmetric matrix (1, 3, 3) of six components."""
    return voigt[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(1, 3, 3)


def _backbone(model: Any, step: FusedStep, batch: Any) -> _Backbone:  # noqa: ANN401 - mace's types
    graph = graph_of(batch)
    scalars = [torch.from_numpy(layer) for layer in step.scalars(graph)]
    volume = abs(float(np.linalg.det(graph.cells[0])))
    zero = {"energy": torch.zeros(1), "forces": torch.zeros(len(graph.species), 3), "stress": torch.zeros(1, 3, 3)}
    found = _Backbone(
        graph.species,
        scalars,
        _derivatives(model, step, graph),
        volume or np.inf,
        {k: v.double() for k, v in zero.items()},
    )
    if not step.repels:
        return found
    whole, known = step.predict(batch), _predict(model, [found], batch.head)
    found.rest.update({name: (whole[name] - known[name]).detach() for name in found.rest})
    return found


def _derivatives(model: Any, step: FusedStep, graph: Graph) -> list[torch.Tensor]:  # noqa: ANN401 - a ScaleShiftMACE
    """Return the derivatives of the scalar features of every layer, as :class:`_Backbone` holds them."""
    atoms, directions = len(graph.species), 3 * len(graph.species) + 6
    at_once = max(1, _ATOMS_AT_ONCE // atoms)
    columns: list[list[np.ndarray]] = [[] for _ in model.products]
    for start in range(0, directions, at_once):
        chosen = range(start, min(start + at_once, directions))
        sides = [step.scalars(_copies(graph, chosen, sign)) for sign in (1.0, -1.0)]
        steps = np.array([_STEP if number < 3 * atoms else _STRAIN_STEP for number in chosen])
        for layer, (up, down, flat) in enumerate(zip(*sides, _linear(model), strict=True)):
            slope = (up - down).reshape(len(chosen), atoms, -1) / (2 * steps)[:, None, None]
            columns[layer].append(slope.sum(axis=1) if flat else slope.reshape(len(chosen), -1))
    return [torch.from_numpy(np.ascontiguousarray(np.concatenate(layer).T)) for layer in columns]


def _copies(graph: Graph, directions: Sequence[int], sign: float) -> Graph:
    """Return copies of a graph, each displaced in one direction: a coordinate of an atom, or a strain."""
    atoms, count = len(graph.species), len(directions)
    positions = np.repeat(graph.positions[None], count, axis=0)
    cells = np.repeat(graph.cells, count, axis=0)
    for copy, number in enumerate(directions):
        if number < 3 * atoms:
            positions[copy, number // 3, number % 3] += sign * _STEP
        else:
            i, j = _VOIGT[number - 3 * atoms]
            strain = np.zeros((3, 3))
            strain[i, j] += sign * _STRAIN_STEP / 2
            strain[j, i] += sign * _STRAIN_STEP / 2
            positions[copy] += graph.positions @ strain
            cells[copy] += graph.cells[0] @ strain
    offsets = np.arange(count)[:, None]
    pairs = len(graph.sender)
    first = graph.first_pair[:-1] + pairs * offsets
    return Graph(
        positions=positions.reshape(-1, 3),
        cells=cells,
        structure=np.repeat(np.arange(count), atoms),
        species=np.tile(graph.species, count),
        first_pair=np.append(first.reshape(-1), count * pairs),
        sender=(graph.sender + atoms * offsets.astype(np.int32)).reshape(-1),
        shift=np.tile(graph.shift, (count, 1)),
    )


def _linear(model: Any) -> list[bool]:  # noqa: ANN401 - a ScaleShiftMACE
    """Return for every layer whether its readout is linear."""
    return [type(readout).__name__ == "LinearReadoutBlock" for readout in model.readouts]


def _channels(model: Any) -> list[int]:  # noqa: ANN401 - a ScaleShiftMACE
    """Return for every layer the number of scalar features."""
    return [block.linear.irreps_out.count("0e") for block in model.products]
