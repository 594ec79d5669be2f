"""The folder of a labelling: a file per frame, a reason per failure, and a lock on what is being worked on."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from ase.io import read
from filelock import FileLock

from mace_ft_bench.atomic import write_whole
from mace_ft_bench.datasets.exact_extxyz import write_exact
from mace_ft_bench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ase import Atoms

    from mace_ft_bench.labelling.labeller import Labeller

COLLECTED = "labelled.xyz"
_STAMP = "label.json"


@dataclass(frozen=True)
class Failure:
    """Why a frame has no label."""

    index: int
    config_type: str
    reason: str
    """Kind and text of the error, or how the process ended."""
    outputs: str
    """Folder with what the program had written."""
    structure: str = ""
    """Digest of the structure: another one in its place has not failed."""


@dataclass(frozen=True)
class LabelFolder:
    """A folder of labelled frames.

    Frame 7 becomes ``frames/0007.xyz``, or ``failures/0007.json``. While a process works on it, it holds a lock that
    the system releases however the process ends; several processes, also of several machines that share the file
    system, work on one folder.
    """

    path: Path

    def claim(self, frames: Sequence[Atoms], labeller: Labeller) -> None:
        """Make the folder this labelling's own.

        Raises
        ------
        DataError
            If it was labelled with other settings or by another program, or if a frame in it is another structure.
        """
        for name in ("frames", "failures", "locks", "outputs"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        stamp = {"code": labeller.code, "settings": asdict(labeller.settings), "digest": labeller.settings.digest}
        with self._folder_lock():
            if not (self.path / _STAMP).is_file():
                _write_json(self.path / _STAMP, stamp)
        self._refuse_other(stamp)
        for index in self.done(len(frames)):
            if structure_digest(self.frame(index)) != structure_digest(frames[index]):
                raise DataError(
                    f"Frame {index} in {self.path} is another structure than frame {index} to label.",
                    fix="give the frames in the same order, new ones at the end, or another folder.",
                )
        for failure in self.failures(len(frames)):
            if failure.structure != structure_digest(frames[failure.index]):
                self._failure(failure.index).unlink(missing_ok=True)

    def _refuse_other(self, stamp: dict[str, Any]) -> None:
        found = json.loads((self.path / _STAMP).read_text(encoding="utf-8"))
        differing = [key for key in ("code", "digest") if found[key] != stamp[key]]
        if differing == ["code"]:
            what = f"by {found['code']}, this is {stamp['code']}"
        elif differing:
            what = f"with other settings ({_difference(found['settings'], json.loads(json.dumps(stamp['settings'])))})"
        else:
            return
        raise DataError(f"{self.path} was labelled {what}.", fix="give another folder: labels are never mixed.")

    def frame(self, index: int) -> Atoms:
        """Return a labelled frame."""
        return cast("Atoms", read(self._frame(index), format="extxyz"))

    def keep(self, index: int, frame: Atoms) -> None:
        """Write a labelled frame; a failure of an earlier attempt is forgotten."""
        write_exact([frame], self._frame(index))
        self._failure(index).unlink(missing_ok=True)

    def fail(self, failure: Failure) -> None:
        """Write down why a frame has no label."""
        _write_json(self._failure(failure.index), asdict(failure))

    def is_done(self, index: int) -> bool:
        """Whether a frame has labels."""
        return self._frame(index).is_file()

    def has_failed(self, index: int) -> bool:
        """Whether a frame could not be labelled."""
        return self._failure(index).is_file() and not self.is_done(index)

    def done(self, number: int) -> list[int]:
        """Return which of the first ``number`` frames have labels."""
        return [index for index in range(number) if self.is_done(index)]

    def failures(self, number: int) -> list[Failure]:
        """Return why others of them have none."""
        found = []
        for index in filter(self.has_failed, range(number)):
            with contextlib.suppress(FileNotFoundError):  # another run tries it again
                found.append(Failure(**json.loads(self._failure(index).read_text(encoding="utf-8"))))
        return found

    def forget_failures(self) -> None:
        """Let failed frames be tried again."""
        for path in (self.path / "failures").glob("*.json"):
            path.unlink(missing_ok=True)

    def lock(self, index: int) -> FileLock:
        """Return the lock of a frame."""
        return FileLock(self.path / "locks" / f"{index:04d}.lock", timeout=0)

    def outputs(self, index: int) -> Path:
        """Return the folder in which the program works on a frame."""
        return self.path / "outputs" / f"{index:04d}"

    def collect(self, number: int) -> Path:
        """Write the labelled frames among the first ``number`` into one file, in order."""
        with self._folder_lock():  # of two runs that end at one time the second finds what the first had done
            write_exact([self.frame(index) for index in self.done(number)], self.path / COLLECTED)
        return self.path / COLLECTED

    def _folder_lock(self) -> FileLock:
        return FileLock(self.path / "locks" / "folder.lock")

    def _frame(self, index: int) -> Path:
        return self.path / "frames" / f"{index:04d}.xyz"

    def _failure(self, index: int) -> Path:
        return self.path / "failures" / f"{index:04d}.json"


def _write_json(path: Path, table: dict[str, Any]) -> None:
    write_whole(path, json.dumps(table, indent=1, ensure_ascii=False))


def structure_digest(atoms: Atoms) -> str:
    """Return what tells a structure from others, to the last digit of its numbers."""
    arrays = (atoms.numbers.astype("<i8"), atoms.positions, atoms.cell.array, atoms.pbc)
    # the sum takes the sign off zeros, which files do not keep
    return hashlib.sha256(b"|".join((array + 0).tobytes() for array in arrays)).hexdigest()[:16]


def _difference(first: dict[str, Any], second: dict[str, Any]) -> str:
    keys = sorted(key for key in {*first, *second} - {"name", "level_of_theory"} if first.get(key) != second.get(key))
    return ", ".join(f"{key}: {first.get(key)} there, {second.get(key)} here" for key in keys)
