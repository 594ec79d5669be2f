"""``mfb data sample``: frames from molecular dynamics or Monte Carlo swaps with a model."""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from mace_ft_bench.cli.console import console, error_console, print_json
from mace_ft_bench.cli.data.files import Json, Out, Overwrite, refuse_existing
from mace_ft_bench.cli.data.perturb import MinDistance
from mace_ft_bench.datasets.structure_files import read_structures
from mace_ft_bench.errors import DataError, StructureError

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from mace_ft_bench.datasets.sample import Progress, Sampling
    from mace_ft_bench.datasets.sample_settings import SampleSettings

_EXIT_STOPPED = 1


def sample(
    structure: Annotated[Path, typer.Argument(help="File of one structure, of any format ASE reads.")],
    *,
    model: Annotated[str, typer.Option(help="Name or path of a model.")],
    out: Out,
    temperature: Annotated[list[float], typer.Option(help="Temperature [K]; several are visited one after another.")],
    ensemble: Annotated[str, typer.Option(help="nvt, npt (isotropic) or swap (exchange unlike atoms).")] = "nvt",
    ramp: Annotated[bool, typer.Option("--ramp", help="Go linearly from each temperature to the next.")] = False,
    steps: Annotated[int, typer.Option(help="Steps (or trial swaps) to take frames from, per temperature.")] = 5000,
    equilibration: Annotated[int, typer.Option(help="Steps before that, per temperature.")] = 1000,
    count: Annotated[int | None, typer.Option(help="Most frames per temperature (default: all uncorrelated).")] = None,
    spacing: Annotated[
        int | None, typer.Option(help="Steps between frames (default: the autocorrelation time of the energy).")
    ] = None,
    timestep: Annotated[float, typer.Option(help="[fs]")] = 1.0,
    friction: Annotated[float, typer.Option(help="Of the thermostat [1/fs].")] = 0.01,
    pressure: Annotated[float, typer.Option(help="Of npt [GPa].")] = 0.0,
    min_distance: MinDistance = None,
    seed: Annotated[int, typer.Option(help="Seed of velocities, thermostat and swaps.")] = 0,
    config_type: Annotated[str, typer.Option(help="Group of the frames (default: such as nvt-300K).")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str | None, typer.Option(help="float64 or float32.")] = None,
    dispersion: Annotated[str | None, typer.Option(help="Add the D3 dispersion of this functional.")] = None,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 1000,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Sample a structure; run the same command again to go on after a kill. Exits with 1 if the run exploded."""
    from mace_ft_bench.datasets.perturb import parse_distances  # noqa: PLC0415 - imports scipy
    from mace_ft_bench.datasets.sample_settings import SampleSettings  # noqa: PLC0415 - as above

    settings = SampleSettings(
        ensemble=cast("Any", ensemble),
        temperatures_k=tuple(temperature),
        ramp=ramp,
        equilibration=equilibration,
        production=steps,
        frames=count,
        spacing=spacing,
        timestep_fs=timestep,
        friction_per_fs=friction,
        pressure_gpa=pressure,
        min_distances=parse_distances(min_distance or []),
        seed=seed,
        checkpoint_every=checkpoint_every,
        config_type=config_type,
    )
    refuse_existing(out, overwrite=overwrite, sources=[structure])
    atoms = _one_structure(structure)
    found = _run(atoms, _calculator(model, device, dtype, dispersion), settings, _checkpoint(out))
    _write(found, out, model)
    _print(found, out, as_json=json)
    if found.stopped:
        raise typer.Exit(_EXIT_STOPPED)


def _checkpoint(out: Path) -> Path:
    return out.with_name(f"{out.name}.checkpoint.npz")


def _one_structure(path: Path) -> Atoms:
    structures = read_structures([path])
    if len(structures) > 1:
        raise DataError(f"{path} holds {len(structures)} structures.", fix="give a file of one.")
    return structures[0]


def _calculator(model: str, device: str, dtype: str | None, dispersion: str | None) -> Calculator:
    from mace_ft_bench.calculators.factory import get_calculator  # noqa: PLC0415 - imports torch and mace

    return get_calculator(model, device=device, dtype=dtype, dispersion=dispersion)


def _run(atoms: Atoms, calculator: Calculator, settings: SampleSettings, checkpoint: Path) -> Sampling:
    from mace_ft_bench.datasets.sample import sample as run  # noqa: PLC0415 - beside its use

    total = sum(stage.steps for stage in settings.stages)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=error_console()) as bar:
        task = bar.add_task("step", total=total)

        def show(now: Progress) -> None:
            kinetic = f", now {now.temperature_k:.0f} K" if isfinite(now.temperature_k) else ""
            bar.update(task, completed=now.step, description=f"{now.target_k:.0f} K{kinetic}")

        return run(atoms, calculator, settings, checkpoint=checkpoint, on_progress=show)


def _write(found: Sampling, out: Path, model: str) -> None:
    from mace_ft_bench.datasets.frames import write_extxyz  # noqa: PLC0415 - imports ASE's formats

    checkpoint = _checkpoint(out)
    if not found.frames:
        checkpoint.unlink()
        raise StructureError(
            f"The run ended before the first frame: {found.stopped}.",
            fix="lower the temperature or the timestep, or relax the structure.",
        )
    for frame in found.frames:
        frame.info["sample_model"] = model
    write_extxyz(found.frames, out)
    checkpoint.unlink()


def _print(found: Sampling, out: Path, *, as_json: bool) -> None:
    if as_json:
        stages = [
            {key: value if isfinite(value) else None for key, value in asdict(report).items()}
            for report in found.stages
        ]
        print_json({"out": out, "frames": len(found.frames), "stopped": found.stopped, "stages": stages})
        return
    table = Table("target [K]", "mean [K]", "energy [eV]", "correlated over [steps]", "spacing [steps]", "frames", "")
    for report in found.stages:
        kinetic = f"{report.kinetic_temperature_k:.0f}" if isfinite(report.kinetic_temperature_k) else ""
        cells = (f"{report.temperature_k:.0f}", kinetic, f"{report.energy_ev:.4f}", f"{report.correlation_steps:.0f}")
        notes = [] if report.is_long_enough else ["short: frames may be correlated"]
        if not report.is_thermal:
            notes.append("temperature off target: shorten the timestep or equilibrate longer")
        table.add_row(*cells, str(report.spacing), str(report.frames), "\n".join(notes))
    console().print(table)
    if found.stopped:
        console().print(f"[bold red]Stopped:[/] {escape(found.stopped)}. What came before is kept.", soft_wrap=True)
    console().print(f"{len(found.frames)} frames: {out}", soft_wrap=True, markup=False)
