"""``mfb timing``: our calculators beside their peers, on this machine; the table is a module of its own."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from mace_ft_bench.cli import timing_table
from mace_ft_bench.cli.console import console, error_console, print_json
from mace_ft_bench.cli.default_command import group_with_default
from mace_ft_bench.errors import UnknownNameError, suggestion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

app = typer.Typer(
    help="Time steps: `mfb timing table` over sizes and configurations; `mfb timing [TASK...]` beside our peers.",
    cls=group_with_default("compare", alone=True),
)
app.command("table")(timing_table.table)

TASKS = ("steps", "accelerators", "batches", "growth", "skin", "dispersion")


@app.command("compare")
def compare(
    tasks: Annotated[list[str] | None, typer.Argument(help=f"What to time: {', '.join(TASKS)}; default all.")] = None,
    *,
    model: Annotated[str, typer.Option(help="Embedded MACE model of molybdenum.")] = "mo-ft",
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds; medians are printed.")] = 7,
    quick: Annotated[bool, typer.Option("--quick", help="Small systems and short trajectories.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Time, on the processor: steps beside mace's, accelerators, batches, growth, skin lists, D3 beside s-dftd3."""
    unknown = [task for task in tasks or () if task not in TASKS]
    if unknown:
        raise UnknownNameError(f'No timing is called "{unknown[0]}".', fix=suggestion(unknown[0], TASKS))
    chosen = tasks or list(TASKS)
    if "dispersion" in chosen:
        from mace_ft_bench.timing.dispersion import refuse_without_peer  # noqa: PLC0415 - imports torch

        refuse_without_peer()
    from mace_ft_bench.results.timing_table import exclusively  # noqa: PLC0415 - imports torch

    rows = []
    with exclusively(), error_console().status("Timing") as status:
        for title, run in _plan(chosen, model, rounds, quick=quick):
            status.update(f"Timing {title}")
            rows += run()
    if json:
        print_json(rows)
        return
    table = Table("task", "atoms", "times [ms]", "ratio", "largest difference")
    for row in rows:
        table.add_row(row["task"], str(row["atoms"]), row["times"], row["ratio"], row["difference"])
    console().print(table)


def _plan(
    tasks: list[str], model: str, rounds: int, *, quick: bool
) -> Iterator[tuple[str, Callable[[], list[dict[str, Any]]]]]:
    from mace_ft_bench.timing import dispersion, serving, skin  # noqa: PLC0415 - imports torch and mace

    sizes = (16, 128) if quick else (16, 128, 1024)
    steps = 100 if quick else 2000
    jobs: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "steps": lambda: [
            _comparison(found)
            for dtype in ("float64", "float32")
            for found in serving.steps_beside_mace(model, dtype, sizes, rounds)
        ],
        "accelerators": lambda: [
            _comparison(found) for found in serving.auto_beside_best(model, "float64", sizes, rounds)
        ],
        "batches": lambda: [
            _comparison(serving.batches_beside_single(model, rounds, accelerate=name)) for name in ("auto", "off")
        ],
        "growth": lambda: [
            _growth(serving.step_growth(model, sizes=(128, 432) if quick else (128, 432, 1024, 2916), rounds=rounds))
        ],
        "dispersion": lambda: [
            _comparison(found)
            for found in dispersion.steps_beside_peers((128, 372) if quick else (128, 372, 1038, 2900), rounds)
        ],
        "skin": lambda: [_skin(skin.check_skin(model, name, atoms=128, steps=steps)) for name in ("NVT", "NPT")],
    }
    for task in tasks:
        yield task, jobs[task]


def _comparison(found: Any) -> dict[str, Any]:  # noqa: ANN401 - serving.Comparison, whose module imports torch
    times = "\n".join(f"{name} {found.times.median(name):.3g}" for name in found.times.samples)
    return {
        "task": found.task,
        "atoms": found.atoms,
        "times": times,
        "ratio": f"{found.slow} : {found.fast} = {found.ratio:.3g}",
        "difference": f"{found.force_difference:.1e} eV/Å" if found.force_difference else "",
        "samples": found.times.samples,
    }


def _growth(found: Any) -> dict[str, Any]:  # noqa: ANN401 - serving.Growth
    times = "\n".join(f"{atoms}: {time:.3g}" for atoms, time in zip(found.atoms, found.milliseconds, strict=True))
    return asdict(found) | {
        "task": f"step with D3, {found.dtype}",
        "atoms": found.atoms[-1],
        "times": times,
        "ratio": f"exponent {found.law}",
        "difference": "",
    }


def _skin(found: Any) -> dict[str, Any]:  # noqa: ANN401 - skin.SkinCheck
    return asdict(found) | {
        "task": f"lists, {found.ensemble}, {found.frames} frames, {found.builds} builds",
        "times": f"with skin {found.kept_ms:.3g}\nfresh {found.fresh_ms:.3g}",
        "ratio": f"fresh : skin = {found.ratio:.3g}",
        "difference": f"{found.energy_difference:.1e} eV/atom\n{found.force_difference:.1e} eV/Å",
    }
