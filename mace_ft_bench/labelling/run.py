"""Frames in, labelled frames out: several processes on one folder, which go on where others stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING, cast

from filelock import Timeout

from mace_ft_bench.datasets.frames import CONFIG_TYPE
from mace_ft_bench.errors import LabelError
from mace_ft_bench.labelling.folder import Failure, LabelFolder, structure_digest
from mace_ft_bench.labelling.labeller import Labeller, refuse_unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from ase import Atoms

    from mace_ft_bench.labelling.settings import LabelSettings

_POLL_S = 0.2
_PID = ".pid"


@dataclass(frozen=True)
class Labelling:
    """What came of it."""

    path: Path
    """The labelled frames in one file, in order."""
    labelled: int
    failures: list[Failure] = field(default_factory=list)
    elsewhere: int = 0
    """Frames that another run is working on."""


def label(  # noqa: PLR0913 - what, how, where to, and how it is shown
    frames: list[Atoms],
    settings: LabelSettings,
    folder: Path,
    *,
    processes: int = 1,
    retry: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Labelling:
    """Label frames; one that is done in the folder is not done again.

    Parameters
    ----------
    frames
        Structures without labels, each with its ``config_type``.
    settings
        The calculator and its arguments.
    folder
        Receives ``frames/0000.xyz`` and so on as they are done, ``labelled.xyz`` with all of them in the end, and for
        each frame that could not be labelled its reason in ``failures`` and what the program wrote in ``outputs``.
    processes
        Frames that are labelled at the same time.
    retry
        Try frames again that have failed before.
    on_progress
        Called with the numbers of frames done and failed, about every fifth of a second.

    Raises
    ------
    DataError
        If a frame cannot be labelled, or the folder belongs to other settings, another program or other frames.
    CardError, MissingDependencyError
        If the calculator is not known or not installed.
    LabelError
        If the processes that label cannot start.
    """
    refuse_unusable(frames)
    labeller = Labeller.of(settings)
    place = LabelFolder(folder.absolute())
    place.claim(frames, labeller)
    if retry:
        place.forget_failures()
    bare = [frame.copy() for frame in frames]  # calculators, some of which no process can receive, stay here
    for _ in _working(place, bare, labeller, processes):
        if on_progress is not None:
            on_progress(len(place.done(len(frames))), len(place.failures(len(frames))))
    done, failures = place.done(len(frames)), place.failures(len(frames))
    return Labelling(place.collect(len(frames)), len(done), failures, len(frames) - len(done) - len(failures))


def _working(place: LabelFolder, frames: list[Atoms], labeller: Labeller, processes: int) -> Iterator[None]:
    """Keep processes at work until nothing is left that nobody works on, and yield now and then."""
    workers: list[BaseProcess] = []
    left = [index for index in range(len(frames)) if not place.is_done(index) and not place.has_failed(index)]
    try:
        workers = [_start(place, frames, labeller) for _ in range(min(processes, len(left)))]
        while workers:
            yield
            time.sleep(_POLL_S)
            ended = [worker for worker in workers if worker.exitcode is not None]
            workers = [worker for worker in workers if worker not in ended]
            for worker in ended:
                _end(worker, signal.SIGKILL)  # what it had started and could not end
                if worker.exitcode and _blamed(place, frames, worker):
                    workers.append(_start(place, frames, labeller))
            if not workers:
                _refuse_useless(place, len(frames), ended)
        yield
    finally:
        for worker in workers:
            _end(worker, signal.SIGTERM)
            worker.join()


def _start(place: LabelFolder, frames: list[Atoms], labeller: Labeller) -> BaseProcess:
    worker = get_context("spawn").Process(target=work, args=(place, frames, labeller), daemon=True)
    worker.start()
    return worker


def _end(worker: BaseProcess, how: signal.Signals) -> None:
    """Send a signal to a process and to the programs that it has started."""
    try:
        os.killpg(cast("int", worker.pid), how)
    except ProcessLookupError:  # it has no group of its own yet, or nothing of it is left
        worker.terminate()


def _blamed(place: LabelFolder, frames: list[Atoms], worker: BaseProcess) -> bool:
    """Write a failure for the frame on which a process died, so that the next one passes it by; False if on none."""
    for index, frame in enumerate(frames):
        pid = place.outputs(index) / _PID
        if not pid.is_file() or place.is_done(index) or place.has_failed(index):
            continue
        if pid.read_text(encoding="utf-8") == str(worker.pid):
            place.fail(_failure(place, index, frame, f"the process ended with {_how_ended(worker)}"))
            return True
    return False


def _refuse_useless(place: LabelFolder, number: int, ended: list[BaseProcess]) -> None:
    """Raise LabelError if processes died before they began with a frame: so would the next."""
    left = any(not place.is_done(index) and not place.has_failed(index) for index in range(number))
    for worker in ended:
        if left and worker.exitcode:
            raise LabelError(
                f"A process ended with {_how_ended(worker)} before it labelled a frame.",
                fix="see what it printed; is there memory enough?",
            )


def _how_ended(worker: BaseProcess) -> str:
    code = worker.exitcode or 0
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _failure(place: LabelFolder, index: int, frame: Atoms, reason: str) -> Failure:
    group = str(frame.info.get(CONFIG_TYPE, "unnamed"))
    return Failure(index, group, reason, str(place.outputs(index)), structure_digest(frame))


def work(place: LabelFolder, frames: list[Atoms], labeller: Labeller) -> None:
    """Label whatever nobody has labelled or works on; end when the process that started this one has ended."""
    os.setpgrp()  # with the programs it starts, so that all of them can be ended; Ctrl-C is for the one that waits
    parent = parent_process()
    for index, frame in enumerate(frames):
        if parent is not None and os.getppid() != parent.pid:
            return
        with contextlib.suppress(Timeout), place.lock(index):
            if not place.is_done(index) and not place.has_failed(index):
                _label_one(place, index, frame, labeller)


def _label_one(place: LabelFolder, index: int, frame: Atoms, labeller: Labeller) -> None:
    outputs = place.outputs(index)
    shutil.rmtree(outputs, ignore_errors=True)
    outputs.mkdir()
    (outputs / _PID).write_text(str(os.getpid()), encoding="utf-8")
    try:
        with contextlib.chdir(outputs):  # programs write their files where they are
            found = labeller.label(frame)
    except Exception as error:  # noqa: BLE001 - whatever a program of others raises is the reason of the failure
        place.fail(_failure(place, index, frame, f"{type(error).__name__}: {error}"))
        return
    place.keep(index, found)
    shutil.rmtree(outputs)
