"""Labelled frames of other programs into ours: where they lie, what format they are in, what came out."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_ft_bench.datasets.frames import ENERGY, FORCES, STRESS, count_groups
from mace_ft_bench.datasets.readers import READERS, read_frames
from mace_ft_bench.datasets.readers.labels import NONE
from mace_ft_bench.errors import CardError, DataError, suggestion
from mace_ft_bench.units import EV_PER_A3_IN_GPA
from mace_ft_bench.voigt import voigt_label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ase import Atoms

_MARKS = {"deepmd-npy": "type.raw", "vasprun": "vasprun.xml", "outcar": "OUTCAR", "n2p2": "input.data"}
"""File by which a source of a format is found in folders; of deepmd-npy, its folder is the source."""
_CERTAIN = frozenset({"deepmd-npy", "vasprun", "n2p2"})
"""Formats whose marks are read as nothing else."""
_HEAD_BYTES = 65536
_NAMED = 5
"""Frames named in an error."""


@dataclass(frozen=True)
class Source:
    """Something a reader can read."""

    path: Path
    group: str
    """Group of its frames, from the folders between it and what the user named; empty for a file named directly."""


@dataclass(frozen=True)
class Summary:
    """What was converted."""

    frames: int
    atoms: int
    """Of all frames."""
    groups: dict[str, int]
    """Frames per group."""
    labels: dict[str, int]
    """Frames with each label."""
    energy_ev_per_atom: tuple[float, float] | None
    """Lowest and highest."""
    force_rms_ev_per_a: float | None
    """Root mean square of the components."""
    pressure_gpa: tuple[float, float] | None
    """Lowest and highest, positive in compression."""


def looks_like(path: Path) -> list[str]:
    """Return the formats that a file or folder looks like, by marks and first bytes."""
    if path.is_dir():
        return [name for name, mark in _MARKS.items() if next(path.rglob(mark), None) is not None]
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    text = head.decode("utf-8", errors="replace")
    found = {
        "vasprun": "<modeling>" in text,
        "outcar": "POTCAR:" in text and "vasp." in text[:200],
        "n2p2": text.lstrip().partition("\n")[0].strip() == "begin",
        "cp2k": "CP2K|" in text,
        "ase-db": head.startswith(b"SQLite format 3"),
        "extxyz": path.suffix in {".xyz", ".extxyz"},
        "mlearn-json": text.startswith(("[", "{")) and '"virial_stress"' in text,
        "pymatgen-json": text.startswith(("[", "{")) and '"lattice"' in text,
    }
    return [name for name, holds in found.items() if holds]


def choose_format(paths: Sequence[Path]) -> str:
    """Return the one format all sources certainly are.

    Raises
    ------
    DataError
        If a source does not exist, or looks like nothing.
    CardError
        If the format has to be named; saying what the sources look like.
    """
    guesses = {path: looks_like(_existing(path)) for path in paths}
    for path, found in guesses.items():
        if not found:
            raise DataError(
                f"{path} looks like no known format.", fix=f"name one of {', '.join(READERS)} with --format."
            )
    names = sorted({name for found in guesses.values() for name in found})
    if len(names) > 1 or names[0] not in _CERTAIN:
        raise CardError(
            f"The sources look like {' or '.join(names)}.",
            fix=f"name the format, for example --format {names[0]}; one format at a time.",
        )
    return names[0]


def _existing(path: Path) -> Path:
    if not path.exists():
        raise DataError(f"{path} does not exist.", fix="check the path.")
    return path


def find_sources(path: Path, reader: str) -> list[Source]:
    """Return what a reader can read at a path: the file or system itself, or all in the folders below, by name.

    Raises
    ------
    DataError
        If there is nothing.
    """
    _existing(path)
    mark = _MARKS.get(reader)
    if path.is_file() or (reader == "deepmd-npy" and (path / "type.raw").is_file()):
        return [Source(path, "")]
    if mark is None:
        raise DataError(f"{path} is a folder; format {reader} is read from files.", fix="name the files.")
    found = sorted(path.rglob(mark))
    if not found:
        raise DataError(
            f"{path} holds no {mark}.", fix=f"check the path; it looks like {looks_like(path) or 'nothing'}."
        )
    inner = [file.parent.relative_to(path).as_posix() for file in found]
    return [
        Source(file.parent if reader == "deepmd-npy" else file, group if group != "." else "")
        for file, group in zip(found, inner, strict=True)
    ]


def check_options(reader: str, options: Mapping[str, Any]) -> None:
    """Refuse options that a reader does not take, naming those it does.

    Raises
    ------
    CardError
        Also if the reader does not exist, or an option it needs is missing.
    """
    if reader not in READERS:
        raise CardError(f'No format is called "{reader}".', fix=suggestion(reader, READERS))
    fields = {field.name: field for field in dataclasses.fields(READERS[reader])}  # type: ignore[arg-type]
    for name in options:
        if name not in fields:
            raise CardError(f"Format {reader} takes no {_flag(name)}.", fix=f"it takes {_flags(fields)}.")
    needed = [
        name
        for name, field in fields.items()
        if field.default is field.default_factory is dataclasses.MISSING and name not in options
    ]
    if needed:
        one = " (--config-type puts all frames into one group)" if "config_type_key" in needed else ""
        raise CardError(f"Format {reader} needs {_flags(needed)}.", fix=f"give them, nothing is guessed{one}.")


def convert(
    paths: Sequence[Path], reader: str, options: Mapping[str, Any], *, allow_missing: bool = False
) -> list[Atoms]:
    """Read all sources at some paths.

    Parameters
    ----------
    paths
        Files, systems, or folders that hold them.
    reader
        Name of a format.
    options
        Options of the reader. Without ``config_type``, frames of folders are grouped by folder.
    allow_missing
        Accept frames that lack labels which others have.

    Raises
    ------
    CardError
        If the options are not those of the reader.
    DataError
        If a source cannot be read, or frames lack labels.
    """
    options = _with_group_of_extxyz(reader, dict(options))
    check_options(reader, options)
    fields = {field.name for field in dataclasses.fields(READERS[reader])}  # type: ignore[arg-type]
    if allow_missing and "allow_missing" in fields:
        options["allow_missing"] = True
    frames = []
    for source in [source for path in paths for source in find_sources(path, reader)]:
        own = {"config_type": source.group} if source.group and not options.get("config_type") else {}
        frames += read_frames(source.path, reader, {**options, **own})
    if not frames:
        raise DataError("No frame is left.", fix="check the sources and what the options leave out.")
    if not allow_missing:
        require_labels(frames)
    return frames


def _with_group_of_extxyz(reader: str, options: dict[str, Any]) -> dict[str, Any]:
    if reader == "extxyz" and options.get("config_type") and "config_type_key" not in options:
        return {**options, "config_type_key": NONE}
    return options


def require_labels(frames: Sequence[Atoms]) -> None:
    """Refuse frames that lack a label which others have.

    Raises
    ------
    DataError
        Naming the label and the frames.
    """
    for label, having in _having(frames).items():
        lacking = [number for number, has in enumerate(having) if not has]
        if lacking and len(lacking) < len(frames):
            named = ", ".join(f"{number} ({frames[number].info['config_type']})" for number in lacking[:_NAMED])
            more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
            raise DataError(
                f"{len(lacking)} of {len(frames)} frames have no {label}: {named}{more}.",
                fix="convert them separately, or pass --allow-missing to write them as they are.",
            )


def summarise(frames: Sequence[Atoms]) -> Summary:
    """Return what a user should look at before training on frames."""
    energies = [frame.info[ENERGY] / len(frame) for frame in frames if ENERGY in frame.info]
    forces = [frame.arrays[FORCES].ravel() for frame in frames if FORCES in frame.arrays]
    pressures = [
        -voigt_label(frame.info[STRESS])[:3].mean() * EV_PER_A3_IN_GPA for frame in frames if STRESS in frame.info
    ]
    return Summary(
        frames=len(frames),
        atoms=sum(map(len, frames)),
        groups=count_groups(frames),
        labels={label: sum(having) for label, having in _having(frames).items()},
        energy_ev_per_atom=(float(min(energies)), float(max(energies))) if energies else None,
        force_rms_ev_per_a=float(np.sqrt(np.mean(np.concatenate(forces) ** 2))) if forces else None,
        pressure_gpa=(float(min(pressures)), float(max(pressures))) if pressures else None,
    )


def _having(frames: Sequence[Atoms]) -> dict[str, list[bool]]:
    return {
        ENERGY: [ENERGY in frame.info for frame in frames],
        FORCES: [FORCES in frame.arrays for frame in frames],
        STRESS: [STRESS in frame.info for frame in frames],
    }


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _flags(names: Mapping[str, Any] | Sequence[str]) -> str:
    return ", ".join(map(_flag, names))
