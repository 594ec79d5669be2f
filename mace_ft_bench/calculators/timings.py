"""Measured times of the ways to evaluate a model, kept on disk between processes."""

from __future__ import annotations

import json
import logging
import platform
from importlib.metadata import version
from typing import Any

import torch
from filelock import FileLock

from mace_ft_bench.atomic import write_whole
from mace_ft_bench.download import cache_folder

_log = logging.getLogger("mace_ft_bench")

_PACKAGES = ("mace-ft-bench", "mace-torch", "torch", "cuequivariance-torch", "numba")


class Timings:
    """Times [ms] of one model in one situation.

    Parameters
    ----------
    situation
        What the times depend on, besides machine, number of threads and versions of the packages, which are added.
    """

    def __init__(self, situation: dict[str, Any]) -> None:
        here = {"threads": torch.get_num_threads(), "machine": f"{platform.node()} {platform.machine()}"}
        self._key = json.dumps(situation | here | {name: version(name) for name in _PACKAGES}, sort_keys=True)
        self._path = cache_folder("acceleration") / "timings.json"
        self._times: dict[str, float] = self._read().get(self._key, {})

    @property
    def known(self) -> bool:
        """Whether times have been measured."""
        return bool(self._times)

    def fastest_first(self) -> list[str]:
        """Return the names in the order of their times."""
        return sorted(self._times, key=self._times.__getitem__)

    def store(self, times: dict[str, float], *, keep: bool = True) -> None:
        """Take times [ms] by name, and keep them on disk; a cache that cannot be written is not an error."""
        self._times = times
        if not keep:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self._path}.lock"):
                self._write(self._read() | {self._key: times})
        except OSError as error:
            _log.info("Times of accelerators are not kept: %s", error)

    def _read(self) -> dict[str, dict[str, float]]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, table: dict[str, dict[str, float]]) -> None:
        write_whole(self._path, json.dumps(table, indent=1))
