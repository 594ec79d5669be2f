"""What SevenNet-0 labelled for the next mace-nano, kept until that is trained: python frames.py pack|unpack FOLDER.

``unpack`` makes the folder that ``mfb distill recipes/next/mace-nano.distill.toml --out FOLDER`` left: the same command
then finds every job done, adds the frames of public datasets, and writes train.xyz, valid.xyz and test.xyz.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read

from mace_ft_bench.datasets.exact_extxyz import write_exact
from mace_ft_bench.datasets.frames import labelled
from mace_ft_bench.learning.distill import PARENTS

PACKED = Path(__file__).with_name("frames.npz")


def pack(folder: Path) -> None:
    """Write the jobs of a folder into one file, numbers in single precision but for energies."""
    names, lost, counts, frames = [], [], [], []
    for path in sorted((folder / PARENTS).glob("*.json")):
        xyz = path.with_suffix(".xyz")
        found = read(xyz, ":", format="extxyz") if xyz.stat().st_size else []
        names.append(path.stem)
        lost.append(path.read_text(encoding="utf-8"))
        counts.append(len(found))
        frames += found
    np.savez_compressed(
        PACKED,
        names=names,
        lost=lost,
        counts=counts,
        groups=[frame.info["config_type"] for frame in frames],
        sizes=[len(frame) for frame in frames],
        numbers=np.concatenate([frame.numbers for frame in frames]).astype(np.uint8),
        positions=np.concatenate([frame.positions for frame in frames]).astype(np.float32),
        forces=np.concatenate([frame.arrays["REF_forces"] for frame in frames]).astype(np.float32),
        cells=np.array([frame.cell.array for frame in frames], dtype=np.float32),
        pbc=np.array([frame.pbc for frame in frames]),
        energies=np.array([frame.info["REF_energy"] for frame in frames]),
        stresses=np.array([frame.info["REF_stress"] for frame in frames], dtype=np.float32),
    )


def unpack(folder: Path) -> None:
    """Write the jobs back."""
    (folder / PARENTS).mkdir(parents=True)
    data = dict(np.load(PACKED))
    ends = np.cumsum(data["sizes"])
    index = 0
    for name, lost, count in zip(data["names"], data["lost"], data["counts"], strict=True):
        frames = [_frame(data, number, ends) for number in range(index, index + count)]
        index += count
        path = folder / PARENTS / f"{name}.xyz"
        write_exact(frames, path)
        path.with_suffix(".json").write_text(str(lost), encoding="utf-8")


def _frame(data: dict[str, np.ndarray], index: int, ends: np.ndarray) -> Atoms:
    atoms = slice(ends[index] - data["sizes"][index], ends[index])
    frame = Atoms(
        data["numbers"][atoms], positions=data["positions"][atoms], cell=data["cells"][index], pbc=data["pbc"][index]
    )
    return labelled(
        frame,
        energy=float(data["energies"][index]),
        forces=data["forces"][atoms].astype(float),
        stress=data["stresses"][index].astype(float),
        config_type=str(data["groups"][index]),
    )


if __name__ == "__main__":
    {"pack": pack, "unpack": unpack}[sys.argv[1]](Path(sys.argv[2]))
