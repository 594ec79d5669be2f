"""``mfb data select``: a few frames out of many."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mace_ft_bench.cli.console import console, print_json
from mace_ft_bench.cli.data.files import Json, Out, Overwrite, refuse_existing
from mace_ft_bench.datasets.structure_files import read_structures
from mace_ft_bench.errors import CardError, UnknownNameError, suggestion

if TYPE_CHECKING:
    from ase import Atoms

    from mace_ft_bench.datasets.select import Environments

Model = Annotated[str | None, typer.Option(help="MACE model whose descriptors say how far frames are apart.")]


def select(
    frames: Annotated[list[Path], typer.Argument(help="Files of any format ASE reads.")],
    *,
    count: Annotated[int, typer.Option(help="Frames to choose.")],
    out: Out,
    method: Annotated[str, typer.Option(help="farthest-point, random or stratified.")] = "farthest-point",
    model: Model = None,
    start: Annotated[
        int | None, typer.Option(help="First frame of farthest-point (default: the most central).")
    ] = None,
    by: Annotated[str, typer.Option(help="Strata: config_type, energy or volume.")] = "config_type",
    bins: Annotated[int, typer.Option(help="Bins of energy or volume.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of random and stratified.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Choose frames, keep their order, and print how far the others lie from them (with --model)."""
    from mace_ft_bench.datasets import select as chooser  # noqa: PLC0415 - imports ASE
    from mace_ft_bench.datasets.frames import write_extxyz  # noqa: PLC0415 - imports ASE's formats

    if method not in chooser.METHODS:
        raise UnknownNameError(f'No method is called "{method}".', fix=suggestion(method, chooser.METHODS))
    if method == "farthest-point" and model is None:
        raise CardError("Farthest-point sampling needs descriptors.", fix="name a MACE model with --model.")
    refuse_existing(out, overwrite=overwrite, sources=frames)
    structures = read_structures(frames)
    chooser.check_count(count, len(structures))
    found = _environments(structures, model, device, dtype) if model else None
    if method == "random":
        chosen = chooser.random_frames(len(structures), count, seed=seed)
    elif method == "stratified":
        chosen = chooser.stratified_frames(chooser.strata_of(structures, by, bins=bins), count, seed=seed)
    else:
        assert found is not None  # noqa: S101 - refused above
        chosen = sorted(chooser.farthest_points(found, count, start=start))
    write_extxyz([structures[index] for index in chosen], out)
    _print(out, len(structures), chosen, found, as_json=json)


def _environments(structures: list[Atoms], model: str, device: str, dtype: str) -> Environments:
    from mace_ft_bench.calculators.descriptors import compute_descriptors  # noqa: PLC0415 - imports torch and mace
    from mace_ft_bench.datasets.select import environments  # noqa: PLC0415 - beside its use

    return environments(structures, compute_descriptors(model, structures, device=device, dtype=dtype))


def _print(out: Path, frames: int, chosen: list[int], found: Environments | None, *, as_json: bool) -> None:
    from mace_ft_bench.datasets.select import coverage  # noqa: PLC0415 - beside its use

    covered = coverage(found, chosen) if found is not None else None
    if as_json:
        report: dict[str, Any] = {"out": out, "frames": frames, "chosen": chosen}
        if covered is not None:
            # Infinite if an element is in no chosen frame; JSON has no word for it.
            distances = {"largest": covered.largest, "mean": covered.mean}
            report |= {key: value if isfinite(value) else None for key, value in distances.items()}
            report["farthest"] = covered.farthest
        print_json(report)
        return
    console().print(f"{len(chosen)} of {frames} frames: {out}", soft_wrap=True, markup=False)
    if covered is None:
        console().print("Give --model to see how far the others lie from them.", markup=False)
    elif covered.farthest is None:
        console().print("No frame is left.")
    else:
        console().print(
            f"largest distance of a frame left to those chosen: {covered.largest:.4g} (frame {covered.farthest}), "
            f"mean {covered.mean:.4g}, in descriptors of the model",
            soft_wrap=True,
            markup=False,
        )
