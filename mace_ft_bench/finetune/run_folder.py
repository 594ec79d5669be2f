"""The folder of a training run: whose it is, what it was made from, and the state from which it resumes."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mace_ft_bench.atomic import replacing, write_whole
from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.datasets.frames import count_groups, write_extxyz
from mace_ft_bench.errors import TrainingError
from mace_ft_bench.exclusive import only_one
from mace_ft_bench.finetune.config import FinetuneConfig
from mace_ft_bench.toml_schema import parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ase import Atoms

    from mace_ft_bench.finetune.objective import EpochErrors

RUN, STATE, HISTORY = "run.json", "state.pt", "history.jsonl"
_LOCK = "trainer.lock"
_PACKAGES = ("mace-ft-bench", "mace-torch", "torch", "e3nn", "numpy")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder, and keep other trainers out of it meanwhile.

    Raises
    ------
    TrainingError
        If another process trains in it.
    """

    def refusal(who: str) -> TrainingError:
        return TrainingError(
            f"A training run is at work in {folder} (process {who}).",
            fix=f"wait for it, or end it with `kill {who}` and run the same command again to resume.",
        )

    with only_one(folder / _LOCK, refusal):
        yield


def claim(folder: Path, config: FinetuneConfig, frames: Mapping[str, Sequence[Atoms]], parent: str) -> None:
    """Write the frames and ``run.json``; a folder of another recipe, parent or of other frames is refused untouched.

    Parameters
    ----------
    folder
        Run folder.
    config
        The recipe.
    frames
        Frames by the name of their file, without ``.xyz``.
    parent
        sha256 of the weights of the parent, or nothing.

    Raises
    ------
    TrainingError
        If the folder holds another run, or a damaged one.
    """
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        written = {f"{name}.xyz": Path(scratch) / f"{name}.xyz" for name in frames}
        for path in written.values():
            write_extxyz(frames[path.stem], path)
        run = {
            "recipe": asdict(config),
            "parent_sha256": parent,
            "frames": {name: count_groups(part) for name, part in frames.items()},
            "sha256": {name: sha256_of(path) for name, path in written.items()},
            "versions": {name: version(name) for name in _PACKAGES},
            "threads": torch.get_num_threads(),
        }
        run |= _refuse_another_run(folder, json.loads(json.dumps(run)))  # as it is read back
        for name, path in written.items():
            path.replace(folder / name)
        write_json(folder / RUN, run)


def _refuse_another_run(folder: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Return the versions that an earlier start noted: looking at a finished run again does not change them."""
    path = folder / RUN
    if not path.is_file():
        return {}
    fix = "choose another --out folder, or delete this one."
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        found = {key: earlier[key] for key in ("recipe", "parent_sha256", "sha256")}
        # A key that recipes got since then has its default, which is how the run was made.
        found["recipe"] = json.loads(json.dumps(asdict(parse(found["recipe"], FinetuneConfig, where=str(path)))))
    except (ValueError, LookupError, TypeError) as error:
        raise TrainingError(f"{path} is damaged, or of an earlier version.", fix=fix) from error
    for key, what in (("recipe", "another recipe"), ("parent_sha256", "another parent"), ("sha256", "other frames")):
        if found[key] != run[key]:
            raise TrainingError(f"{folder} holds a run of {what}.", fix=fix)
    return {key: earlier[key] for key in ("versions", "threads") if key in earlier}


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write JSON atomically."""
    write_whole(path, json.dumps(data, indent=1, sort_keys=True))


def store_state(folder: Path, packed: Mapping[str, Any], history: Sequence[EpochErrors]) -> None:
    """Store the state of a run, atomically, and its history as one line per validation."""
    with replacing(folder / STATE) as temporary, temporary.open("wb") as file:
        torch.save(dict(packed), file)
        file.flush()
        os.fsync(file.fileno())
    write_whole(folder / HISTORY, "".join(json.dumps(asdict(errors)) + "\n" for errors in history))


def load_state(folder: Path) -> dict[str, Any] | None:
    """Return the stored state of a run, or None if it has none. Tensors and plain data only are read.

    Raises
    ------
    TrainingError
        If the file is damaged.
    """
    path = folder / STATE
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise TrainingError(f"{path} is damaged: {error}.", fix="delete it to start over.") from error
    return state
