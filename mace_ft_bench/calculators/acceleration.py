"""Take the fastest way to evaluate a model that reproduces the plain one on the user's own structure.

A faster way is compared with mace's plain modules on the first structure of every size class; one that differs is
logged and never used. Times are measured once and kept on disk, per model, device, dtype, size class, number of threads
and versions of the packages; the comparison is repeated in every process.
"""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_ft_bench.calculators.backends import BUILDERS, Backend, Output
from mace_ft_bench.calculators.batches import is_out_of_memory
from mace_ft_bench.calculators.timings import Timings
from mace_ft_bench.errors import AccelerationError, UnknownNameError, suggestion

if TYPE_CHECKING:
    from mace_ft_bench.calculators.graph import Graph

PLAIN = "e3nn"
ACCELERATORS = ("auto", "off", *BUILDERS)
"""What ``accelerate=`` takes: the fastest proven way, the plain one, or one by name."""
FASTER = ("fused", "cueq")
"""What ``auto`` times against the plain path: the first of these that can serve the model. On CPUs the fused kernel is
four times faster at least where it can be used, and cuEquivariance takes seconds to build for about the plain speed."""

_SAMPLES = 3
_SAMPLE_PAIRS = 3000
"""Candidate pairs of the structures of a batch on which ways are compared and timed: for a whole batch of the fused
kernel the plain path would take seconds and gigabytes."""
_ENOUGH_MS = 1000.0
"""A way that was timed for so long is not timed again: what is left of warming up is small."""
_CLASS_WIDTH = 4.0
_SHARE_OF_ENERGY = 0.01
"""Energies of atoms that nearly lie on each other are large, and right to fewer decimals."""

_log = logging.getLogger("mace_ft_bench")


@dataclass(frozen=True)
class Tolerance:
    """Largest difference from the plain path."""

    energy: float
    """[eV/atom]"""
    forces: float
    """[eV/Angstrom]"""
    virial: float
    """dE/dstrain [eV/atom]"""
    relative: float
    """Of the largest force and virial, and a hundredth of it of the largest energy; added to the absolute tolerances"""


TOLERANCES = {
    "float64": Tolerance(energy=1e-8, forces=1e-7, virial=1e-7, relative=1e-7),
    "float32": Tolerance(energy=1e-5, forces=1e-4, virial=1e-4, relative=1e-4),
}


def difference(output: Output, plain: Output, tolerance: Tolerance, sizes: np.ndarray) -> str | None:
    """Return what differs by more than the tolerance, or None; ``sizes`` are the atoms of every structure (B,)."""
    atoms = sizes[:, None, None]
    measured = {
        "energy per atom": (
            np.abs(output.energies - plain.energies),
            tolerance.energy,
            _SHARE_OF_ENERGY * np.abs(plain.energies).max(),
        ),
        "forces": (np.abs(output.forces - plain.forces), tolerance.forces, np.abs(plain.forces).max()),
        "virial per atom": (
            np.abs(output.virials - plain.virials) / atoms,
            tolerance.virial,
            (np.abs(plain.virials) / atoms).max(),
        ),
    }
    for what, (values, absolute, scale) in measured.items():
        limit = absolute + tolerance.relative * scale
        worst = float(values.max())
        if not worst <= limit:  # also for nan
            return f"{what} by {worst:.2g} (allowed {limit:.2g})"
    return None


