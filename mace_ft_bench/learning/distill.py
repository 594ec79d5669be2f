"""Training frames labelled by a teacher: parent structures, their frames, and the split of both."""

from __future__ import annotations

import json
import zlib
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from ase.io import read

from mace_ft_bench.atomic import write_whole
from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.datasets.exact_extxyz import write_exact
from mace_ft_bench.datasets.fetch import load_frames
from mace_ft_bench.datasets.frames import CONFIG_TYPE
from mace_ft_bench.datasets.perturb import bare
from mace_ft_bench.datasets.structure_files import read_structures
from mace_ft_bench.errors import CardError, DataError
from mace_ft_bench.learning import dynamics, environments, interfaces, prototypes
from mace_ft_bench.learning.anion_corrections import anion_correction, needs_plus_u
from mace_ft_bench.learning.label import Labeller, harvest, repeated
from mace_ft_bench.learning.parent import Parent
from mace_ft_bench.learning.recipe import DistillConfig
from mace_ft_bench.learning.templates import exchanged
from mace_ft_bench.toml_schema import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from mace_ft_bench.learning.dynamics import DynamicsConfig

RECIPE, PARENTS = "recipe.json", "parents"
SPLITS = ("train", "valid", "test")
_DIMENSIONS = 3
_SHARES = 10_000
_SEEDS = 2**31
"""Number of seeds of a job: those of several runs of it, counted on, remain below 2^32."""


@dataclass(frozen=True)
class Job:
    """What is made of a parent at once, and kept in one file."""

    key: str
    """Unique; seeds it."""
    parent: Parent
    dynamics: DynamicsConfig | None = None
    """What to run; None for what the parent's family says."""

    @property
    def name(self) -> str:
        """Name of its file."""
        return self.key.replace(":", "-")

    @property
    def group(self) -> str:
        """config_type of the frames."""
        return self.parent.family if self.dynamics is None else f"{self.parent.family}-md"


@dataclass(frozen=True)
class Distilled:
    """What came of a recipe."""

    splits: dict[str, list[Atoms]]
    """Frames of ``train``, ``valid`` and ``test``; no parent is in two of them."""
    refused: dict[str, int]
    """By family the structures that the teacher or the perturbation refused."""
    violent: dict[str, int]
    """By family the frames beyond the largest force."""
    stopped: dict[str, int]
    """By family the runs of molecular dynamics that ended early; frames before that are kept."""


def parents(config: DistillConfig, *, mirror: Path | None = None) -> list[Parent]:
    """Return the parent structures of a recipe; those that the Materials Project treats with GGA+U are left out."""
    found = []
    for family, settings in config.family.items():
        generator = np.random.default_rng([config.seed, zlib.crc32(family.encode())])
        of_family = [
            parent
            for parent in _family(family, config, generator, mirror)
            if set(map(str, parent.atoms.symbols)) <= set(config.elements) and not needs_plus_u(parent.atoms)
        ]
        found += of_family[: settings.most_parents or None]
    return found


def _family(
    family: str, config: DistillConfig, generator: np.random.Generator, mirror: Path | None
) -> Iterator[Parent]:
    makers: dict[str, Callable[[], Iterator[Parent]]] = {
        "elements": lambda: prototypes.crystals_of_elements(config.elements),
        "pairs": lambda: prototypes.pairs_of_elements(config.elements),
        "compounds": lambda: prototypes.compounds(config.elements),
        "molecules": environments.molecules,
        "defects": environments.vacancies,
        "surfaces": environments.surfaces,
        "adsorbates": lambda: environments.adsorbates(generator),
        "interfaces": interfaces.interfaces_and_clusters,
        "cages": interfaces.cages,
        "liquids": lambda: environments.liquids(config.elements, generator),
        "ion-conductors": lambda: environments.ion_conductors(generator),
        "templates": lambda: exchanged(
            _frames_of(config.templates, mirror), config.elements, config.most_template_atoms, generator
        ),
        "structures": lambda: _own(config),
    }
    yield from makers[family]()


def _own(config: DistillConfig) -> Iterator[Parent]:
    """Yield the structures of files, bare: labels of others are not those of the teacher."""
    for number, atoms in enumerate(read_structures([Path(file) for file in config.structures])):
        if others := sorted(set(atoms.get_chemical_symbols()) - set(config.elements)):
            raise CardError(f"Structure {number} holds {', '.join(others)}.", fix="name them in elements, too.")
        if needs_plus_u(atoms):
            raise CardError(f"Structure {number} is one that teachers learnt with GGA+U.", fix="leave it out.")
        if atoms.cell.rank < _DIMENSIONS:
            raise CardError(f"Structure {number} has no cell.", fix="give every structure a cell, with vacuum.")
        yield Parent(f"structure-{number}", "structures", bare(atoms))


