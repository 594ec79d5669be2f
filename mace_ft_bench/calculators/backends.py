"""The ways to evaluate a MACE model: mace's own modules, those with cuEquivariance, and the fused kernel."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from mace_ft_bench.calculators.structure_checks import refuse_overlap
from mace_ft_bench.errors import AccelerationError
from mace_ft_bench.torch_env import default_dtype, mace_environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_ft_bench.calculators.graph import Graph


@dataclass(frozen=True)
class Output:
    """Results in double precision, whatever the dtype of the model."""

    energies: np.ndarray
    """Site energies [eV] (N,)."""
    forces: np.ndarray
    """[eV/Angstrom] (N, 3)."""
    virials: np.ndarray
    """dE/dstrain of every structure [eV] (B, 3, 3)."""


class Backend(Protocol):
    """Something that evaluates a model."""

    name: str

    def evaluate(self, graph: Graph) -> Output:
        """Return energies, forces and virials.

        Raises
        ------
        StructureError
            If two atoms lie on each other.
        """


class TorchBackend:
    """A ``ScaleShiftMACE`` through torch and its autograd.

    Parameters
    ----------
    name
        ``e3nn`` or ``cueq``.
    model
        The model, on its device and in its dtype.
    head
        Index of the head.
    """

    def __init__(self, name: str, model: Any, head: int) -> None:  # noqa: ANN401 - a ScaleShiftMACE
        self.name = name
        self._model = model
        self._head = head
        self._cutoff = float(model.r_max)
        self._elements = np.eye(len(model.atomic_numbers))
        parameter = next(model.parameters())
        self._dtype, self._device = parameter.dtype, parameter.device

    def evaluate(self, graph: Graph) -> Output:
        """Return energies, forces and virials."""
        output = self._model(self._batch(graph), compute_force=True, compute_stress=True)
        return Output(
            energies=_array(output["node_energy"]),
            forces=_array(output["forces"]),
            virials=-_array(output["virials"]).reshape(-1, 3, 3),
        )

    def _batch(self, graph: Graph) -> dict[str, torch.Tensor]:
        receiver = np.repeat(np.arange(len(graph.positions)), np.diff(graph.first_pair))
        shifts = -np.einsum("pa,pab->pb", graph.shift, graph.cells[graph.structure[receiver]])
        distances = np.linalg.norm(graph.positions[receiver] - graph.positions[graph.sender] + shifts, axis=1)
        refuse_overlap(graph, float(distances.min(initial=np.inf)))
        kept = np.flatnonzero(distances < self._cutoff)
        real = {
            "positions": graph.positions,
            "node_attrs": self._elements[graph.species],
            "shifts": shifts[kept],
            "unit_shifts": -graph.shift[kept],
            "cell": graph.cells.reshape(-1, 3),
        }
        index = {
            "edge_index": np.stack([graph.sender[kept], receiver[kept]]),
            "batch": graph.structure,
            "ptr": np.concatenate([[0], np.cumsum(graph.sizes)]),
            "head": np.full(len(graph.cells), self._head),
        }
        tensors = {key: torch.as_tensor(value, dtype=self._dtype, device=self._device) for key, value in real.items()}
        integers = {key: torch.as_tensor(value, dtype=torch.int64, device=self._device) for key, value in index.items()}
        return tensors | integers


class FusedBackend:
    """The compiled loops of :mod:`mace_ft_bench.calculators.fused`, on the CPU."""

    name = "fused"

    def __init__(self, model: Any, head: int) -> None:  # noqa: ANN401 - a ScaleShiftMACE
        from mace_ft_bench.calculators.fused.model import FusedModel  # noqa: PLC0415 - imports numba

        self._model = FusedModel.of(model, head)

    def evaluate(self, graph: Graph) -> Output:
        """Return energies, forces and virials."""
        result = self._model.evaluate(graph)
        return Output(result.energies, result.forces, result.virials)


def _array(tensor: torch.Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy().astype(np.float64)
    return array


def build_e3nn(model: Any, head: int) -> Backend:  # noqa: ANN401 - a ScaleShiftMACE
    """Return the plain path: the reference of every other one."""
    return TorchBackend("e3nn", model, head)


def build_cueq(model: Any, head: int) -> Backend:  # noqa: ANN401 - a ScaleShiftMACE
    """Return the model with cuEquivariance's tensor products.

    Raises
    ------
    AccelerationError
        If the model cannot be converted.
    """
    parameter = next(model.parameters())
    with mace_environment(), default_dtype(parameter.dtype), _silence():
        from mace.cli.convert_e3nn_cueq import run  # noqa: PLC0415 - imports cuequivariance

        try:
            converted = run(copy.deepcopy(model), device=str(parameter.device))
        except (
            Exception
        ) as error:  # the conversion of somebody else can fail in any way; the caller falls back or says so
            raise AccelerationError(
                f"cuEquivariance cannot be used for this model: {error!r}.", fix='use accelerate="off" or "auto".'
            ) from error
    return TorchBackend("cueq", converted.to(parameter.device).eval().requires_grad_(requires_grad=False), head)


def build_fused(model: Any, head: int) -> Backend:  # noqa: ANN401 - a ScaleShiftMACE
    """Return the fused kernel.

    Raises
    ------
    AccelerationError
        If the model lies on a GPU, or has parts that the kernel does not know.
    """
    from mace_ft_bench.calculators.fused.tables import refusal  # noqa: PLC0415 - imports scipy's interpolation

    device = next(model.parameters()).device
    reason = "it runs on the CPU only" if device.type != "cpu" else refusal(model)
    if reason:
        raise AccelerationError(
            f"The fused kernel cannot serve this model: {reason}.", fix='use accelerate="off" or "auto".'
        )
    return FusedBackend(model, head)


BUILDERS: dict[str, Callable[[Any, int], Backend]] = {"e3nn": build_e3nn, "cueq": build_cueq, "fused": build_fused}


@contextlib.contextmanager
def _silence() -> Any:  # noqa: ANN401 - a generator
    """Keep mace's conversion from printing and logging."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.INFO))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
