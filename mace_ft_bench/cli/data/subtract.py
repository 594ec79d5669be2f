"""``mfb data subtract-d3``: take dispersion out of labels that contain it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mace_ft_bench.cli.console import console, print_json
from mace_ft_bench.cli.data.files import Json, Out, Overwrite, refuse_existing
from mace_ft_bench.datasets.structure_files import read_structures
from mace_ft_bench.errors import CardError, DataError, MaceFtBenchError, StructureError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ase import Atoms

    from mace_ft_bench.calculators.dispersion import D3Calculator


def subtract_d3(
    frames: Annotated[list[Path], typer.Argument(help="Labelled frames: REF_energy, REF_forces, REF_stress.")],
    *,
    out: Out,
    functional: Annotated[str, typer.Option(help="Density functional of the labels.")] = "pbe",
    damping: Annotated[str, typer.Option(help="bj, zero, bjm or zerom: that of the labels.")] = "bj",
    cutoff: Annotated[
        float | None, typer.Option(help="Cutoff of pairs [Å] (default: 50.27, that of Grimme's program and VASP).")
    ] = None,
    abc: Annotated[bool, typer.Option("--abc", help="The labels hold the three-body term, too (slow).")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="Accept frames without forces or stress labels.")] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Take DFT-D3 out of energies, forces and stresses; a model of the rest is served with dispersion added."""
    from rich.progress import track  # noqa: PLC0415 - used here only

    from mace_ft_bench.datasets.frames import write_extxyz  # noqa: PLC0415 - imports ASE's formats
    from mace_ft_bench.datasets.subtract import SUBTRACTED  # noqa: PLC0415 - beside its use

    refuse_existing(out, overwrite=overwrite, sources=frames)
    calculator = _calculator(functional, damping, cutoff, abc=abc)
    structures = read_structures(frames)
    _refuse_unusable(structures, partial=partial)
    work = track(_subtracted(structures, calculator), "Subtracting", total=len(structures), console=console())
    rest = list(_subtracted(structures, calculator) if json else work)
    write_extxyz(rest, out)
    if json:
        print_json({"out": out, "frames": len(rest), "subtracted": rest[0].info[SUBTRACTED]})
        return
    console().print(f"{len(rest)} frames without {rest[0].info[SUBTRACTED]}: {out}", soft_wrap=True, markup=False)


def _calculator(functional: str, damping: str, cutoff: float | None, *, abc: bool) -> D3Calculator:
    from mace_ft_bench.calculators.dispersion import ORIGINAL_CUTOFF, D3Calculator  # noqa: PLC0415 - imports ASE

    try:
        return D3Calculator(functional, damping, cutoff=ORIGINAL_CUTOFF if cutoff is None else cutoff, abc=abc)
    except MaceFtBenchError:
        raise
    except ValueError as error:
        message, _, fix = str(error).partition(" To fix: ")
        raise CardError(message, fix=fix) from error


def _refuse_unusable(structures: list[Atoms], *, partial: bool) -> None:
    """Refuse, before any work, what would fail later or be left as it is in silence."""
    from mace_ft_bench.datasets.frames import ENERGY, FORCES, STRESS  # noqa: PLC0415 - beside its use
    from mace_ft_bench.datasets.subtract import SUBTRACTED  # noqa: PLC0415 - as above

    for index, frame in enumerate(structures):
        if SUBTRACTED in frame.info:
            raise DataError(
                f"{frame.info[SUBTRACTED]} has been taken out of frame {index} before.",
                fix="start from the original labels.",
            )
        if ENERGY not in frame.info:
            raise DataError(f"Frame {index} has no {ENERGY}.", fix="label it; other keys have to be renamed first.")
        for key, found in ((FORCES, frame.arrays), (STRESS, frame.info)):
            if key not in found and not partial:
                raise DataError(
                    f"Frame {index} has no {key}.", fix="pass --partial to subtract from the labels it has."
                )
        if STRESS in frame.info and frame.cell.rank < 3:  # noqa: PLR2004 - three dimensions
            raise DataError(f"Frame {index} has a {STRESS} but no volume.", fix="remove the label, or set the cell.")


def _subtracted(structures: list[Atoms], calculator: D3Calculator) -> Iterator[Atoms]:
    from mace_ft_bench.datasets.subtract import subtract  # noqa: PLC0415 - beside its use

    name = f"{calculator.label_name}, cutoff {calculator.settings.cutoff:.2f} A"
    for index, frame in enumerate(structures):
        try:
            yield from subtract([frame], calculator, name=name)
        except StructureError as error:
            raise StructureError(f"Frame {index}: {error.message}", fix=error.fix) from error
