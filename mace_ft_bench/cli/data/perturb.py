"""``mfb data perturb``: rattled and strained copies of structures; and what the commands that make frames share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mace_ft_bench.cli.console import console, print_json
from mace_ft_bench.errors import CardError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

_SUFFIXES = (".xyz", ".extxyz")

Out = Annotated[Path, typer.Option(help="Extended XYZ file to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
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
    refuse_existing(out, overwrite=overwrite)
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


def refuse_existing(out: Path, *, overwrite: bool) -> None:
    """Refuse an output file before any work is done.

    Raises
    ------
    DataError
        If it exists, has no folder, or the name of another format.
    """
    if out.suffix not in _SUFFIXES:
        raise DataError(f"{out} would hold extended XYZ.", fix=f"name it *{' or *'.join(_SUFFIXES)}.")
    if not out.parent.is_dir():
        raise DataError(f"The folder {out.parent} does not exist.", fix="make it.")
    if out.exists() and not overwrite:
        raise DataError(f"{out} exists.", fix="choose another name, or pass --overwrite.")


def read_structures(paths: Sequence[Path]) -> list[Atoms]:
    """Return all structures of files of any format ASE reads.

    Raises
    ------
    DataError
        If a file does not exist, cannot be read, or holds no structure.
    """
    return [structure for path in paths for structure in _read(path)]


def _read(path: Path) -> list[Atoms]:
    from ase.io import read  # noqa: PLC0415 - slow to import

    if not path.is_file():
        raise DataError(f"{path} does not exist.", fix="check the path.")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty.", fix="check how it was made.")
    try:
        if path.suffix in _SUFFIXES:
            return _read_extxyz(path)
        found = cast("list[Atoms]", read(path, index=":"))
    except DataError:
        raise
    except Exception as error:  # ASE's readers raise whatever they stumble over
        raise DataError(f"ASE cannot read {path}: {error!r}.", fix="check the file and its suffix.") from error
    return _some(found, path)


def _read_extxyz(path: Path) -> list[Atoms]:
    """Return all frames; ASE stops at an empty line, and what follows one would be lost in silence."""
    from ase.io import read  # noqa: PLC0415 - slow to import

    with path.open(encoding="utf-8") as file:
        found = cast("list[Atoms]", read(file, index=":", format="extxyz"))
        if file.read().strip():
            raise DataError(f"{path} goes on after an empty line behind {len(found)} frames.", fix="remove the line.")
    return _some(found, path)


def _some(found: list[Atoms], path: Path) -> list[Atoms]:
    if not found:
        raise DataError(f"{path} holds no structure.", fix="check how it was made.")
    return found
