"""``mfb report``: the leaderboard of a results folder."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mace_ft_bench import __version__
from mace_ft_bench.cli.console import console
from mace_ft_bench.errors import StoreError
from mace_ft_bench.results.case import mode_named, select_cases

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mace_ft_bench.results.case import Mode
    from mace_ft_bench.results.record import Record
    from mace_ft_bench.results.selection import Identity


_STAMP = ".leaderboard.sha256"
"""File that says from what the leaderboard was written."""


def report(
    results: Annotated[Path, typer.Argument(help="Results folder of `mfb run`.")] = Path("results"),
    *,
    mode: Annotated[
        str | None, typer.Option(help="Whose records: quick, standard or full (default: those run last).")
    ] = None,
) -> None:
    """Write leaderboard.html, .md, .csv and .json from the records of a results folder."""
    build_report(results, mode=None if mode is None else mode_named(mode))


def build_report(
    results: Path,
    *,
    mode: Mode | None = None,
    chosen: Mapping[str, Identity] | None = None,
    only_if_changed: bool = False,
) -> None:
    """Write the leaderboard and print where it is.

    Parameters
    ----------
    results
        Results folder.
    mode
        Cases have the settings of this mode; by default of that of the last record that has one.
    chosen
        What model names stand for; by default what their last records say.
    only_if_changed
        Leave a leaderboard as it is that was written from the same records, cards and version of this package: drawing
        it takes longer than finding out that nothing is to be run.

    Raises
    ------
    StoreError
        If the folder holds no records, or none of that mode.
    """
    from mace_ft_bench.leaderboard.score import is_of_mode  # noqa: PLC0415 - beside its use
    from mace_ft_bench.properties.base import all_properties  # noqa: PLC0415 - imports ASE
    from mace_ft_bench.results.selection import consistent_records  # noqa: PLC0415 - beside its use
    from mace_ft_bench.results.store import RecordStore  # noqa: PLC0415 - beside its use
    from mace_ft_bench.toml_schema import parse  # noqa: PLC0415 - beside its use
    from mace_ft_bench.zoo.registry import list_models  # noqa: PLC0415 - beside its use

    properties = all_properties()
    versions = {name: item.version for name, item in properties.items()}
    records = consistent_records(RecordStore(results).all(), versions=versions, chosen=chosen)
    if not records:
        raise StoreError(f"{results} holds no records.", fix=f"run `mfb run --out {results}` first.")
    mode = mode or _last_mode(records)
    known = {case.id: case for case in select_cases(["*"], mode=mode)}
    attempted = {record.case for record in records if record.case in known and is_of_mode(record, known[record.case])}
    cases = [case for name, case in known.items() if name in attempted]
    if not cases:
        raise StoreError(f"{results} holds no records of mode {mode}.", fix=f"run `mfb run --mode {mode}` first.")
    model_info = {
        card.name: {
            "functional": card.functional,
            "licence": card.licence,
            "parameters": f"{card.parameters:,}",
            "description": card.description,
            "heads": ", ".join(card.heads),
        }
        for card in list_models()
    }
    settings = {
        case.id: asdict(parse(case.settings, properties[case.property].settings, where=f"[settings] of {case.id}"))
        for case in cases
    }
    paths = [results / f"leaderboard.{end}" for end in ("html", "md", "csv", "json")]
    stamp, content = results / _STAMP, _digest(__version__, records, cases, model_info, settings)
    written = stamp.is_file() and all(path.is_file() for path in paths)
    if not (only_if_changed and written and stamp.read_text(encoding="utf-8") == content):
        from mace_ft_bench.leaderboard.report import write_report  # noqa: PLC0415 - imports matplotlib

        stamp.unlink(missing_ok=True)
        write_report(records, cases, results, model_info=model_info, settings=settings)
        stamp.write_text(content, encoding="utf-8")
    for label, path in zip(("leaderboard:", "", "", ""), paths, strict=True):
        console().print(f"{label:12} {path.resolve()}", soft_wrap=True, markup=False)


def _digest(*content: object) -> str:
    """Return a hash of plain data and dataclasses of it."""
    return hashlib.sha256(repr(content).encode()).hexdigest()


def _last_mode(records: Sequence[Record]) -> Mode:
    names = [record.mode for record in records if record.mode]
    return mode_named(names[-1]) if names else "standard"
