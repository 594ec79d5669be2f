"""One process at a time: a lock that the operating system frees when its holder dies, and who holds it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mace_ft_bench.errors import MaceFtBenchError


@contextlib.contextmanager
def only_one(lock: Path, refusal: Callable[[str], MaceFtBenchError]) -> Iterator[None]:
    """Keep other processes out of the block, at once.

    Parameters
    ----------
    lock
        File; its folder is made. The number of the holder stands beside it, in a ``.pid``, for messages only.
    refusal
        Makes the error that is raised where another process is inside, from the number of that process.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held, pid = FileLock(lock), lock.with_suffix(".pid")
    try:
        held.acquire(timeout=0)
    except Timeout as error:
        raise refusal(pid.read_text(encoding="utf-8") if pid.is_file() else "unknown") from error
    try:
        pid.write_text(str(os.getpid()), encoding="utf-8")
        yield
    finally:
        pid.unlink(missing_ok=True)
        held.release()
