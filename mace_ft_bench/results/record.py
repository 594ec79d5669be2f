"""The record of one attempted case: what was computed, with what, and how it ended."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mace_ft_bench.toml_schema import StrictTable, parse

Status = Literal["ok", "unconverged", "unstable", "unsupported", "missing_data", "too_slow", "error"]

FAILED: frozenset[Status] = frozenset({"unconverged", "unstable", "error"})
"""Statuses that score zero."""

NOT_COVERED: frozenset[Status] = frozenset({"unsupported", "missing_data", "too_slow"})
"""Statuses that lower coverage and leave the score alone."""

RETRIED: frozenset[Status] = frozenset({"error", "missing_data"})
"""Statuses that a rerun tries again, missing data once they are there."""


@dataclass(frozen=True)
class Provenance(StrictTable):
    """What produced a record."""

    model_sha256: str = ""
    head: str = ""
    dtype: str = ""
    device: str = ""
    accelerator: str = "none"
    dispersion: str = "none"
    property_version: int = 0
    package_versions: dict[str, str] = field(default_factory=dict)
    hardware: str = ""
    threads: int = 0
    started: str = ""
    """UTC time, ISO 8601."""


@dataclass(frozen=True)
class Record(StrictTable):
    """One (model, case) attempt.

    ``result`` holds the fields of the property's result dataclass as plain data; ``errors`` holds signed errors by
    metric name, empty unless ``status`` is ``ok``.
    """

    key: str
    """Content address: what determines the result."""
    model: str
    case: str
    property: str
    case_hash: str
    """:meth:`mace_ft_bench.results.case.Case.content_hash` of the card that was run."""
    status: Status
    message: str = ""
    """Why, when the status is not ``ok``."""
    result: dict[str, Any] | None = None
    errors: dict[str, float] = field(default_factory=dict)
    mode: str = ""
    """Mode whose settings were in force; empty where the case has the same settings in all."""
    wall_s: float = 0.0
    """Wall time of the attempt [s]."""
    provenance: Provenance = field(default_factory=Provenance)

    def to_json(self) -> str:
        """Return one line of JSON; NaN and infinity are refused with ``ValueError``."""
        return json.dumps(asdict(self), allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Record:
        """Return the record of one line.

        Raises
        ------
        json.JSONDecodeError
            If the line is not JSON (a torn write).
        CardError
            If it is JSON but no record.
        """
        return parse(json.loads(line), cls, where="a line of records.jsonl")
