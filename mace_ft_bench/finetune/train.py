"""Run MACE's training in a process of its own, follow it, resume it, and collect what it made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.datasets.frames import ENERGY, FORCES, STRESS, count_groups, write_extxyz
from mace_ft_bench.errors import TrainingError
from mace_ft_bench.finetune.prepare import prepare_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ase import Atoms

    from mace_ft_bench.finetune.config import ArchitectureConfig, FinetuneConfig, LossWeights

_POLL_S = 2.0
_LOG = "train.log"
_PID = "trainer.pid"
_TRAINER = "mace.cli.run_train"
_RUN = "run.json"


@dataclass(frozen=True)
class EpochErrors:
    """Validation errors after an epoch."""

    epoch: int
    energy_rmse_mev_per_atom: float
    force_rmse_mev_per_a: float
    stress_rmse_mev_per_a3: float


def train(
    config: FinetuneConfig,
    folder: Path,
    *,
    mirror: Path | None = None,
    on_epoch: Callable[[EpochErrors], None] | None = None,
) -> list[Path]:
    """Train, or resume an interrupted run of the same recipe, and return the ``.model`` files of its stages.

    Parameters
    ----------
    config
        The recipe.
    folder
        Run folder. It receives the frames, ``run.json`` with everything needed to repeat the run, MACE's checkpoints
        and ``train.log``.
    mirror
        Folder of dataset copies.
    on_epoch
        Called after every validation.

    Raises
    ------
    TrainingError
        If the folder holds a run of another recipe or of other frames, or training fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_running(folder)
    training, validation = prepare_frames(config.data, mirror=mirror)
    _claim(folder, config, {"train": training, "valid": validation})
    command = [sys.executable, "-m", _TRAINER, *mace_arguments(config)]
    with (folder / _LOG).open("a", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=_environment())  # noqa: S603 - our own arguments
        (folder / _PID).write_text(str(process.pid), encoding="utf-8")
        try:
            _follow(process, folder, config, on_epoch)
        finally:
            process.terminate()
            process.wait()
            (folder / _PID).unlink(missing_ok=True)
    if process.returncode != 0:
        raise TrainingError(
            f"Training ended with status {process.returncode}: {_last_line(folder / _LOG)}",
            fix=f"read {folder / _LOG}; running the same command again resumes from the last checkpoint.",
        )
    return trained_models(config, folder)


def trained_models(config: FinetuneConfig, folder: Path) -> list[Path]:
    """Return the ``.model`` files of the finished stages of a run.

    Raises
    ------
    TrainingError
        If there are none.
    """
    names = [f"{config.name}.model", f"{config.name}_stagetwo.model"]
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise TrainingError(f"{folder} holds no finished model.", fix=f"read {folder / _LOG}.")
    return found


def mace_arguments(config: FinetuneConfig) -> list[str]:
    """Return the command line of ``mace_run_train`` for a recipe; what no recipe names keeps mace-torch's default."""
    optimiser = config.optimiser
    options: dict[str, Any] = {
        "name": config.name,
        "model": "ScaleShiftMACE",
        "train_file": "train.xyz",
        "valid_file": "valid.xyz",
        "energy_key": ENERGY,
        "forces_key": FORCES,
        "stress_key": STRESS,
        "E0s": config.e0s,
        **_architecture(config.architecture),
        "loss": config.loss,
        **_weights("", config.weights),
        "config_type_weights": json.dumps({"Default": 1.0, **config.config_type_weights}),
        "compute_stress": True,
        "error_table": "PerAtomRMSEstressvirials",
        "lr": optimiser.lr,
        "scheduler": "ExponentialLR",
        "lr_scheduler_gamma": optimiser.lr_decay,
        "batch_size": optimiser.batch_size,
        "valid_batch_size": optimiser.batch_size,
        "max_num_epochs": optimiser.max_epochs,
        "ema_decay": optimiser.ema_decay,
        "weight_decay": optimiser.weight_decay,
        "clip_grad": optimiser.clip_grad,
        "eval_interval": config.eval_interval,
        "patience": optimiser.max_epochs,
        "default_dtype": config.dtype,
        "device": config.device,
        "seed": config.seed,
        "num_workers": 0,
        "plot": False,
        **_stage_two(config),
    }
    flags = ["--ema", "--amsgrad", "--restart_latest", "--save_cpu"] + (["--swa"] if config.stage_two else [])
    return [f"--{key}={value}" for key, value in options.items()] + flags


def _architecture(architecture: ArchitectureConfig) -> dict[str, Any]:
    options = asdict(architecture)  # the fields are named as mace-torch names its options, but for one
    return {"MLP_irreps": options.pop("mlp_irreps"), **options}


