"""Labelled frames as the package ships them: python ship.py DATASET LABELLED.xyz...

What is shipped of the dataset already may be among the files. Within every kind each fifth trajectory becomes ``test``,
the others ``train``; each kind begins one later than the one before, because recipes take temperatures in turn.
Prints what the card of the dataset says of the files.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from ase.io import read

from mace_ft_bench.atomic import replacing
from mace_ft_bench.datasets.exact_extxyz import write_exact
from mace_ft_bench.paths import reference_data

if TYPE_CHECKING:
    from ase import Atoms

FIRST, EACH = 4, 5
"""Of the trajectories of the first kind, those that are held out."""


def parts(frames: list[Atoms]) -> dict[str, list[Atoms]]:
    """Split frames by trajectory within every kind. ValueError if two are of one trajectory and kind."""
    kinds: dict[str, dict[int, Atoms]] = defaultdict(dict)
    for frame in frames:
        kind, trajectory = frame.info["config_type"], int(frame.info["trajectory"])
        if trajectory in kinds[kind]:
            raise ValueError(f"Trajectory {trajectory} of {kind} is there twice.")
        kinds[kind][trajectory] = frame
    found: dict[str, list[Atoms]] = {"train": [], "test": []}
    for later, name in enumerate(sorted(kinds)):
        trajectories = sorted(kinds[name])
        held_out = trajectories[FIRST + later :: EACH]
        for trajectory in trajectories:
            found["test" if trajectory in held_out else "train"].append(kinds[name][trajectory])
    return found


def packed(frames: list[Atoms]) -> bytes:
    """Return frames as a compressed file that is the same whenever it is made."""
    compressed = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, gzip.GzipFile(fileobj=compressed, mode="wb", mtime=0) as file:
        plain = Path(folder) / "frames.xyz"
        write_exact(frames, plain)
        file.write(plain.read_bytes())
    return compressed.getvalue()


if __name__ == "__main__":
    dataset, first, *more = sys.argv[1:]  # without frames nothing is replaced
    together = [frame for path in (first, *more) for frame in read(path, ":", format="extxyz")]
    for split, frames in parts(together).items():
        content = packed(frames)
        with replacing(reference_data() / "datasets" / "frames" / f"{dataset}-{split}.xyz.gz") as temporary:
            temporary.write_bytes(content)
        checksum = hashlib.sha256(content).hexdigest()
        sys.stdout.write(f'{split}: {len(frames)} frames, sha256 = "{checksum}", bytes = {len(content)}\n')
