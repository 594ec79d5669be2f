"""Where the numbers of a case come from: its settings, what produced each record, and the command that repeats them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mace_ft_bench.leaderboard import wording
from mace_ft_bench.leaderboard.wording import NONE
from mace_ft_bench.results.case import DatasetStructure
from mace_ft_bench.results.record import NOT_COVERED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mace_ft_bench.leaderboard.board import Board
    from mace_ft_bench.results.case import Case
    from mace_ft_bench.results.record import Record

PROVENANCE = ("head", "dtype", "device", "accelerator", "dispersion", "threads", "hardware")
"""Fields of a record's provenance that the report shows."""

ORIGIN = ("status", "started", "wall time", "weights", *PROVENANCE, "property version", "packages")
"""Columns of the origins of a case."""

_HASH = 12
"""Characters of a checksum that a table shows; all of them stand in the table of the models and in the JSON file."""


@dataclass(frozen=True)
class SettingRow:
    """One setting in force."""

    name: str
    value: str
    from_card: bool
    """Whether the card sets it; otherwise it is the default of the property."""


def settings_in_force(board: Board, case: Case) -> list[SettingRow]:
    """Return the settings that a case runs with, those of nested tables named ``table.name``."""
    given = dict(_flat(case.settings))
    every = dict(_flat(board.settings.get(case.id, case.settings)))
    return [SettingRow(name, _plain(value), name in given) for name, value in every.items()]


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _plain(value: object) -> str:
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_plain(item) for item in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def package_sets(board: Board) -> list[dict[str, str]]:
    """Return the different sets of package versions that records were made with."""
    found: list[dict[str, str]] = []
    for record in board.records.values():
        if record.provenance.package_versions not in found:
            found.append(record.provenance.package_versions)
    return found


@dataclass(frozen=True)
class OriginRow:
    """What produced the record of one model in a case."""

    model: str
    facts: Mapping[str, str]
    """By the names of :data:`ORIGIN`."""
    packages: int
    """Number of its set of :func:`package_sets`, from 1."""


def origins(board: Board, case: Case) -> list[OriginRow]:
    """Return what produced each record of a case, in order of the models."""
    sets = package_sets(board)
    records = [board.records[model, case.id] for model in board.models if (model, case.id) in board.records]
    return [_origin(record, sets.index(record.provenance.package_versions) + 1) for record in records]


def _origin(record: Record, packages: int) -> OriginRow:
    origin = record.provenance
    facts = {
        "status": record.status.replace("_", " "),
        "started": origin.started or NONE,
        "wall time": wording.duration(record.wall_s),
        "weights": weights_name(origin.model_sha256)[:_HASH] or NONE,
        **{name: str(getattr(origin, name) or NONE) for name in PROVENANCE},
        "property version": str(origin.property_version),
        "packages": f"set {packages}",
    }
    return OriginRow(record.model, facts, packages)


_USUAL_MODE = "standard"
"""The mode of a command that names none."""


def commands(board: Board, case: Case) -> list[str]:
    """Return the commands that repeat a case on all models that were run, one per device and head to be named."""
    groups: dict[tuple[str, str], list[str]] = {}
    for model in board.models:
        record = board.records.get((model, case.id))
        if record:
            head = record.provenance.head if _names_its_head(board, model) else ""
            groups.setdefault((head, record.provenance.device), []).append(model)
    return [_command(case, models, head, device) for (head, device), models in groups.items()]


def _names_its_head(board: Board, model: str) -> bool:
    """Say whether a model has to be told its head: one with several, or a file that nobody described."""
    facts = board.model_info.get(model)
    return facts is None or "," in facts.get("heads", "")


def _mode_to_name(case: Case) -> str:
    """Return the mode that a command has to name: none where the usual one runs the case as it was run."""
    mode = case.mode or (_USUAL_MODE if _USUAL_MODE in case.runs_in else case.runs_in[0])
    return "" if mode == _USUAL_MODE else mode


def _command(case: Case, models: Sequence[str], head: str, device: str) -> str:
    words = ["mfb", "run", "--models", ",".join(models), "--cases", case.id]
    words += ["--mode", mode] if (mode := _mode_to_name(case)) else []
    words += ["--device", device] if device else []
    words += ["--head", head] if head else []
    words += ["--trust"] if any(model.endswith(".model") for model in models) else []
    words += ["--fetch"] if case.frames or isinstance(case.structure, DatasetStructure) else []
    return shlex.join(words)


@dataclass(frozen=True)
class ProvenanceRow:
    """What produced the records of a model; several settings are separated by commas."""

    model: str
    facts: Mapping[str, str]


def provenance_rows(board: Board) -> list[ProvenanceRow]:
    """Return the settings and hardware of each model's records, of those that computed something if there are any."""
    return [ProvenanceRow(model, _facts(board, model)) for model in board.models]


def _facts(board: Board, model: str) -> dict[str, str]:
    records = [record for (name, _), record in board.records.items() if name == model]
    computed = [record for record in records if record.status not in NOT_COVERED]
    origins = [record.provenance for record in computed or records]
    facts = {name: _distinct(getattr(origin, name) for origin in origins) for name in PROVENANCE}
    return {"sha256": _distinct(weights_name(origin.model_sha256) for origin in origins), **facts}


def weights_name(sha256: str) -> str:
    """Return the checksum of weights, or what makes a model that a package ships; versions are told elsewhere."""
    return sha256.partition("@")[0]


def versions(board: Board) -> dict[str, str]:
    """Return the versions of the packages that were used, by package."""
    tables = [record.provenance.package_versions for record in board.records.values()]
    names = sorted({name for table in tables for name in table})
    return {name: _distinct(table.get(name, "") for table in tables) for name in names}


def last_started(board: Board) -> str:
    """Return the date of the youngest record, empty if none has one."""
    return max((record.provenance.started for record in board.records.values()), default="")[:10]


def _distinct(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value)) or NONE
