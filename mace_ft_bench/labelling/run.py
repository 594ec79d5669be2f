"""Frames in, labelled frames out: several processes on one folder, which go on where others stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import TYPE_CHECKING

from filelock import Timeout

from mace_ft_bench.datasets.frames import CONFIG_TYPE
from mace_ft_bench.errors import LabelError
from mace_ft_bench.labelling.folder import Failure, LabelFolder
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
                if worker.exitcode:
                    _blame(place, frames, worker)
                    workers.append(_start(place, frames, labeller))
        yield
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _start(place: LabelFolder, frames: list[Atoms], labeller: Labeller) -> BaseProcess:
    worker = get_context("spawn").Process(target=work, args=(place, frames, labeller), daemon=True)
    worker.start()
    return worker


def _blame(place: LabelFolder, frames: list[Atoms], worker: BaseProcess) -> None:
    """Write a failure for the frame on which a process died, so that the next process passes it by.

    Raises
    ------
    LabelError
        If it died before it began with one: so would the next.
    """
    code = worker.exitcode or 0
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    for index, frame in enumerate(frames):
        pid = place.outputs(index) / _PID
        if pid.is_file() and pid.read_text(encoding="utf-8") == str(worker.pid) and not place.is_done(index):
            group, outputs = str(frame.info.get(CONFIG_TYPE, "unnamed")), str(place.outputs(index))
            place.fail(Failure(index, group, f"the process ended with {how}", outputs))
            return
    raise LabelError(
        f"A process ended with {how} before it labelled a frame.", fix="see what it printed; is there memory enough?"
    )


def work(place: LabelFolder, frames: list[Atoms], labeller: Labeller) -> None:
    """Label whatever nobody has labelled or works on; end when the process that started this one has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits, which ends this one
    parent = os.getppid()
    for index, frame in enumerate(frames):
        if os.getppid() != parent:
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
        group = str(frame.info.get(CONFIG_TYPE, "unnamed"))
        place.fail(Failure(index, group, f"{type(error).__name__}: {error}", str(outputs)))
        return
    place.keep(index, found)
    shutil.rmtree(outputs)
