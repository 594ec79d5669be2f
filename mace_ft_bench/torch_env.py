"""The wall around torch's and mace's process-wide state.

Importing mace sets ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1``, which lets every later ``torch.load`` of the process run
pickled code; building its models needs torch's global default dtype. Both are changed here only, and put back.
"""

from __future__ import annotations

import contextlib
import gc
import os
import warnings
from typing import TYPE_CHECKING

import torch

from mace_ft_bench.deferred_imports import defer

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNPICKLE_SWITCH = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"

_KNOWN_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    # e3nn 0.4.4 loads its own constants file under mace's switch.
    (rf".*{_UNPICKLE_SWITCH}.*", UserWarning),
    # e3nn 0.4.4 compiles its tensor products with TorchScript.
    (r".*TorchScript type system.*", UserWarning),
    (r".*torch\.jit\..*(deprecated|not supported).*", DeprecationWarning),
    (r".*torch\.jit\..*(deprecated|not supported).*", FutureWarning),
    # mace 0.3.16 copies buffers with torch.tensor when it converts a model to cuequivariance.
    (r".*To copy construct from a tensor.*", UserWarning),
    # cuequivariance's CUDA kernels are an extra.
    (r".*cuequivariance_ops_torch.*", UserWarning),
)

_UNUSED: dict[str, dict[str, str]] = {
    "mace.tools": dict.fromkeys(("TensorDict", "to_numpy"), "mace.tools.torch_tools"),
    "scipy.signal": {},
    "torch._dynamo": {},
}
"""Modules that mace's models import, with what they take out of them; mace.tools is the tools of its training."""


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Set torch's default dtype inside the block and restore it, also on error."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def _paused_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def mace_environment() -> Iterator[None]:
    """Import mace, or let it build models, without side effects on the process.

    The garbage collector pauses meanwhile: importing makes a million lasting objects, and searching them for garbage
    again and again is a quarter of the time. What mace and e3nn import and a model does not use would be half of the
    rest; it waits.
    """
    before = os.environ.get(_UNPICKLE_SWITCH)
    for name, submodule_of in _UNUSED.items():
        defer(name, submodule_of)
    with warnings.catch_warnings(), _paused_garbage_collection():
        for message, category in _KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message=message, category=category)
        try:
            # e3nn 0.4.4 keeps slices in its constants file, which torch's safe loader refuses by default.
            with torch.serialization.safe_globals([slice]):
                yield
        finally:
            os.environ.pop(_UNPICKLE_SWITCH, None)
            if before is not None:
                os.environ[_UNPICKLE_SWITCH] = before