def _frames_of(splits: Sequence[str], mirror: Path | None) -> list[Atoms]:
    return [frame for name in splits for frame in load_frames(*name.split(":", 1), mirror=mirror)]


def real_frames(config: DistillConfig, *, mirror: Path | None = None) -> list[Atoms]:
    """Return the frames with real labels that consist of the recipe's elements; none of GGA+U."""
    kept = []
    for name in config.real:
        for frame in _frames_of([name], mirror):
            if set(map(str, frame.symbols)) <= set(config.elements) and not needs_plus_u(frame):
                frame.info[CONFIG_TYPE] = f"dft-{name.split(':', maxsplit=1)[0]}"
                kept.append(frame)
    return kept


def jobs(config: DistillConfig, wanted: Sequence[Parent]) -> list[Job]:
    """Return what a recipe makes of its parents.

    Raises
    ------
    CardError
        If dynamics are asked for of a parent that the recipe does not have.
    """
    found = [Job(parent.name, parent) for parent in wanted]
    for number, settings in enumerate(config.dynamics):
        for pattern in settings.parents:
            if not any(fnmatchcase(parent.name, pattern) for parent in wanted):
                raise CardError(
                    f'Dynamics are asked for of "{pattern}", and no parent is called so.',
                    fix="name a parent of one of the recipe's families.",
                )
        found += [
            Job(f"md{number}:{parent.name}", parent, settings)
            for parent in wanted
            if dynamics.concerns(settings, parent)
        ]
    return found


def distill(  # noqa: PLR0913 - where from, where to, by whom, how
    config: DistillConfig,
    folder: Path,
    make_teacher: Callable[[], Calculator],
    *,
    make_driver: Callable[[str], Calculator] | None = None,
    mirror: Path | None = None,
    workers: int = 1,
    on_job: Callable[[int, int], None] | None = None,
) -> Distilled:
    """Label the frames of a recipe; a job that is done in the folder is not done again.

    Parameters
    ----------
    config
        The recipe.
    folder
        Receives ``train.xyz``, ``valid.xyz``, ``test.xyz``, ``recipe.json`` and, per job, what was labelled.
    make_teacher
        Returns a calculator with energy, forces and stress; can be pickled. Called once per process.
    make_driver
        Returns the calculator of a name, for dynamics that another model drives; can be pickled.
    mirror
        Folder of dataset copies.
    workers
        Processes that label; with 1, this one.
    on_job
        Called with the numbers of jobs done and of all of them.

    Raises
    ------
    DataError
        If the folder holds frames of another recipe.
    CardError
        If dynamics are asked for of a parent that the recipe does not have, or with a driver that nobody makes.
    """
    wanted = jobs(config, parents(config, mirror=mirror))
    for settings in config.dynamics:
        _driver(settings, make_driver)  # one that cannot be had is refused before any work
    real = real_frames(config, mirror=mirror)
    _claim(folder, config)
    left = [job for job in wanted if not _chunk(folder, job).with_suffix(".json").is_file()]
    work = _worked(left, config, folder, _Makers(make_teacher, make_driver), workers)
    for done, _ in enumerate(work, start=len(wanted) - len(left) + 1):
        if on_job is not None:
            on_job(done, len(wanted))
    distilled = _gathered(config, wanted, real, folder)
    for name, frames in distilled.splits.items():
        write_exact(frames, folder / f"{name}.xyz")
    return distilled


def _driver(settings: DynamicsConfig, make_driver: Callable[[str], Calculator] | None) -> Calculator | None:
    """Return the calculator that drives dynamics, None for the teacher."""
    if settings.driver is None:
        return None
    if make_driver is None:
        raise CardError(f'Dynamics are to be driven by "{settings.driver}".', fix="give make_driver, which makes it.")
    return make_driver(settings.driver)


def _claim(folder: Path, config: DistillConfig) -> None:
    (folder / PARENTS).mkdir(parents=True, exist_ok=True)
    structures = {file: sha256_of(Path(file)) for file in config.structures}  # a file may change, its name stays
    path = folder / RECIPE
    if path.is_file() and _stored_recipe(path) != (config, structures):
        raise DataError(
            f"{folder} holds frames of another recipe or of other structures.", fix="choose another --out folder."
        )
    recipe = json.dumps(asdict(config) | {"structures": structures}, indent=1, sort_keys=True)
    write_whole(path, recipe)


