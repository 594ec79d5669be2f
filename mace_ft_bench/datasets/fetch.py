"""Get the files of a dataset: from a mirror folder, from the cache, or from the network; checked always."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.datasets.card import find_dataset, folder_of_cards
from mace_ft_bench.datasets.readers import read_frames
from mace_ft_bench.download import cache_folder
from mace_ft_bench.download import download as download_file
from mace_ft_bench.errors import ChecksumError, DataError, MissingDataError, UnknownNameError, suggestion

if TYPE_CHECKING:
    from ase import Atoms

    from mace_ft_bench.datasets.card import DataFile, DatasetCard

MIRROR_VARIABLE = "MFB_MIRROR"


def fetch(card: DatasetCard, *, mirror: Path | None = None, download: bool = True) -> list[Path]:
    """Return local paths of all files and folders of a dataset, in the order of the card; shipped ones as they lie.

    Parameters
    ----------
    card
        Dataset card.
    mirror
        Folder of byte-identical copies laid out as the path of the url; default is the variable ``MFB_MIRROR``.
    download
        Whether the network may be used.

    Raises
    ------
    MissingDataError
        If a file is nowhere to be had.
    ChecksumError
        If a file differs from the card; a downloaded one is not kept.
    """
    return [_locate(card, file, mirror, download=download) for file in card.files]


def load_frames(name: str, split: str, *, mirror: Path | None = None, download: bool = False) -> list[Atoms]:
    """Return the labelled frames of one split of a dataset.

    Raises as :func:`locate`.
    """
    return [
        frame
        for file, path in locate(name, split, mirror=mirror, download=download)
        for frame in read_frames(path, file.reader, file.options)
    ]


def locate(name: str, split: str, *, mirror: Path | None = None, download: bool = False) -> list[tuple[DataFile, Path]]:
    """Return the files of one split of a dataset, and where they lie.

    Raises
    ------
    UnknownNameError
        If the dataset or the split does not exist.
    MissingDataError
        If the files are not on this machine (and ``download`` is false).
    ChecksumError
        If a file differs from the card.
    """
    card = find_dataset(name)
    if split not in card.splits:
        raise UnknownNameError(f'Dataset {name} has no split "{split}".', fix=suggestion(split, card.splits))
    files = [file for file in card.files if file.split == split]
    return [(file, _locate(card, file, mirror, download=download)) for file in files]


def _locate(card: DatasetCard, file: DataFile, mirror: Path | None, *, download: bool) -> Path:
    if file.shipped:
        return _verified(folder_of_cards() / file.shipped, file.sha256)
    name = Path(urlsplit(file.url).path).name
    cached = cache_folder("datasets") / card.name / file.sha256[:12] / name
    mirrored = _in_mirror(file.url, mirror)
    if not file.members:
        return _locate_file(card, _Wanted(file.url, file.sha256, cached, mirrored), download=download)
    wanted = [
        _Wanted(
            f"{file.url}/{member.path}",
            member.sha256,
            cached / member.path,
            mirrored / member.path if mirrored else None,
        )
        for member in file.members
    ]
    found = [_locate_file(card, item, download=download) for item in wanted]
    for folder in (mirrored, cached):  # a reader takes whatever lies in a folder: it has to be what the card names
        if folder is not None and found == [folder / member.path for member in file.members]:
            return _nothing_else(folder, found)
    raise MissingDataError(
        f"Dataset {card.name}: some files of {name} are in the mirror folder, some in the cache.",
        fix=f"complete the mirror folder, or unset {MIRROR_VARIABLE}.",
    )


def _nothing_else(folder: Path, named: list[Path]) -> Path:
    others = {path for path in folder.rglob("*") if path.is_file()} - set(named)
    if others:
        raise DataError(f"{min(others)} is in a folder whose card does not name it.", fix="move it elsewhere.")
    return folder


@dataclass(frozen=True)
class _Wanted:
    """A file that a card names, and where it may be."""

    url: str
    sha256: str
    cached: Path
    mirrored: Path | None


def _locate_file(card: DatasetCard, file: _Wanted, *, download: bool) -> Path:
    if file.mirrored is not None and file.mirrored.is_file():
        return _verified(file.mirrored, file.sha256)
    if file.cached.is_file() and _intact(file.cached, file.sha256, repair=download):
        return file.cached
    if not download:
        raise MissingDataError(
            f"Dataset {card.name} is not on this machine.",
            fix=f"run `mfb data fetch {card.name}` with a network, or set {MIRROR_VARIABLE} to a folder of copies.",
        )
    return _download(card, file)


def _in_mirror(url: str, mirror: Path | None) -> Path | None:
    folder = mirror or (Path(os.environ[MIRROR_VARIABLE]) if os.environ.get(MIRROR_VARIABLE) else None)
    if folder is None:
        return None
    if not folder.is_dir():
        raise MissingDataError(f"The mirror folder {folder} does not exist.", fix=f"correct {MIRROR_VARIABLE}.")
    return folder / urlsplit(url).path.lstrip("/")


def _intact(path: Path, sha256: str, *, repair: bool) -> bool:
    """Whether a cached file is what the card names; a damaged one is removed where it can be downloaded again."""
    try:
        _verified(path, sha256)
    except ChecksumError:
        if not repair:
            raise
        path.unlink()
        return False
    return True


def _verified(path: Path, sha256: str) -> Path:
    found = sha256_of(path)
    if found != sha256:
        raise ChecksumError(
            f"{path} has sha256 {found}, the card names {sha256}.",
            fix="delete the file and fetch it again; if it was downloaded just now, the source has changed.",
        )
    return path


def _download(card: DatasetCard, file: _Wanted) -> Path:
    try:
        return download_file(file.url, file.cached, verify=lambda path: _verified(path, file.sha256))
    except OSError as error:
        raise MissingDataError(
            f"Dataset {card.name}: {file.url} cannot be downloaded ({type(error).__name__}).",
            fix=f"connect to the network and run `mfb data fetch {card.name}`, or put the file into a mirror "
            f"folder and set {MIRROR_VARIABLE}.",
        ) from error
