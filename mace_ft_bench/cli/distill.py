"""``mfb distill``: training frames labelled by a teacher."""

from __future__ import annotations

import functools
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mace_ft_bench.cli.console import console, error_console, print_json
from mace_ft_bench.cli.data import Mirror
from mace_ft_bench.cli.data.files import Json

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

    from mace_ft_bench.learning.distill import Distilled
    from mace_ft_bench.learning.overview import FamilySummary
    from mace_ft_bench.learning.recipe import DistillConfig
    from mace_ft_bench.learning.references import Comparison

_MILLI = 1000.0


def distill(
    recipe: Annotated[Path, typer.Argument(help="A recipe (TOML).", exists=True, dir_okay=False)],
    *,
    out: Annotated[Path, typer.Option(help="Folder for the frames; run again to go on.", file_okay=False)],
    mirror: Mirror = None,
    workers: Annotated[int, typer.Option(help="Processes that label, one thread each.", min=1)] = 1,
    check: Annotated[
        bool, typer.Option(help="Compare the teacher with the recipe's real frames (a minute for a hundred).")
    ] = True,
    json: Json = False,
) -> None:
    """Label structures with a teacher; writes train.xyz, valid.xyz, test.xyz and overview.png."""
    from mace_ft_bench.learning import overview  # noqa: PLC0415 - imports matplotlib
    from mace_ft_bench.learning.recipe import load_recipe  # noqa: PLC0415 - beside its use

    config = load_recipe(recipe)
    found = _label(config, out, mirror, workers)
    families = overview.summarise(found.splits)
    frames = [frame for of_split in found.splits.values() for frame in of_split]
    overview.draw(frames, config.elements, out / "overview.png")
    compared = _compare(config, mirror) if check and config.real else None
    if json:
        print_json(_plain(found, families, compared, out))
        return
    _print_families(found, families)
    if compared is not None:
        _print_comparison(compared)
    console().print(f"frames: {out}", soft_wrap=True, markup=False)


def _label(config: DistillConfig, out: Path, mirror: Path | None, workers: int) -> Distilled:
    from mace_ft_bench.learning.distill import distill as run  # noqa: PLC0415 - imports ASE's readers

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=error_console()) as bar:
        task = bar.add_task("job", total=None)
        return run(
            config,
            out,
            functools.partial(_calculator, config.teacher),
            make_driver=_calculator,
            mirror=mirror,
            workers=workers,
            on_job=lambda done, total: bar.update(task, completed=done, total=total),
        )


@functools.cache
def _calculator(name: str) -> Calculator:
    """Return a calculator on one thread, built once per process: small cells gain nothing from more."""
    import torch  # noqa: PLC0415 - slow to import

    from mace_ft_bench.calculators.factory import get_calculator  # noqa: PLC0415 - imports torch and mace

    torch.set_num_threads(1)
    return get_calculator(name)


def _compare(config: DistillConfig, mirror: Path | None) -> Comparison:
    from mace_ft_bench.learning import distill as distilling  # noqa: PLC0415 - imports ASE's readers
    from mace_ft_bench.learning import references  # noqa: PLC0415 - as above

    frames = distilling.real_frames(config, mirror=mirror)
    return references.compare(frames, _calculator(config.teacher), distilling.correction_of(config))


def _print_families(found: Distilled, families: list[FamilySummary]) -> None:
    table = Table("family", *found.splits, "atoms", "E [eV/atom]", "largest |F| [eV/Å]", "refused", "violent")
    for one in families:
        low, high = one.energy_ev_per_atom
        table.add_row(
            escape(one.family),
            *(str(one.frames[split]) for split in found.splits),
            f"{one.atoms[0]} to {one.atoms[2]}",
            f"{low:.2f} to {high:.2f}",
            f"{one.largest_force_ev_per_a[1]:.1f} (median {one.largest_force_ev_per_a[0]:.1f})",
            str(found.refused.get(one.family, 0)),
            str(found.violent.get(one.family, 0)),
        )
    totals = [str(len(frames)) for frames in found.splits.values()]
    table.add_row("all", *totals, "", "", "", str(sum(found.refused.values())), str(sum(found.violent.values())))
    console().print(table)
    stopped = {family: number for family, number in found.stopped.items() if number}
    if stopped:
        runs = ", ".join(f"{number} of {family}" for family, number in stopped.items())
        console().print(f"Runs of dynamics that ended early: {runs}; the frames before are kept.", soft_wrap=True)


def _print_comparison(compared: Comparison) -> None:
    table = Table("element", "frames", "constant [meV/atom]", title="teacher less real labels, fitted per element")
    for symbol, constant in compared.per_element_ev.items():
        table.add_row(symbol, str(compared.frames_with(symbol)), f"{_MILLI * constant:.0f}")
    console().print(table)
    energies = _MILLI * compared.energies
    console().print(
        f"{len(compared.frames)} real frames ({compared.refused} refused): energies differ by "
        f"{energies.mean():.0f} meV/atom in the mean, {abs(energies).mean():.0f} in absolute value; "
        f"{_MILLI * (compared.after_fit**2).mean() ** 0.5:.0f} (root mean square) after the fit. "
        f"Forces: {_MILLI * compared.force_rmse_ev_per_a:.0f} meV/Å (root mean square).",
        soft_wrap=True,
        highlight=False,
    )


def _plain(
    found: Distilled, families: list[FamilySummary], compared: Comparison | None, out: Path
) -> dict[str, object]:
    return {
        "out": out,
        "frames": {split: len(frames) for split, frames in found.splits.items()},
        "families": [asdict(one) for one in families],
        "refused": found.refused,
        "violent": found.violent,
        "stopped": found.stopped,
        "real": asdict(compared) if compared is not None else None,
    }