class Acceleration:
    """Evaluates graphs by the plain path or by a faster one that proved itself.

    Parameters
    ----------
    model
        A ``ScaleShiftMACE`` on its device, in its dtype.
    head
        Index of the head.
    mode
        One of :data:`ACCELERATORS`.

    Raises
    ------
    UnknownNameError
        If the mode does not exist.
    AccelerationError
        If a way asked for by name cannot serve the model.
    """

    def __init__(self, model: Any, head: int, mode: str) -> None:  # noqa: ANN401 - a ScaleShiftMACE
        if mode not in ACCELERATORS:
            raise UnknownNameError(f'accelerate="{mode}" does not exist.', fix=suggestion(mode, ACCELERATORS))
        self.mode = PLAIN if mode == "off" else mode
        self._model = model
        self._head = head
        self._built: dict[str, Backend | None] = {}
        self._failed: set[str] = set()
        self._chosen: dict[tuple[int, frozenset[int]], Backend] = {}
        self._proofs: dict[tuple[int, str], set[tuple[int, int]]] = {}
        """By size class and way the pairs of elements, as indices in the model, on which it was compared."""
        self._dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
        self.used = ""
        """Name of the way that served the last call."""
        if self.mode != "auto":
            self._build(self.mode, required=True)

    def evaluate(self, graph: Graph) -> Output:
        """Return energies, forces and virials.

        Raises
        ------
        AccelerationError
            If a way asked for by name differs from the plain one.
        StructureError
            If two atoms lie on each other.
        """
        situation = (size_class(len(graph.positions)), frozenset(graph.species.tolist()))
        backend = self._chosen.get(situation) or self._known(graph, situation) or self._choose(graph, situation)
        self.used = backend.name
        return backend.evaluate(graph)

    def _known(self, graph: Graph, situation: tuple[int, frozenset[int]]) -> Backend | None:
        """Return the way that serves this size class, compared on pairs of elements that it was not compared on yet.

        Many sets of elements share pairs. Of a batch those structures are compared that have the new ones.
        """
        name = next((name for size, name in self._proofs if size == situation[0]), None)
        backend = self._built.get(name) if name else None
        if name is None or backend is None:
            return None
        new = graph.element_pairs() - self._proofs[situation[0], name]
        if new and name != PLAIN:
            part = graph.showing(new)
            expected = BUILDERS[PLAIN](self._model, self._head).evaluate(part)
            if self._proven(name, part, expected, required=self.mode != "auto") is None:
                return None
        self._proofs[situation[0], name] |= new
        self._chosen[situation] = backend
        return backend

    def _choose(self, graph: Graph, situation: tuple[int, frozenset[int]]) -> Backend:
        plain = BUILDERS[PLAIN](self._model, self._head)
        if self.mode == PLAIN:
            return plain
        sample = graph.sample(_SAMPLE_PAIRS)
        start = perf_counter()
        expected = plain.evaluate(sample)
        plain_ms = 1000 * (perf_counter() - start)
        if not expected.virials.any():  # no atom sees another: this structure proves nothing
            return plain
        backend = self._fastest(plain, sample, expected, situation[0], plain_ms)
        self._chosen[situation] = backend
        self._proofs.setdefault((situation[0], backend.name), set()).update(graph.element_pairs())
        return backend

    def _fastest(self, plain: Backend, graph: Graph, expected: Output, size: int, plain_ms: float) -> Backend:
        if self.mode != "auto":
            return self._proven(self.mode, graph, expected, required=True) or plain
        timings = Timings(self._key(size))
        if timings.known:
            candidates = (self._proven(name, graph, expected) for name in timings.fastest_first())
            return next((backend for backend in candidates if backend is not None), plain)
        proven = [plain]
        for name in FASTER:
            if (backend := self._proven(name, graph, expected)) is not None:
                proven.append(backend)
                break
        times = {backend.name: _median_ms(backend, graph) for backend in proven[1:]}
        times[PLAIN] = plain_ms if plain_ms > _ENOUGH_MS else _median_ms(plain, graph)
        timings.store(times, keep=not self._failed)  # one structure that fails must not slow later processes down
        return next(backend for name in timings.fastest_first() for backend in proven if backend.name == name)

    def _proven(self, name: str, graph: Graph, expected: Output, *, required: bool = False) -> Backend | None:
        """Return a way that reproduces the plain path on this structure, else None, or raise if it is required."""
        backend = self._build(name, required=required)
        if backend is None or name == PLAIN:
            return backend
        differs = probe(backend, graph, expected, TOLERANCES[self._dtype])
        if differs is None:
            return backend
        message = f'"{name}" is not used: on this structure it differs from the plain path in {differs}.'
        if required:
            raise AccelerationError(message, fix='use accelerate="auto" or "off".')
        _log.warning("%s", message)
        self._built[name] = None
        self._failed.add(name)
        self._chosen = {key: chosen for key, chosen in self._chosen.items() if chosen.name != name}
        self._proofs = {key: pairs for key, pairs in self._proofs.items() if key[1] != name}
        return None

    def _build(self, name: str, *, required: bool = False) -> Backend | None:
        if name not in self._built:
            try:
                self._built[name] = BUILDERS[name](self._model, self._head)
            except AccelerationError as error:
                if required:
                    raise
                _log.info("%s", error.message)
                self._built[name] = None
        return self._built[name]

    def _key(self, size: int) -> dict[str, Any]:
        digest = hashlib.sha256()
        for name, tensor in self._model.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        device = str(next(self._model.parameters()).device)
        return {"model": digest.hexdigest()[:16], "device": device, "dtype": self._dtype, "size_class": size}


def probe(backend: Backend, graph: Graph, expected: Output, tolerance: Tolerance) -> str | None:
    """Return what a way gets wrong on a structure that the plain one could evaluate, or None."""
    try:
        output = backend.evaluate(graph)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return f"raising {error!r}"  # whatever a compiled extension raises, the plain path serves
    return difference(output, expected, tolerance, graph.sizes)


def size_class(atoms: int) -> int:
    """Return the class of a system size; each spans a factor of four."""
    return int(math.log(max(atoms, 1), _CLASS_WIDTH))


def _median_ms(backend: Backend, graph: Graph) -> float:
    times: list[float] = []
    while not times or (len(times) < _SAMPLES and sum(times) < _ENOUGH_MS):
        start = perf_counter()
        backend.evaluate(graph)
        times.append(1000 * (perf_counter() - start))
    return float(np.median(times))
