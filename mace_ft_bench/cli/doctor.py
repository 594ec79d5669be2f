"""``mfb doctor``: what works on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mace_ft_bench.cli.console import console, error_console, print_json
from mace_ft_bench.zoo.registry import list_models, whereabouts


def doctor(
    *,
    model: Annotated[str, typer.Option(help="Embedded MACE model to test the accelerators with.")] = "mo-ft",
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show packages, devices, accelerators with parity and speed, and which models have weights here."""
    from mace_ft_bench.timing import doctor as checks  # noqa: PLC0415 - imports torch and mace

    with error_console().status("Comparing accelerators with the plain path; the first time compiles for a while"):
        accelerators = checks.check_accelerators(model)
    weights = {card.name: whereabouts(card) for card in list_models()}
    if json:
        found = {"packages": checks.packages(), "devices": checks.devices(), "models": weights}
        print_json(found | {"accelerators": [asdict(check) | {"good": check.good} for check in accelerators]})
        return
    out = console()
    out.print(_pairs("package", "version", checks.packages()))
    out.print(f"Devices: {', '.join(checks.devices())}", highlight=False)
    out.print(_accelerators(accelerators))
    out.print(_pairs("model", "weights", weights))


def _pairs(left: str, right: str, values: dict[str, str]) -> Table:
    table = Table(left, right)
    for name, value in values.items():
        table.add_row(escape(name), escape(value))
    return table


def _accelerators(found: list) -> Table:  # type: ignore[type-arg]  # AcceleratorCheck, whose module imports torch
    table = Table(
        "accelerator", "device", "dtype", "ms", "against the plain path", title="54 atoms, energy + forces + stress"
    )
    for check in found:
        time = "-" if check.milliseconds is None else f"{check.milliseconds:.1f}"
        colour = "green" if check.good else "yellow"
        table.add_row(check.name, check.device, check.dtype, time, f"[{colour}]{escape(check.verdict)}[/]")
    return table