def _weights(prefix: str, weights: LossWeights) -> dict[str, float]:
    return {f"{prefix}{term}_weight": value for term, value in asdict(weights).items()}


def _stage_two(config: FinetuneConfig) -> dict[str, Any]:
    if config.stage_two is None:
        return {}
    stage = config.stage_two
    return {"start_swa": stage.start_epoch, "swa_lr": stage.lr, **_weights("swa_", stage.weights)}


def _environment() -> dict[str, str]:
    # Training of the same recipe must not depend on warnings filters or plotting back ends of the caller.
    return {**os.environ, "PYTHONWARNINGS": "ignore", "MPLBACKEND": "Agg"}


def _claim(folder: Path, config: FinetuneConfig, frames: dict[str, list[Atoms]]) -> None:
    """Write the frames and ``run.json``; a folder of another recipe or of other frames is refused untouched."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        written = {f"{name}.xyz": Path(scratch) / f"{name}.xyz" for name in frames}
        for path in written.values():
            write_extxyz(frames[path.stem], path)
        run = _describe_run(config, frames, {name: sha256_of(path) for name, path in written.items()})
        _refuse_another_run(folder, run)
        for name, path in written.items():
            path.replace(folder / name)
        (Path(scratch) / _RUN).write_text(json.dumps(run, indent=1, sort_keys=True), encoding="utf-8")
        (Path(scratch) / _RUN).replace(folder / _RUN)


def _refuse_running(folder: Path) -> None:
    """Refuse a folder whose trainer is alive: it outlives us when we are killed with signal 9."""
    try:
        pid = int((folder / _PID).read_text(encoding="utf-8"))
        command = psutil.Process(pid).cmdline()
    except (FileNotFoundError, ValueError, psutil.Error):
        return
    if _TRAINER in command:
        raise TrainingError(
            f"A training run is still at work in {folder} (process {pid}).",
            fix=f"wait for it, or end it with `kill {pid}` and run the same command again to resume.",
        )


def _describe_run(config: FinetuneConfig, frames: dict[str, list[Atoms]], sha256: dict[str, str]) -> dict[str, Any]:
    run = {
        "recipe": asdict(config),
        "frames": {name: count_groups(part) for name, part in frames.items()},
        "sha256": sha256,
        "versions": {name: version(name) for name in ("mace-ft-bench", "mace-torch", "torch", "e3nn", "numpy")},
        "command": ["mace_run_train", *mace_arguments(config)],
    }
    plain: dict[str, Any] = json.loads(json.dumps(run))  # as it is read back
    return plain


def _refuse_another_run(folder: Path, run: dict[str, Any]) -> None:
    path = folder / _RUN
    if not path.is_file():
        return
    fix = "choose another --out folder, or delete this one."
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        recipe, sha256 = earlier["recipe"], earlier["sha256"]
    except (ValueError, LookupError, TypeError) as error:
        raise TrainingError(f"{path} is damaged.", fix=fix) from error
    if recipe != run["recipe"]:
        raise TrainingError(f"{folder} holds a run of another recipe.", fix=fix)
    if sha256 != run["sha256"]:
        raise TrainingError(f"{folder} holds a run of this recipe on other frames.", fix=fix)


def _follow(
    process: subprocess.Popen[bytes],
    folder: Path,
    config: FinetuneConfig,
    on_epoch: Callable[[EpochErrors], None] | None,
) -> None:
    reported = 0
    running = True
    while running:
        running = process.poll() is None
        epochs = list(read_epochs(folder, config))
        for errors in epochs[reported:]:
            if on_epoch:
                on_epoch(errors)
        reported = len(epochs)
        if running:
            time.sleep(_POLL_S)


def read_epochs(folder: Path, config: FinetuneConfig) -> Iterator[EpochErrors]:
    """Yield the validation errors that MACE has written so far."""
    path = folder / "results" / f"{config.name}_run-{config.seed}_train.txt"
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = _entry(line)
        if entry.get("mode") == "eval" and entry["epoch"] is not None:
            yield EpochErrors(
                epoch=entry["epoch"],
                energy_rmse_mev_per_atom=1000 * entry["rmse_e_per_atom"],
                force_rmse_mev_per_a=1000 * entry["rmse_f"],
                stress_rmse_mev_per_a3=1000 * entry["rmse_stress"],
            )


def _entry(line: str) -> dict[str, Any]:
    """Return the entry of a line; an empty one where a kill tore it, also where a resumed run wrote on behind it."""
    if '"mode": "eval"' not in line:
        return {}
    try:
        entry: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return entry


def _last_line(path: Path) -> str:
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "(no output)"
