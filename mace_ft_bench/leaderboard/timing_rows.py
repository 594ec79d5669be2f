"""The numbers of a table of timed dynamics, from its records; figure, page, Markdown, CSV and JSON show these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mace_ft_bench import paths
from mace_ft_bench.errors import CardError
from mace_ft_bench.results.timing_record import result_of, samples_of
from mace_ft_bench.timing.scaling import PowerLaw, fit_power_law
from mace_ft_bench.toml_schema import StrictTable, parse, read_toml

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_ft_bench.results.record import Record

STEPS = 10_000
"""Steps whose time is shown, those of the tutorial's table."""
_MS_PER_DAY_OVER_FS_PER_NS = 86.4
"""Nanoseconds a day of one femtosecond every millisecond."""


class Way(NamedTuple):
    """How dynamics were run: one curve."""

    device: str
    dtype: str
    dispersion: str
    accelerate: str

    def __str__(self) -> str:
        return f"{self.accelerate}, {self.dispersion_text}, {self.dtype}, {self.device}"

    @property
    def dispersion_text(self) -> str:
        """The dispersion in words."""
        return {"off": "no D3", "on": "D3"}.get(self.dispersion, f"D3 ({self.dispersion})")


@dataclass(frozen=True)
class TimingRow:
    """One configuration at one size."""

    atoms: int
    way: Way
    used: str
    """Accelerator that served; empty where it could not run."""
    samples: tuple[float, ...]
    """[ms/step]; empty where it could not run."""
    hardware: str
    threads: int
    load_average: float | None
    """Over the minute before the timing."""
    peak_memory_mb: float | None
    timestep_fs: float
    status: str
    reason: str
    """Why there is no time."""

    @property
    def quartiles(self) -> tuple[float, float, float] | None:
        """First quartile, median and third quartile [ms/step]."""
        if not self.samples:
            return None
        first, second, third = np.percentile(self.samples, [25, 50, 75])
        return float(first), float(second), float(third)

    @property
    def ms_per_step(self) -> float | None:
        """Median time of a step."""
        return self.quartiles[1] if self.quartiles else None

    @property
    def us_per_atom(self) -> float | None:
        """Median time per step and atom."""
        return 1000 * self.ms_per_step / self.atoms if self.ms_per_step else None

    @property
    def seconds(self) -> float | None:
        """Time of :data:`STEPS` steps."""
        return STEPS * self.ms_per_step / 1000 if self.ms_per_step else None

    @property
    def ns_per_day(self) -> float | None:
        """Simulated time a day."""
        return _MS_PER_DAY_OVER_FS_PER_NS * self.timestep_fs / self.ms_per_step if self.ms_per_step else None


def timing_rows(records: Sequence[Record]) -> list[TimingRow]:
    """Return the rows of records, in their order."""
    return [_row(record) for record in records]


def _row(record: Record) -> TimingRow:
    result, origin = result_of(record), record.provenance
    ran = record.status == "ok"
    return TimingRow(
        atoms=result.atoms,
        way=Way(origin.device, origin.dtype, result.dispersion, result.accelerate),
        used=origin.accelerator if ran else "",
        samples=samples_of(record),
        hardware=origin.hardware,
        threads=origin.threads,
        load_average=result.load_average,
        peak_memory_mb=result.peak_memory_mb,
        timestep_fs=result.timestep_fs,
        status=record.status,
        reason=record.message,
    )


def power_laws(rows: Sequence[TimingRow]) -> dict[Way, PowerLaw | None]:
    """Return the power law through the medians of every way that has times; None for one size."""
    found: dict[Way, PowerLaw | None] = {}
    for way in dict.fromkeys(row.way for row in rows):
        points = [(row.atoms, row.ms_per_step) for row in rows if row.way == way and row.ms_per_step]
        if points:
            found[way] = fit_power_law(*zip(*points, strict=True))
    return found


@dataclass(frozen=True)
class PublishedCurve(StrictTable):
    """Published times of one way."""

    name: str
    seconds: tuple[float, ...]
    """As printed."""
    exponent_as_printed: float | None = None


@dataclass(frozen=True)
class PublishedTimes(StrictTable):
    """Published times of a system: other hardware and another model, shown beside ours and never mixed with them."""

    system: str
    label: str
    source: str
    task: str
    steps: int
    timestep_fs: float
    atoms: tuple[int, ...]
    curves: tuple[PublishedCurve, ...]

    def __post_init__(self) -> None:
        if any(len(curve.seconds) != len(self.atoms) for curve in self.curves):
            raise CardError(f"{self.label}: a curve has not one time per size.", fix="give as many as atoms.")

    def ms_per_step(self, curve: PublishedCurve) -> list[float]:
        """Return the times of a curve."""
        return [1000 * seconds / self.steps for seconds in curve.seconds]

    def law(self, curve: PublishedCurve) -> PowerLaw | None:
        """Return the power law fitted to the printed times."""
        return fit_power_law(self.atoms, self.ms_per_step(curve))


def published_times(system: str) -> PublishedTimes | None:
    """Return the published times of a system, or None if there are none."""
    path = paths.reference_data() / "timings" / f"{system}.toml"
    return parse(read_toml(path), PublishedTimes, where=str(path)) if path.is_file() else None
