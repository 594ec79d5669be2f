"""``mfb data perturb``: rattled and strained copies of structures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from mace_ft_bench.cli.console import console, print_json
from mace_ft_bench.cli.data.files import Json, Out, Overwrite, refuse_existing
from mace_ft_bench.datasets.structure_files import read_structures
from mace_ft_bench.errors import CardError

MinDistance = Annotated[
    list[str] | None,
    typer.Option(help='Minimum distance of a pair of elements [Å], as "Mo-Mo=2.1"; several may be given.'),
]


def perturb(
    structures: Annotated[list[Path], typer.Argument(help="Files of any format ASE reads; every structure in them.")],
    *,
    out: Out,
    count: Annotated[int, typer.Option(help="Frames per structure.")] = 10,
    rattle: Annotated[
        str, typer.Option(help='Standard deviation of displacement components [Å], or "0.01:0.3" to draw it per frame.')
    ] = "0.05",
    strain: Annotated[float, typer.Option(help="Amplitude of random strain components.")] = 0.0,
    strain_kind: Annotated[str, typer.Option(help="full, volume or shear.")] = "full",
    min_distance: MinDistance = None,
    min_distance_factor: Annotated[
        float, typer.Option(help="Minimum distance of other pairs, in sums of covalent radii.")
    ] = 0.7,
    seed: Annotated[int, typer.Option(help="Same seed, same frames.")] = 0,
    config_type: Annotated[str, typer.Option(help="Group of the new frames (default: that of the structure).")] = "",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make rattled and strained copies of structures, with atoms kept apart."""
    from mace_ft_bench.datasets.frames import write_extxyz  # noqa: PLC0415 - imports ASE's formats
    from mace_ft_bench.datasets.perturb import PerturbSettings, parse_distances  # noqa: PLC0415 - imports scipy
    from mace_ft_bench.datasets.perturb import perturb as make  # noqa: PLC0415 - as above

    settings = PerturbSettings(
        count=count,
        rattle=parse_range(rattle),
        strain=strain,
        strain_kind=cast("Any", strain_kind),
        min_distances=parse_distances(min_distance or []),
        min_distance_factor=min_distance_factor,
        seed=seed,
        config_type=config_type,
    )
    refuse_existing(out, overwrite=overwrite, sources=structures)
    frames = make(read_structures(structures), settings)
    write_extxyz(frames, out)
    if json:
        print_json({"out": out, "frames": len(frames)})
        return
    console().print(f"{len(frames)} frames: {out}", soft_wrap=True, markup=False)


def parse_range(text: str) -> float | tuple[float, float]:
    """Return one number, or two from ``low:high``.

    Raises
    ------
    CardError
        If the text is neither.
    """
    try:
        numbers = [float(part) for part in text.split(":")]
        low, high = numbers if len(numbers) > 1 else numbers * 2
    except ValueError as error:
        raise CardError(f'"{text}" is neither a number nor a range.', fix='write "0.05" or "0.01:0.3".') from error
    return low if len(numbers) == 1 else (low, high)
