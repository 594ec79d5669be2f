"""What a record of timed dynamics holds: the result of the records that ``mfb timing table`` writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mace_ft_bench.toml_schema import StrictTable, parse

if TYPE_CHECKING:
    from mace_ft_bench.results.record import Record

PROPERTY = "langevin_steps"
"""In the place of a property's name."""
VERSION = 1
"""Raise it when the same configuration would be timed in another way."""
BUSY = 0.5
"""Load average from which on other work disturbs a timing."""


@dataclass(frozen=True)
class TimingResult(StrictTable):
    """Times of one configuration at one size; also of a configuration that could not run, without times."""

    system: str
    atoms: int
    accelerate: str
    """Asked for; the provenance says what served."""
    dispersion: str
    """Asked for: ``off``, ``on`` or a functional."""
    steps: int
    """Per sample."""
    timestep_fs: float
    temperature_k: float
    friction_per_fs: float
    ms_per_step: tuple[float, ...] = ()
    """One entry per sample."""
    load_average: float | None = None
    """Of the machine over the minute before the timing began; the highest of several sessions."""
    peak_memory_mb: float | None = None
    """Of a process that does nothing else; None if not asked for or unknown."""


def result_of(record: Record) -> TimingResult:
    """Return the result of a record as what it is."""
    return parse(record.result or {}, TimingResult, where=f"the record of {record.case}")


def samples_of(record: Record) -> tuple[float, ...]:
    """Return the times of a record [ms/step]; empty for one that failed."""
    return result_of(record).ms_per_step if record.status == "ok" else ()
