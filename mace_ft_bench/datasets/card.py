"""Dataset cards: where public DFT data lies, its checksum, licence, level of theory and conventions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mace_ft_bench import paths
from mace_ft_bench.errors import CardError, UnknownNameError, suggestion
from mace_ft_bench.toml_schema import StrictTable, parse, read_toml

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Member(StrictTable):
    """One file of a folder."""

    path: str
    """Path inside the folder, with slashes."""
    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        parts = self.path.split("/")
        if not all(parts) or not {"..", "."}.isdisjoint(parts):
            raise CardError(f'"{self.path}" is no path inside a folder.', fix="name it relative to the folder.")


@dataclass(frozen=True)
class DataFile(StrictTable):
    """One file of a dataset, or one folder where the format is one."""

    sha256: str
    """Of a folder: that of the lines ``<sha256>  <path>`` of its members, as ``sha256sum`` prints them."""
    bytes: int
    """Of a folder: of all its members."""
    split: str
    """Name of the split it holds."""
    reader: str
    """Name of a reader in :mod:`mace_ft_bench.datasets.readers`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the reader: units and orders of the labels."""
    url: str = ""
    """Where it is downloaded from. Of a folder: that of its files without their paths."""
    shipped: str = ""
    """In place of a url: name of a file that comes with the package, beside the card."""
    members: tuple[Member, ...] = ()
    """The files of a folder."""

    def __post_init__(self) -> None:
        if bool(self.url) == bool(self.shipped):
            raise CardError("A file of a dataset has a url or is shipped.", fix="give one of url and shipped.")
        if self.members and self.sha256 != sha256_of_members(self.members):
            raise CardError(
                f"The sha256 of {self.url} is not that of its members.", fix=f"it is {sha256_of_members(self.members)}."
            )
        if self.members and self.bytes != sum(member.bytes for member in self.members):
            raise CardError(f"{self.url} has other bytes than its members.", fix="add them up.")


def sha256_of_members(members: tuple[Member, ...]) -> str:
    """Return the sha256 of a folder: of the list of its files as ``sha256sum`` prints it."""
    lines = "".join(f"{member.sha256}  {member.path}\n" for member in members)
    return hashlib.sha256(lines.encode()).hexdigest()


@dataclass(frozen=True)
class DatasetCard(StrictTable):
    """A labelled dataset."""

    name: str
    title: str
    functional: str
    """Functional and code of the labels."""
    licence: str
    """As its source states it."""
    citation: str
    files: tuple[DataFile, ...]
    notes: str = ""

    @property
    def splits(self) -> list[str]:
        """Names of the splits."""
        return sorted({file.split for file in self.files})


def load_dataset_card(path: Path) -> DatasetCard:
    """Read a dataset card.

    Raises
    ------
    CardError
        If it is malformed or its name is not that of the file.
    """
    card = parse(read_toml(path), DatasetCard, where=str(path))
    if card.name != path.stem:
        raise CardError(f'{path} is named "{card.name}".', fix="give the file and the card one name.")
    return card


def folder_of_cards() -> Path:
    """Return the folder of the dataset cards; shipped files are named relative to it."""
    return paths.reference_data() / "datasets"


def list_datasets() -> dict[str, DatasetCard]:
    """Return all dataset cards by name."""
    return {name: load_dataset_card(path) for name, path in _files().items()}


def _files() -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder_of_cards().glob("*.toml"))}


def find_dataset(name: str) -> DatasetCard:
    """Return the dataset card of that name.

    Raises
    ------
    UnknownNameError
        With the nearest known name.
    """
    files = _files()
    if name not in files:
        raise UnknownNameError(f'No dataset is called "{name}".', fix=suggestion(name, files))
    return load_dataset_card(files[name])
