"""What a record says about where it was made."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("mace-ft-bench", "mace-torch", "torch", "numba", "vesin", "ase", "numpy", "elastic", "phonopy", "chgnet")


def package_versions(*more: str) -> dict[str, str]:
    """Return the versions of the installed packages that can change a result, and of more of them."""
    found = {name: _version(name) for name in (*PACKAGES, *more)}
    return {name: known for name, known in found.items() if known is not None}


@cache  # every task and record asks, and reading the metadata takes a millisecond
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def hardware(device: str) -> str:
    """Return the name of the processor, or of the GPU, and the number of cores."""
    if device == "cuda":
        import torch  # noqa: PLC0415 - slow to import

        return str(torch.cuda.get_device_name())
    return f"{_processor()}, {os.cpu_count()} cores"


def load_average() -> float | None:
    """Return the mean number of running processes over the last minute; None where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def threads() -> int:
    """Return the number of threads torch computes with."""
    import torch  # noqa: PLC0415 - slow to import

    return torch.get_num_threads()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
