"""How long commands end when they are asked to."""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

EXIT_INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended, as a shell has it."""


@contextlib.contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Let a polite kill unwind the stack, which frees locks and ends processes."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
