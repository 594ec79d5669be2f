"""Weights of foundation models: downloaded once, converted once to data, checked ever after.

A model has the folder ``<cache>/models/<name>`` with the downloaded pickle, the converted safetensors file and a record
of both checksums. Only the safetensors file is loaded.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mace_ft_bench.atomic import write_whole
from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.download import cache_folder, download
from mace_ft_bench.errors import (
    CardError,
    CheckpointError,
    ChecksumError,
    LicenceError,
    MissingWeightsError,
    UntrustedFileError,
)
from mace_ft_bench.toml_schema import StrictTable, parse
from mace_ft_bench.zoo import conversion
from mace_ft_bench.zoo.conversion import Facts  # noqa: TC001 - read when records are parsed

if TYPE_CHECKING:
    from mace_ft_bench.zoo.card import ModelCard

RECORD_NAME = "record.json"
_TORCH_FILE = (b"PK\x03\x04", b"\x80")
"""How torch's zip archives and bare pickles begin; a server's error page begins otherwise."""

_log = logging.getLogger("mace_ft_bench")


@dataclass(frozen=True)
class Record(StrictTable):
    """What happened to a foundation model on this machine."""

    url: str
    licence_accepted: str = ""
    """Address of the terms that were accepted."""
    source_sha256: str = ""
    """Checksum of the downloaded pickle."""
    weights_sha256: str = ""
    """Checksum of the safetensors file; empty before the conversion."""
    facts: Facts | None = None


def model_folder(card: ModelCard) -> Path:
    """Return where the files of a foundation model are kept."""
    return cache_folder("models") / card.name


def source_path(card: ModelCard) -> Path:
    """Return where the downloaded file of a foundation model lies, or may be put by hand."""
    return model_folder(card) / Path(urlsplit(card.url).path).name


def on_this_machine(card: ModelCard) -> ModelCard:
    """Return the card with what the converted weights say; the same card if there are none, or none are needed."""
    if card.kind != "foundation":
        return card
    try:
        record = _read_record(card)
    except (CardError, ChecksumError, OSError) as error:  # the list of models must not break; using the model says it
        _log.warning("%s", error)
        return card
    path = model_folder(card) / f"{card.name}.safetensors"
    if record.facts is None or not path.is_file():
        return card
    facts = record.facts
    return replace(
        card,
        file=path.name,
        sha256=record.weights_sha256,
        folder=path.parent,
        elements=facts.elements,
        heads=facts.heads,
        parameters=facts.parameters,
        architecture=facts.architecture,
        e0s_ev=facts.e0s_ev,
    )


def weights_path(card: ModelCard, *, trust: bool = False, accept_licence: bool = False) -> Path:
    """Return the verified safetensors file of a model; a foundation model is downloaded and converted at first use.

    Parameters
    ----------
    card
        Of kind ``mace`` or ``foundation``.
    trust
        Allow unpickling a downloaded file, once, in a process of its own.
    accept_licence
        Accept the terms of the model, once; recorded beside the weights.

    Raises
    ------
    LicenceError
        If terms must be accepted and have not been.
    UntrustedFileError
        If the weights are not converted yet and ``trust`` is false.
    MissingWeightsError
        If the file cannot be downloaded.
    ChecksumError
        If a file is not the one that was recorded.
    CheckpointError
        If the file cannot be converted.
    """
    if card.kind != "foundation":
        return card.verified_path()
    accepted = _check_licence(card, _read_record(card), accept=accept_licence)
    ready = on_this_machine(card)
    return ready.verified_path() if ready.file else _prepare(card, accepted, trust=trust)


def _prepare(card: ModelCard, licence_accepted: str, *, trust: bool) -> Path:
    from filelock import FileLock  # noqa: PLC0415 - beside its only use

    folder = model_folder(card)
    if not trust:
        raise _untrusted(card)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        ready = on_this_machine(card)  # another process may have been faster
        if ready.file:
            return ready.verified_path()
        record = _write_record(card, replace(_read_record(card), licence_accepted=licence_accepted))
        record = _write_record(card, replace(record, source_sha256=_source(card, record)))
        path = folder / f"{card.name}.safetensors"
        facts = conversion.convert(source_path(card), path)
        _write_record(card, replace(record, weights_sha256=sha256_of(path), facts=facts))
    return path


def _source(card: ModelCard, record: Record) -> str:
    """Return the checksum of the downloaded file, after downloading it if it is not there."""
    path, expected = source_path(card), card.url_sha256 or record.source_sha256
    if path.is_file():
        _verify(path, expected)
    else:
        _download(card, path, expected)
    return sha256_of(path)


def _download(card: ModelCard, path: Path, expected: str) -> None:
    try:
        download(card.url, path, verify=lambda partial: _verify(partial, expected))
    except OSError as error:
        raise MissingWeightsError(
            f"{card.name}: {card.url} cannot be downloaded ({type(error).__name__}).",
            fix=f"connect to the network, or get the file by other means and put it at {path}.",
        ) from error


def _verify(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        if not file.read(4).startswith(_TORCH_FILE):
            raise CheckpointError(
                f"{path.name} is no torch file; the server may have sent a page.", fix="delete it and try again."
            )
    found = sha256_of(path)
    if expected and found != expected:
        raise ChecksumError(
            f"{path.name} has sha256 {found}; {expected} was recorded for it.",
            fix=f"delete {path} if it was damaged here; if its source sends it, that has changed: ask its authors.",
        )


def _check_licence(card: ModelCard, record: Record, *, accept: bool) -> str:
    """Return the terms that are accepted, earlier or now."""
    if card.licence_terms and not accept and record.licence_accepted != card.licence_terms:
        raise LicenceError(
            f"{card.name} is under {card.licence}, whose terms must be accepted: {card.licence_terms}.",
            fix="read them; pass accept_licence=True (--accept-licence) once if they allow your use.",
        )
    return card.licence_terms


def _untrusted(card: ModelCard) -> UntrustedFileError:
    return UntrustedFileError(
        f"{card.name} is published as a pickle ({card.url}): reading it runs whatever code its author put in.",
        fix=f"pass trust=True, or run `mfb models fetch {card.name} --trust`, if you trust its source; it is converted "
        "to data once and not needed afterwards.",
    )


def _read_record(card: ModelCard) -> Record:
    path = model_folder(card) / RECORD_NAME
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Record(card.url)
    except ValueError as error:
        raise CardError(f"{path} is not valid JSON: {error}.", fix=f"delete {path.parent} and fetch again.") from error
    record = parse(table, Record, where=str(path))
    if record.url != card.url:
        raise ChecksumError(
            f"{path.parent} holds {record.url}; {card.name} is now {card.url}.",
            fix=f"delete {path.parent} and fetch again.",
        )
    return record


def _write_record(card: ModelCard, record: Record) -> Record:
    write_whole(model_folder(card) / RECORD_NAME, json.dumps(asdict(record), indent=1))
    return record
