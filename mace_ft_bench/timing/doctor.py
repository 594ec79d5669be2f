"""What works on this machine: accelerators with their parity and speed, devices, packages."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase.build import bulk

from mace_ft_bench.calculators.acceleration import PLAIN, TOLERANCES, probe
from mace_ft_bench.calculators.backends import BUILDERS
from mace_ft_bench.calculators.graph import join, pair_table
from mace_ft_bench.calculators.neighbors import NeighborList, SkinSettings
from mace_ft_bench.errors import AccelerationError
from mace_ft_bench.timing.interleaved import time_in_turns
from mace_ft_bench.zoo import checkpoint
from mace_ft_bench.zoo.registry import find_model

if TYPE_CHECKING:
    from mace_ft_bench.calculators.backends import Output
    from mace_ft_bench.calculators.graph import Graph

PACKAGES = (
    "mace-ft-bench",
    "mace-torch",
    "torch",
    "e3nn",
    "ase",
    "vesin",
    "numba",
    "cuequivariance-torch",
    "cuequivariance-ops-torch-cu12",
    "torch-dftd",
    "chgnet",
)
_ROUNDS = 3


@dataclass(frozen=True)
class AcceleratorCheck:
    """How one accelerator does with one dtype on one device."""

    name: str
    device: str
    dtype: str
    milliseconds: float | None
    """Median time of energy, forces and stress; None if it cannot be used."""
    verdict: str
    """``same``, what differs from the plain path, or why it cannot be used."""

    @property
    def good(self) -> bool:
        """Whether it can be used."""
        return self.verdict == "same"


def packages() -> dict[str, str]:
    """Return the versions of the packages that serving uses; ``not installed`` for those that are missing."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def devices() -> list[str]:
    """Return the devices that torch can compute on."""
    gpus = [f"cuda:{index} ({torch.cuda.get_device_name(index)})" for index in range(torch.cuda.device_count())]
    return [f"cpu ({torch.get_num_threads()} threads)", *gpus]


def check_accelerators(model: str, repeat: int = 3) -> list[AcceleratorCheck]:
    """Compare every accelerator with the plain path on a displaced crystal, per device and dtype.

    Parameters
    ----------
    model
        Name of an embedded MACE model.
    repeat
        The crystal has 2 repeat^3 atoms.
    """
    weights = checkpoint.load_checkpoint(find_model(model).verified_path())
    available = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    return [
        check
        for device in available
        for dtype in TOLERANCES
        for check in _checks(weights.to(device=device, dtype=getattr(torch, dtype)), device, dtype, repeat)
    ]


def _checks(model: Any, device: str, dtype: str, repeat: int) -> list[AcceleratorCheck]:  # noqa: ANN401 - a ScaleShiftMACE
    graph = _crystal(model, repeat)
    expected = BUILDERS[PLAIN](model, 0).evaluate(graph)
    return [_check(name, model, graph, expected, (device, dtype)) for name in BUILDERS]


def _check(name: str, model: Any, graph: Graph, expected: Output, where: tuple[str, str]) -> AcceleratorCheck:  # noqa: ANN401
    try:
        backend = BUILDERS[name](model, 0)
    except AccelerationError as error:
        return AcceleratorCheck(name, *where, None, error.message)
    wrong = probe(backend, graph, expected, TOLERANCES[where[1]])
    if wrong is not None:  # how fast it would be wrong does not matter
        return AcceleratorCheck(name, *where, None, f"differs in {wrong}")
    time = time_in_turns({name: lambda: backend.evaluate(graph)}, rounds=_ROUNDS)
    return AcceleratorCheck(name, *where, time.median(name), "same")


def _crystal(model: Any, repeat: int) -> Graph:  # noqa: ANN401 - a ScaleShiftMACE
    number = int(model.atomic_numbers[0])
    atoms = bulk("Mo", "bcc", a=3.16, cubic=True) * (repeat, repeat, repeat)
    atoms.numbers[:] = number
    atoms.rattle(0.05, seed=0)
    table = pair_table(NeighborList(float(model.r_max), SkinSettings(skin=0)).candidates(atoms), len(atoms))
    return join([atoms], [table], np.zeros(number + 1, dtype=np.int64))
