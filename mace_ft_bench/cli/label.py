"""``mfb label``: structures in, frames with energies, forces and stresses out."""

from __future__ import annotations

import contextlib
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from mace_ft_bench.cli.console import console, error_console, print_json
from mace_ft_bench.cli.data.files import Json
from mace_ft_bench.cli.default_command import group_with_default
from mace_ft_bench.cli.signals import EXIT_INTERRUPTED, ending_on_sigterm
from mace_ft_bench.datasets.structure_files import read_structures
from mace_ft_bench.errors import CardError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mace_ft_bench.labelling.converge import Convergence
    from mace_ft_bench.labelling.run import Labelling

app = typer.Typer(
    help="Label structures by DFT, or test the settings of it: `mfb label FRAMES`, `mfb label converge FRAMES`.",
    cls=group_with_default("run"),
    no_args_is_help=True,
)

Structures = Annotated[list[Path], typer.Argument(help="Files of any format ASE reads; every structure in them.")]
Settings = Annotated[Path, typer.Option(help="The calculator and its arguments (TOML).", exists=True, dir_okay=False)]
Folder = Annotated[Path, typer.Option(help="Folder for the frames; run again to go on.", file_okay=False)]
Processes = Annotated[int, typer.Option(help="Frames labelled at the same time.", min=1)]
Retry = Annotated[bool, typer.Option("--retry", help="Try frames again that failed.")]


@contextlib.contextmanager
def _saying_how_to_go_on() -> Iterator[None]:
    try:
        with ending_on_sigterm():
            yield
    except KeyboardInterrupt:
        error_console().print("Interrupted; what is done is kept. The same command goes on.")
        raise typer.Exit(EXIT_INTERRUPTED) from None


@app.command("run")
def run(
    structures: Structures,
    *,
    settings: Settings,
    out: Folder,
    processes: Processes = 1,
    retry: Retry = False,
    json: Json = False,
) -> None:
    """Label structures (`mfb label FRAMES`), or go on; writes frames/0000.xyz and so on, and labelled.xyz.

    Exits with 1 if a frame could not be labelled.
    """
    from mace_ft_bench.labelling.run import label  # noqa: PLC0415 - imports ASE's formats
    from mace_ft_bench.labelling.settings import load_settings  # noqa: PLC0415 - as above

    wanted, frames = load_settings(settings), read_structures(structures)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with _saying_how_to_go_on(), Progress(*columns, TimeRemainingColumn(), console=error_console()) as bar:
        task = bar.add_task("frame", total=len(frames))

        def show(done: int, failed: int) -> None:
            bar.update(task, completed=done + failed, description=f"{failed} failed, frame" if failed else "frame")

        found = label(frames, wanted, out, processes=processes, retry=retry, on_progress=show)
    if json:
        print_json(asdict(found))
    else:
        _print_labelling(found)
    if found.failures:
        raise typer.Exit(1)


def _print_labelling(found: Labelling) -> None:
    if found.failures:
        table = Table("frame", "group", "why it has no label", "what the program wrote")
        for one in found.failures:
            table.add_row(str(one.index), *map(escape, (one.config_type, one.reason, one.outputs)))
        console().print(table)
    if found.elsewhere:
        console().print(f"{found.elsewhere} frames are left to another run on this folder.")
    console().print(f"{found.labelled} labelled frames: {found.path}", soft_wrap=True, markup=False, highlight=False)


@app.command("converge")
def converge(
    structures: Structures,
    *,
    settings: Settings,
    vary: Annotated[
        str, typer.Option(help='An argument and its values, the finest last: "mode.ecut=400,600,800".', metavar="KEY=V")
    ],
    out: Folder,
    processes: Processes = 1,
    retry: Retry = False,
    json: Json = False,
) -> None:
    """Label a few structures with several values of one setting, and compare with the last, the finest."""
    from mace_ft_bench.labelling.converge import converge as compare  # noqa: PLC0415 - imports ASE's formats
    from mace_ft_bench.labelling.settings import load_settings  # noqa: PLC0415 - as above

    key, values = parse_variation(vary)
    wanted, frames = load_settings(settings), read_structures(structures)
    with _saying_how_to_go_on(), error_console().status("Labelling") as status:
        found = compare(
            frames,
            wanted,
            key,
            values,
            out,
            processes=processes,
            retry=retry,
            on_value=lambda value: status.update(escape(f"Labelling with {key} = {value}")),
        )
    if json:
        print_json([asdict(one) for one in found])
    else:
        console().print(_convergence_table(key, values[-1], found))


def parse_variation(text: str) -> tuple[str, list[Any]]:
    """Return the name of an argument and its values, as TOML writes them.

    Raises
    ------
    CardError
        If the text is not ``key=value,value``.
    """
    key, equals, values = text.partition("=")
    try:
        if not equals or not key.strip():
            raise ValueError(text)  # noqa: TRY301 - one message for both
        return key.strip(), tomllib.loads(f"values = [{values}]")["values"]
    except ValueError as error:
        raise CardError(
            f'"{text}" is no argument with values.', fix='write "mode.ecut=400,600" or "kpts.size=[2, 2, 1],[4, 4, 1]".'
        ) from error


def _convergence_table(key: str, finest: Any, found: list[Convergence]) -> Table:  # noqa: ANN401 - any TOML value
    title = escape(
        f"differences from {key} = {finest} (root mean squares; of energies but for a zero of every element)"
    )
    table = Table(escape(key), "E [meV/atom]", "F [meV/Å]", "S [GPa]", "time per frame [s]", title=title)
    for one in found:
        stress = "–" if one.stress_gpa is None else f"{one.stress_gpa:.3f}"
        row = (f"{one.energy_mev_per_atom:.2f}", f"{one.force_mev_per_a:.1f}", stress, f"{one.seconds_per_frame:.0f}")
        table.add_row(escape(str(one.value)), *row)
    return table
