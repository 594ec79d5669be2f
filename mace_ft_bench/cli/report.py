"""``mfb report``: the leaderboard of a results folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mace_ft_bench.cli.console import console
from mace_ft_bench.errors import StoreError
from mace_ft_bench.results.case import mode_named, select_cases

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mace_ft_bench.results.case import Mode
    from mace_ft_bench.results.record import Record
    from mace_ft_bench.results.selection import Identity


def report(
    results: Annotated[Path, typer.Argument(help="Results folder of `mfb run`.")] = Path("results"),
    *,
    mode: Annotated[
        str | None, typer.Option(help="Whose records: quick, standard or full (default: those run last).")
    ] = None,
) -> None:
    """Write leaderboard.html, .md, .csv and .json from the records of a results folder."""
    build_report(results, mode=None if mode is None else mode_named(mode))


def build_report(results: Path, *, mode: Mode | None = None, chosen: Mapping[str, Identity] | None = None) -> None:
    """Write the leaderboard and print where it is.

    Parameters
    ----------
    results
        Results folder.
    mode
        Cases have the settings of this mode; by default of that of the last record that has one.
    chosen
        What model names stand for; by default what their last records say.

    Raises
    ------
    StoreError
        If the folder holds no records, or none of that mode.
    """
    from mace_ft_bench.leaderboard.report import write_report  # noqa: PLC0415 - imports matplotlib
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
    written = write_report(records, cases, results, model_info=model_info, settings=settings)
    for label, path in (
        ("leaderboard:", written.html),
        ("", written.markdown),
        ("", written.csv),
        ("", written.json),
    ):
        console().print(f"{label:12} {path.resolve()}", soft_wrap=True, markup=False)


def _last_mode(records: Sequence[Record]) -> Mode:
    names = [record.mode for record in records if record.mode]
    return mode_named(names[-1]) if names else "standard"
