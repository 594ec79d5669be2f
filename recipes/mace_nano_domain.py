"""A dataset MODEL-domain, frames of the domain of a distilled model: python mace_nano_domain.py MODEL FOLDER [WORKERS].

They are part of what ``mfb distill recipes/MODEL.distill.toml`` makes, without the frames of public datasets that
are mixed in: ``held-out`` has every parent of its test split, ``replay`` one in ten of its training parents. Jobs that
FOLDER has are not done again: it may be that command's --out. Needs the teacher and the datasets of the recipe.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from ase.io import read

from mace_ft_bench import get_calculator
from mace_ft_bench.datasets.frames import write_extxyz
from mace_ft_bench.learning.distill import PARENTS, Job, jobs, label_job, parents, split_of
from mace_ft_bench.learning.recipe import DistillConfig, load_recipe

HERE = Path(__file__).resolve().parent
SHIPPED = HERE.parent / "reference_data" / "datasets" / "frames"


def part(job: Job, config: DistillConfig) -> str:
    """Return ``held-out``, ``replay``, or nothing for a job whose frames are not shipped."""
    split = split_of(job.parent.name, config)
    if split == "test":
        return "held-out"
    return "replay" if split == "train" and zlib.crc32(f"replay:{job.parent.name}".encode()) % 10 == 0 else ""


def label(jobs_of_worker: list[Job], config: DistillConfig, folder: Path) -> None:
    """Label jobs, on one thread."""
    torch.set_num_threads(1)
    teacher = get_calculator(config.teacher)
    for job in jobs_of_worker:
        label_job(job, config, teacher, folder, make_driver=get_calculator)


def main(model: str, folder: Path, workers: int) -> None:
    """Label what the folder does not have yet and write one file per part."""
    config = load_recipe(HERE / f"{model}.distill.toml")
    wanted = [job for job in jobs(config, parents(config)) if part(job, config)]
    (folder / PARENTS).mkdir(parents=True, exist_ok=True)
    todo = [job for job in wanted if not (folder / PARENTS / f"{job.name}.json").is_file()]
    shares = [share for number in range(workers) if (share := todo[number::workers])]
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        list(pool.map(label, shares, [config] * len(shares), [folder] * len(shares)))
    for name in ("held-out", "replay"):
        files = [folder / PARENTS / f"{job.name}.xyz" for job in wanted if part(job, config) == name]
        frames = [frame for file in files if file.stat().st_size for frame in read(file, ":", format="extxyz")]
        write_extxyz(frames, folder / f"{name}.xyz")
        packed = gzip.compress((folder / f"{name}.xyz").read_bytes(), mtime=0)
        (SHIPPED / f"{model}-domain-{name}.xyz.gz").write_bytes(packed)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1)  # noqa: PLR2004 - the last is optional
