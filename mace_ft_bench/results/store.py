"""The store of records: an append-only JSON-lines file, safe for several writers and for a kill half-way."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING

from filelock import FileLock

from mace_ft_bench.errors import CardError, StoreError
from mace_ft_bench.results.record import Record

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger("mace_ft_bench")


class RecordStore:
    """Records of a results folder, in ``records.jsonl``.

    Every record is one line, appended under a file lock. A line torn by a kill is skipped with a warning and closed
    by the next append. Of several records of one attempt the latest counts; who reads them decides that.

    Parameters
    ----------
    folder
        Results folder; created on the first append.

    Raises
    ------
    StoreError
        If the path exists and is not a folder.
    """

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise StoreError(f"{folder} is not a folder.", fix="give a folder for the results.")
        self.folder = folder
        self.path = folder / "records.jsonl"

    def append(self, record: Record) -> None:
        """Write one record durably before returning.

        Raises
        ------
        ValueError
            If the record holds NaN or infinity.
        StoreError
            If the folder cannot be written.
        """
        self._write(record.to_json() + "\n")

    def check_writable(self) -> None:
        """Find out before any work is lost whether records can be written.

        Raises
        ------
        StoreError
            If they cannot.
        """
        self._write("")

    def _write(self, line: str) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".records.lock"), self.path.open("ab+") as file:
                if file.tell() and not _ends_with_newline(self.path):
                    line = "\n" + line  # closes a line torn by a kill
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(f"{self.path} cannot be written: {error.strerror}.", fix="give another folder.") from error

    def all(self) -> list[Record]:
        """Return every readable record in the order written."""
        if not self.path.is_file():
            return []
        records = []
        for number, line in enumerate(self.path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            if not line.strip():
                continue
            try:
                records.append(Record.from_json(line))
            except json.JSONDecodeError:
                _log.warning("%s, line %d was torn by an interrupted run and is ignored.", self.path, number)
            except CardError as error:
                raise StoreError(
                    f"{self.path}, line {number}: {error.message}",
                    fix="it was written by another version; start a new results folder.",
                ) from error
        return records


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"
