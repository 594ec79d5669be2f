"""One way to download: to a temporary name, checked, then renamed; and the cache where downloads are kept."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

if TYPE_CHECKING:
    from collections.abc import Callable

    from requests import Response

CACHE_VARIABLE = "MFB_CACHE"
_TIMEOUT_S = 20
"""Longest silence of a server [s]; a download as a whole may take any time."""


def cache_folder(kind: str) -> Path:
    """Return where downloads and environments are kept; the variable ``MFB_CACHE`` overrides the platform's choice.

    Parameters
    ----------
    kind
        ``datasets``, ``models`` or ``environments``.
    """
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("mace_ft_bench")) / kind


def download(url: str, target: Path, *, verify: Callable[[Path], object]) -> Path:
    """Download a file; ``target`` appears complete and verified, or not at all.

    Parameters
    ----------
    url
        Where the file lies.
    target
        Where it goes; its folder is made.
    verify
        Called with the downloaded file before it is kept; raises what is wrong with it.

    Raises
    ------
    OSError
        If the file cannot be downloaded or written; errors of requests are of this kind.
    """
    import pooch  # noqa: PLC0415 - imports requests, which most commands do not need

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as scratch:
        partial = Path(scratch) / target.name
        # pooch leaves the connection of a refused request open.
        pooch.HTTPDownloader(timeout=_TIMEOUT_S, hooks={"response": _close_refused})(url, str(partial), None)
        verify(partial)
        partial.replace(target)
    return target


def _close_refused(response: Response, **_options: object) -> None:
    if not response.ok:
        response.close()