def _stored_recipe(path: Path) -> tuple[DistillConfig, dict[str, str]]:
    """Return the recipe of a folder and the checksums of its structures.

    A key that recipes got since the folder was begun has its default, which is how the frames were made.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        structures = dict(table.get("structures", {}))
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged.", fix="choose another --out folder.") from error
    return parse(table | {"structures": list(structures)}, DistillConfig, where=str(path)), structures


@dataclass(frozen=True)
class _Makers:
    teacher: Callable[[], Calculator]
    driver: Callable[[str], Calculator] | None


def _worked(left: Sequence[Job], config: DistillConfig, folder: Path, makers: _Makers, workers: int) -> Iterator[None]:
    """Work on jobs, and yield whenever one is done."""
    if workers == 1 or not left:
        teacher = makers.teacher() if left else None
        for job in left:
            label_job(job, config, cast("Calculator", teacher), folder, make_driver=makers.driver)
            yield
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (config, makers)) as pool:
        for future in as_completed([pool.submit(_work, job, folder) for job in left]):
            future.result()
            yield


_worker: dict[str, Any] = {}
"""What a process of the pool keeps: building a teacher takes seconds."""


def _start_worker(config: DistillConfig, makers: _Makers) -> None:
    _worker.update(config=config, teacher=makers.teacher(), make_driver=makers.driver)


def _work(job: Job, folder: Path) -> None:
    label_job(job, _worker["config"], _worker["teacher"], folder, make_driver=_worker["make_driver"])


def correction_of(config: DistillConfig) -> Callable[[Atoms], float]:
    """Return the function that says which energy [eV] of a structure a recipe takes out of its teacher's."""
    return anion_correction if config.energies == "without-anion-corrections" else _nothing


def _nothing(_atoms: Atoms) -> float:
    return 0.0


def label_job(
    job: Job,
    config: DistillConfig,
    teacher: Calculator,
    folder: Path,
    *,
    make_driver: Callable[[str], Calculator] | None = None,
) -> None:
    """Write the frames of a job, and then what came to nothing, which says that it is done."""
    parent = job.parent
    correction = correction_of(config)(parent.atoms) / len(parent.atoms)
    seed = zlib.crc32(f"{config.seed}:{job.key}".encode())
    stopped: list[str] = []
    if job.dynamics is None:
        settings = config.family[parent.family]  # type: ignore[index]  # names of families are strings in a parent
        found = harvest(parent, settings, teacher, correction=correction, max_force=config.max_force, seed=seed)
    else:
        labeller = Labeller(teacher, correction, config.max_force, job.group)
        start = repeated(parent.atoms, job.dynamics.least_atoms)
        driver = _driver(job.dynamics, make_driver) or teacher
        stopped = dynamics.run(start, job.dynamics, driver, labeller, seed=seed % _SEEDS)
        found = labeller.harvest
    path = _chunk(folder, job)
    write_exact(found.frames, path)
    lost = {"refused": found.refused, "violent": found.violent, "stopped": stopped}
    write_whole(path.with_suffix(".json"), json.dumps(lost))


def _chunk(folder: Path, job: Job) -> Path:
    return folder / PARENTS / f"{job.name}.xyz"


def _gathered(config: DistillConfig, wanted: Sequence[Job], real: Sequence[Atoms], folder: Path) -> Distilled:
    distilled = Distilled({name: [] for name in SPLITS}, {}, {}, {})
    for job in wanted:
        path = _chunk(folder, job)
        lost = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        for key, counts in (("refused", distilled.refused), ("violent", distilled.violent)):
            counts[job.group] = counts.get(job.group, 0) + lost[key]
        distilled.stopped[job.group] = distilled.stopped.get(job.group, 0) + len(lost.get("stopped", ()))
        if path.stat().st_size:
            distilled.splits[split_of(job.parent.name, config)] += read(path, ":", format="extxyz")
    for number, frame in enumerate(real):
        distilled.splits[split_of(f"{frame.info[CONFIG_TYPE]}-{number}", config)].append(frame)
    return distilled


def split_of(name: str, config: DistillConfig) -> str:
    """Return the split of a parent, which depends on its name and the seed only."""
    share = zlib.crc32(f"split:{config.seed}:{name}".encode()) % _SHARES / _SHARES
    if share < config.test_fraction:
        return "test"
    return "valid" if share < config.test_fraction + config.valid_fraction else "train"
