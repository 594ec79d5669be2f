"""``mfb timing table``: seconds of molecular dynamics over sizes, accelerators, dispersion, dtypes and devices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mace_ft_bench.cli.console import console, error_console
from mace_ft_bench.cli.signals import EXIT_INTERRUPTED
from mace_ft_bench.cli.suite import split_names
from mace_ft_bench.errors import DataError, UnknownNameError, suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mace_ft_bench.results.record import Record


def table(
    *,
    model: Annotated[str, typer.Option(help="Name or file of a model.")] = "graphene-oxide-ft",
    system: Annotated[
        str, typer.Option(help="graphene-water, molybdenum, or a structure file, which is repeated.")
    ] = "graphene-water",
    sizes: Annotated[str, typer.Option(help="Numbers of atoms.")] = "128,372,1038,2900",
    accelerate: Annotated[str, typer.Option(help="Of auto, off, e3nn, cueq, fused.")] = "auto,e3nn,cueq,fused",
    dispersion: Annotated[
        str, typer.Option(help="off, on (D3 for the functional of the model's card), or functionals.")
    ] = "off,on",
    dtype: Annotated[str, typer.Option(help="float32, float64.")] = "float32,float64",
    device: Annotated[str, typer.Option(help="cpu, cuda.")] = "cpu,cuda",
    repeats: Annotated[int, typer.Option(min=1, help="Samples of every configuration, in turns.")] = 5,
    steps: Annotated[int, typer.Option(min=1, help="Steps of a sample.")] = 20,
    temperature: Annotated[float, typer.Option(help="Of the Langevin thermostat [K].")] = 300.0,
    timestep: Annotated[float, typer.Option(help="[fs]")] = 1.0,
    memory: Annotated[
        bool, typer.Option("--memory", help="Also measure the peak memory, each in a process of its own.")
    ] = False,
    head: Annotated[str | None, typer.Option(help="Head of a model with several.")] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Allow a model that is a pickled .model file.")] = False,
    out: Annotated[Path, typer.Option(help="Folder; what it holds already is not timed again.")] = Path("timing"),
) -> None:
    """Time Langevin dynamics of every configuration in turns; the same command goes on, also to more repeats.

    Writes timing.html, .svg, .md, .csv and .json. What cannot run here is listed with its reason.
    """
    from mace_ft_bench.calculators.acceleration import ACCELERATORS  # noqa: PLC0415 - imports torch
    from mace_ft_bench.calculators.factory import DEVICES, DTYPES  # noqa: PLC0415 - as above
    from mace_ft_bench.leaderboard import timing_page  # noqa: PLC0415 - imports matplotlib
    from mace_ft_bench.results import timing_table  # noqa: PLC0415 - imports torch
    from mace_ft_bench.results.model_spec import model_spec  # noqa: PLC0415 - as above
    from mace_ft_bench.results.store import RecordStore  # noqa: PLC0415 - as above
    from mace_ft_bench.timing.dynamics import Protocol  # noqa: PLC0415 - as above
    from mace_ft_bench.timing.steps import Thermostat  # noqa: PLC0415 - as above

    grid = timing_table.Grid(
        system=system,
        sizes=_sizes(sizes),
        accelerate=_known("accelerate", accelerate, ACCELERATORS),
        dispersion=_dispersion(dispersion),
        dtypes=_known("dtype", dtype, DTYPES),
        devices=_known("device", device, [name for name in DEVICES if name != "auto"]),
    )
    protocol = Protocol(Thermostat(_positive("temperature", temperature), _positive("timestep", timestep)), steps)
    store = RecordStore(out)
    tasks = timing_table.plan(model_spec(model, head=head, trust=trust), grid, protocol)
    _warn_if_busy()
    try:
        records = _run(tasks, store, repeats, memory=memory)
    except KeyboardInterrupt:
        console().print("Interrupted. Every finished round is stored; the same command continues.")
        if records := timing_table.records_of(tasks, store):
            timing_page.write_timing(records, out)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    page = timing_page.write_timing(records, out)
    _show(records)
    console().print(f"page: {page.resolve()}", soft_wrap=True, markup=False, highlight=False)
    if any(record.status == "error" for record in records):
        raise typer.Exit(1)


def _run(tasks: list[Any], store: Any, repeats: int, *, memory: bool) -> list[Record]:  # noqa: ANN401 - of modules that import torch
    from mace_ft_bench.results.timing_table import run_table  # noqa: PLC0415 - imports torch

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=error_console()) as progress:
        bar = progress.add_task("configurations", total=len(tasks))

        def show(record: Record, done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total, description=escape(record.case))
            if record.status != "ok":
                asked = (record.result or {})["accelerate"]
                where = f"{record.case}, {asked}, {record.provenance.dtype}, {record.provenance.device}"
                progress.print(f"[yellow]{escape(where)}:[/] {escape(record.message)}", soft_wrap=True, highlight=False)

        return run_table(tasks, store, repeats=repeats, memory=memory, on_record=show)


def _warn_if_busy() -> None:
    from mace_ft_bench.results.machine import load_average  # noqa: PLC0415 - beside its only use
    from mace_ft_bench.results.timing_record import BUSY  # noqa: PLC0415 - as above

    load = load_average()
    if load is not None and load > BUSY:
        error_console().print(
            f"[yellow]warning:[/] the load average is {load:.1f}: other work makes times longer; better wait for it.",
            highlight=False,
            soft_wrap=True,
        )


def _show(records: list[Record]) -> None:
    from mace_ft_bench.leaderboard import timing_page  # noqa: PLC0415 - imports matplotlib

    report = timing_page.TimingReport.of(records)
    screen = console()
    for title, found in (
        (f"{report.model}, {report.protocol.system}: steps", timing_page.times_table(report)),
        ("ten thousand steps", timing_page.summary_table(report)),
        ("what could not run", timing_page.refused_table(report)),
        *([(report.published.task, timing_page.published_table(report.published))] if report.published else []),
    ):
        if found.rows:
            shown = Table(*map(escape, found.titles), title=escape(title))
            for row in found.rows:
                shown.add_row(*map(escape, row))
            screen.print(shown)


def _known(option: str, text: str, known: Iterable[str]) -> tuple[str, ...]:
    names = split_names(text, f"--{option}")
    for name in names:
        if name not in known:
            raise UnknownNameError(f'--{option} "{name}" does not exist.', fix=suggestion(name, known))
    return names


def _dispersion(text: str) -> tuple[str, ...]:
    """Return what dispersion is asked for; a functional that D3 does not know is refused here."""
    from mace_ft_bench.calculators.d3.parameters import damping_parameters  # noqa: PLC0415 - imports torch-dftd
    from mace_ft_bench.calculators.d3.settings import D3Settings  # noqa: PLC0415 - beside its only use

    names = split_names(text, "--dispersion")
    for name in names:
        if name not in {"off", "on"}:
            damping_parameters(D3Settings(functional=name))
    return names


def _sizes(text: str) -> tuple[int, ...]:
    names = split_names(text, "--sizes")
    if not all(name.isdecimal() and int(name) > 0 for name in names):
        raise DataError(f'--sizes "{text}" is no list of numbers of atoms.', fix="write for example 128,372,1038.")
    return tuple(map(int, names))


def _positive(option: str, value: float) -> float:
    if not 0 < value < float("inf"):
        raise DataError(f"--{option} {value} is not positive.", fix="use the default.")
    return value
