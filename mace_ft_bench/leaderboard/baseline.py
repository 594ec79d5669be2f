"""Baselines: what a model reached on its cases, stored as a TOML file, and whether a new record falls behind it.

A file names the studies that it covers and holds a table per scored case: signed errors, or the status of a case that
ended without them. A case whose settings differ between modes has an entry per mode.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mace_ft_bench.leaderboard.gate import grown
from mace_ft_bench.results.record import FAILED, NOT_COVERED, Status
from mace_ft_bench.toml_schema import StrictTable, parse, read_toml

if TYPE_CHECKING:
    from pathlib import Path

    from mace_ft_bench.results.case import Case
    from mace_ft_bench.results.record import Record


@dataclass(frozen=True)
class Entry(StrictTable):
    """What is stored of one case."""

    status: Status = "ok"
    errors: dict[str, float] = field(default_factory=dict)
    """Signed errors by metric; empty for dynamics, whose averages differ between machines, and for failures."""


@dataclass(frozen=True)
class Baseline(StrictTable):
    """What is stored of one model."""

    studies: tuple[str, ...] = ()
    """Materials whose cases are held."""
    cases: dict[str, Entry] = field(default_factory=dict)
    """By :func:`entry_name`."""
    worse_than_parent: dict[str, str] = field(default_factory=dict)
    """Why the model is allowed to be worse than its parent, by case; written by hand."""


def entry_name(case: Case) -> str:
    """Return ``<case>``, or ``<case> (<mode>)`` where the settings differ between modes."""
    return f"{case.id} ({case.mode})" if case.mode else case.id


def read_baseline(path: Path) -> Baseline:
    """Read a baseline; a file that does not exist is an empty one.

    Raises
    ------
    CardError
        If the file is malformed.
    """
    if not path.is_file():
        return Baseline()
    table = read_toml(path)
    known = {"studies": table.pop("studies", []), "worse_than_parent": table.pop("worse_than_parent", {})}
    cases = {
        name: {"status": stored.pop("status", "ok"), "errors": stored} if isinstance(stored, dict) else stored
        for name, stored in table.items()
    }
    return parse(known | {"cases": cases}, Baseline, where=str(path))


def entry_of(case: Case, record: Record, *, dynamics: bool) -> Entry | None:
    """Return what is to be stored of a record, or None if it does not cover the case.

    Parameters
    ----------
    case
        Whose scored errors are stored.
    record
        Of it.
    dynamics
        Whether it is of molecular dynamics: trajectories are chaotic, so their averages differ by noise between
        machines, and only how they ended is stored.
    """
    if record.status in NOT_COVERED:
        return None
    scored = {} if dynamics else {name: error for name, error in record.errors.items() if name in case.metrics}
    return Entry(record.status, scored)


def to_toml(model: str, baseline: Baseline) -> str:
    """Return the text of a baseline, errors with four digits."""
    lines = [
        f"# Signed errors of {model} on the scored cases of its studies, written by benchmarks/update_baseline.py;",
        "# docs/how-to/update-a-baseline.md says how they change.",
        "",
        f"studies = {json.dumps(list(baseline.studies))}",
    ]
    if baseline.worse_than_parent:
        reasons = sorted(baseline.worse_than_parent.items())
        lines += ["", "[worse_than_parent]", *(f'"{case}" = {json.dumps(why)}' for case, why in reasons)]
    for name, entry in sorted(baseline.cases.items()):
        lines += ["", f'["{name}"]']
        lines += [] if entry.errors else [f'status = "{entry.status}"']
        lines += [f"{metric} = {_number(error)}" for metric, error in entry.errors.items()]
    return "\n".join(lines) + "\n"


def _number(error: float) -> str:
    text = f"{error:.4g}"
    return text if set(text) & set(".e") else f"{text}.0"


def fallen_behind(case: Case, record: Record, entry: Entry | None) -> str:
    """Return what is worse than stored, in words; empty if nothing is.

    A case that failed when the baseline was stored may fail again, but it has to be covered and must not crash. The
    rule for errors is that of :func:`mace_ft_bench.leaderboard.gate.grown`.
    """
    if entry is None:
        return "" if record.status in NOT_COVERED or not case.metrics else "there is no baseline"
    if entry.status in FAILED:
        worse_still = NOT_COVERED | ({"error"} - {entry.status})
        return f"{record.status}: {record.message}" if record.status in worse_still else ""
    if record.status != "ok":
        return f"{record.status}: {record.message}"
    worse = (
        f"{case.metrics[name].label} {entry.errors[name]:+.4g} → {record.errors.get(name, math.nan):+.4g}"
        for name in grown(case, record.errors, entry.errors)
    )
    return ", ".join(worse)
