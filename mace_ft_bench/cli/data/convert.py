"""``mfb data convert``: labelled frames of other programs into extended XYZ with our keys, units and signs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from mace_ft_bench.cli.console import console, print_json
from mace_ft_bench.cli.data.files import Json, Out, Overwrite, refuse_existing

if TYPE_CHECKING:
    from mace_ft_bench.datasets.convert import Summary

_KEYS = "Labels"
_UNITS = "Units and signs"
_VASP = "VASP, CP2K, DeePMD"


def _option(text: str, panel: str) -> Any:  # noqa: ANN401 - what typer makes of it
    return typer.Option(help=text, rich_help_panel=panel)


def convert(
    sources: Annotated[list[Path], typer.Argument(help="Files, DeePMD systems, or folders that hold several.")],
    *,
    out: Out,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="deepmd-npy, vasprun, outcar, cp2k, n2p2, pymatgen-json, mlearn-json, extxyz or ase-db; found out by "
            "itself for DeePMD systems, vasprun.xml and input.data.",
        ),
    ] = None,
    config_type: Annotated[str | None, _option("Group of all frames.", _KEYS)] = None,
    config_type_key: Annotated[str | None, _option("Key that holds the group of a frame.", _KEYS)] = None,
    config_types: Annotated[list[str] | None, _option("Group to keep (extxyz); several may be given.", _KEYS)] = None,
    energy_key: Annotated[str | None, _option('Key of the total energy, or "none".', _KEYS)] = None,
    forces_key: Annotated[str | None, _option('Key of the forces, or "none".', _KEYS)] = None,
    structure_key: Annotated[str | None, _option("Key of the structure (pymatgen-json).", _KEYS)] = None,
    stress_key: Annotated[str | None, _option("Key of the stress or virial.", _KEYS)] = None,
    ignore_stress: Annotated[bool, _option("Leave stresses out.", _KEYS)] = False,
    allow_missing: Annotated[bool, _option("Keep frames that lack labels which others have.", _KEYS)] = False,
    energy_unit: Annotated[str | None, _option("eV, hartree, rydberg, ...", _UNITS)] = None,
    energy_per_atom: Annotated[bool, _option("The energy is one per atom (pymatgen-json).", _UNITS)] = False,
    forces_unit: Annotated[str | None, _option("eV/A, hartree/bohr, ...", _UNITS)] = None,
    length_unit: Annotated[str | None, _option("A, bohr, nm (n2p2).", _UNITS)] = None,
    stress_unit: Annotated[str | None, _option("eV/A^3, GPa, kbar, ...; eV or hartree for a virial.", _UNITS)] = None,
    stress_sign: Annotated[str | None, _option("What is positive: tension or compression.", _UNITS)] = None,
    stress_order: Annotated[str | None, _option('Order of six components, "xx yy zz yz xz xy".', _UNITS)] = None,
    energy: Annotated[
        str | None, _option("Energy of VASP: free (that of the forces) or sigma0 (extrapolated).", _VASP)
    ] = None,
    type_map: Annotated[str | None, _option('Elements of DeePMD types 0, 1, ...: "Li Ge P S".', _VASP)] = None,
    allow_unconverged: Annotated[
        bool, _option("VASP: leave unconverged steps out; CP2K: accept the run.", _VASP)
    ] = False,
    allow_truncated: Annotated[bool, _option("Read the complete steps of a VASP run that did not end.", _VASP)] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Convert labelled DFT frames to extended XYZ in eV, Å and ASE's sign of the stress; nothing is guessed."""
    from mace_ft_bench.datasets import convert as converter  # noqa: PLC0415 - imports the readers
    from mace_ft_bench.datasets.exact_extxyz import write_exact  # noqa: PLC0415 - imports ASE's formats

    options = {
        "config_type": config_type,
        "config_type_key": config_type_key,
        "config_types": config_types,
        "energy_key": energy_key,
        "forces_key": forces_key,
        "structure_key": structure_key,
        "stress_key": stress_key,
        "ignore_stress": ignore_stress,
        "energy_unit": energy_unit,
        "energy_per_atom": energy_per_atom,
        "forces_unit": forces_unit,
        "length_unit": length_unit,
        "stress_unit": stress_unit,
        "stress_sign": stress_sign,
        "stress_order": stress_order.split() if stress_order else None,
        "energy": energy,
        "type_map": type_map.split() if type_map else None,
        "allow_unconverged": allow_unconverged,
        "allow_truncated": allow_truncated,
    }
    given = {name: value for name, value in options.items() if value not in (None, False)}
    refuse_existing(out, overwrite=overwrite, sources=sources)
    name = format_ or converter.choose_format(sources)
    frames = converter.convert(sources, name, given, allow_missing=allow_missing)
    write_exact(frames, out)
    _print(out, name, converter.summarise(frames), as_json=json)


def _print(out: Path, name: str, summary: Summary, *, as_json: bool) -> None:
    from dataclasses import asdict  # noqa: PLC0415 - used here only

    if as_json:
        print_json({"out": out, "format": name, **asdict(summary)})
        return
    console().print(
        f"{summary.frames} frames, {summary.atoms} atoms ({name}): {out}", soft_wrap=True, markup=False, highlight=False
    )
    table = Table("group", "frames")
    for group, frames in summary.groups.items():
        table.add_row(escape(group), str(frames))
    console().print(table)
    lines = {
        "labels": ", ".join(f"{label} {count}/{summary.frames}" for label, count in summary.labels.items()),
        "energy [eV/atom]": _range(summary.energy_ev_per_atom),
        "force rms [eV/Å]": "none" if summary.force_rms_ev_per_a is None else f"{summary.force_rms_ev_per_a:.4f}",
        "pressure [GPa]": _range(summary.pressure_gpa),
    }
    for title, text in lines.items():
        console().print(f"{title}: {text}", soft_wrap=True, markup=False, highlight=False)


def _range(ends: tuple[float, float] | None) -> str:
    return "none" if ends is None else f"{ends[0]:.4f} to {ends[1]:.4f}"
