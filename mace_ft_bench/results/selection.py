"""Which records of a results folder belong together on one leaderboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mace_ft_bench.results.record import Record


class Identity(NamedTuple):
    """What a model's name stood for when a record was made."""

    sha256: str
    head: str
    device: str


def identity_of(record: Record) -> Identity:
    """Return what the model's name stood for."""
    return Identity(record.provenance.model_sha256, record.provenance.head, record.provenance.device)


def consistent_records(
    records: Iterable[Record], *, versions: Mapping[str, int], chosen: Mapping[str, Identity] | None = None
) -> list[Record]:
    """Return the records that may share a table: one identity per model name, current versions of the properties.

    A name can stand for other weights, another head or another device in an older record of the same folder; mixing
    them in one row would show results that no model has.

    Parameters
    ----------
    records
        In the order written.
    versions
        Current version of every property by name; other records are left out.
    chosen
        What a name stands for now. A name not in it stands for what its last record says.
    """
    current = [record for record in records if record.provenance.property_version == versions.get(record.property)]
    identities = {record.model: identity_of(record) for record in current} | dict(chosen or {})
    return [record for record in current if identity_of(record) == identities[record.model]]
