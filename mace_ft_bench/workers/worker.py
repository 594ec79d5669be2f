"""A worker process that serves the calculator of another environment, and the talk with it over i-PI."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import weakref
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import numpy as np
from ase.calculators.socketio import IPIProtocol
from ase.stress import full_3x3_to_voigt_6_stress

from mace_ft_bench.errors import WorkerError
from mace_ft_bench.timeouts import timeout_s

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ase import Atoms

T = TypeVar("T")

SCRIPT = Path(__file__).with_name("serve.py")
TIMEOUT_VARIABLE = "MFB_WORKER_TIMEOUT"
_TIMEOUT_S = 900.0
_PATIENCE_S = 5.0
"""How long a worker may take to end after its connection was closed [s]."""
_TAIL = 4000
"""Bytes of a worker's standard error that are looked at."""
_LONGEST_MESSAGE = 600
_OTHER_PYTHON = "name another interpreter with --python, or another environment with --environment."
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Description:
    """The calculator that a worker serves."""

    calculator: str
    """``module:callable`` in its environment."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the callable."""
    packages: dict[str, str] = field(default_factory=dict)
    """Versions without which the worker refuses to serve."""
    weights: str = ""
    """File that a package of the environment ships, ``package/path``, and ..."""
    weights_sha256: str = ""
    """... its checksum, without which the worker refuses to serve."""


class Worker:
    """A process that serves one calculator, alive as long as this object.

    The connection is a pair of anonymous sockets: no file is left behind, nobody else can connect, and when this
    process ends, in whatever way, the worker reads the end of its socket and ends, too.

    Parameters
    ----------
    model
        Name for messages.
    python
        Interpreter of the environment.
    description
        The calculator.
    threads
        Number of threads to compute with.
    fix
        What the user can do when the worker does not start.

    Raises
    ------
    WorkerError
        If it does not start to serve within ``MFB_WORKER_TIMEOUT`` seconds (900 by default).
    """

    def __init__(self, model: str, python: str, description: Description, *, threads: int, fix: str) -> None:
        self._model = model
        self._timeout_s = timeout_s(TIMEOUT_VARIABLE, _TIMEOUT_S)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the worker
        here, there = socket.socketpair()
        here.settimeout(self._timeout_s)
        with there:
            try:
                self._process = _start(model, python, description, there, self._log, threads=threads)
            except BaseException:
                here.close()
                self._log.close()
                raise
        self._close = weakref.finalize(self, _end, self._process, here, self._log, os.getpid())
        self._protocol = _Protocol(here)  # type: ignore[no-untyped-call]  # untyped in ASE
        self._ask(self._protocol.status, fix)

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be asked: not closed, not lost, and not that of a process that this one was forked from."""
        found = self._close.peek()
        return found is not None and found[2][-1] == os.getpid()

    def close(self) -> None:
        """End the process; also done when this object or the interpreter goes."""
        self._close()

    def evaluate(self, atoms: Atoms) -> dict[str, Any]:
        """Return the results of one structure by the names of ASE, in ASE's units.

        Raises
        ------
        WorkerError
            If the calculator fails, which leaves the worker alive; if the worker is lost or silent, which ends it.
        """
        self._protocol.structure = {"numbers": atoms.numbers.tolist(), "pbc": atoms.pbc.tolist()}
        answer = self._ask(
            lambda: self._protocol.calculate(atoms.positions, atoms.cell.array),  # type: ignore[no-untyped-call]
            "run it again if the machine was short of memory; the next structure gets a new worker.",
        )
        extras = json.loads(answer["morebytes"].tobytes())
        if "error" in extras:
            raise WorkerError(
                f"{self._model} cannot evaluate this structure: {extras['error']}",
                fix="look at the structure; the message is that of the model's own package.",
            )
        return _results(answer, extras, atoms)

    def _ask(self, question: Callable[[], T], fix: str) -> T:
        try:
            return question()
        except (OSError, AssertionError) as error:  # ASE asserts that messages follow the protocol
            raise self._lost(error, fix) from error
        except BaseException:  # an interruption in the middle of a message: what comes next would be misread
            self._process.kill()
            self.close()
            raise

    def _lost(self, error: Exception, fix: str) -> WorkerError:
        if isinstance(error, TimeoutError):
            self._process.kill()
            self.close()
            return WorkerError(
                f"The worker of {self._model} gave no answer within {self._timeout_s:g} s.",
                fix=f"set {TIMEOUT_VARIABLE} to more seconds if it only needs longer.",
            )
        _reap(self._process)
        last = _last_line(self._log)
        self.close()
        return WorkerError(f"The worker of {self._model} ended ({_how(self._process.returncode)}): {last}", fix=fix)


class _Protocol(IPIProtocol):
    """The driver's side of i-PI, with a string of its own in the initialisation."""

    structure: Mapping[str, Any]

    def sendinit(self) -> None:
        """Send what i-PI does not transmit otherwise."""
        text = np.frombuffer(json.dumps(self.structure).encode(), dtype=np.byte)
        self.sendmsg("INIT")  # type: ignore[no-untyped-call]
        for value, kind in ((0, np.int32), (len(text), np.int32), (text, np.byte)):  # first the number of the bead
            self.send(value, kind)  # type: ignore[no-untyped-call]


def _results(answer: Mapping[str, Any], extras: dict[str, Any], atoms: Atoms) -> dict[str, Any]:
    results = {"energy": float(answer["energy"]), "free_energy": float(answer["energy"]), "forces": answer["forces"]}
    if extras.pop("stress"):
        results["stress"] = -full_3x3_to_voigt_6_stress(answer["virial"]) / atoms.get_volume()
    return results | {name: np.array(values) for name, values in extras.items()}


def describe_environment(python: str) -> dict[str, str]:
    """Return the versions of the packages of an environment, by name.

    Raises
    ------
    WorkerError
        If its interpreter cannot be run.
    """
    try:
        done = subprocess.run(  # noqa: S603 - the interpreter that the user chose
            [python, "-I", str(SCRIPT), "describe"],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s(TIMEOUT_VARIABLE, _TIMEOUT_S),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WorkerError(f"{python} cannot be run ({error}).", fix=_OTHER_PYTHON) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise WorkerError(f"{python} does not say what is installed: {last}.", fix=_OTHER_PYTHON)
    return {str(name): str(version) for name, version in json.loads(done.stdout).items()}


def _start(  # noqa: PLR0913 - what a process needs
    model: str, python: str, description: Description, there: socket.socket, log: IO[bytes], *, threads: int
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 - the interpreter that the user chose
            # -I: neither PYTHONPATH nor the working directory put other packages before those of the environment
            [python, "-I", str(SCRIPT), str(there.fileno()), json.dumps(asdict(description))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            pass_fds=[there.fileno()],
            env=os.environ | dict.fromkeys(_THREAD_VARIABLES, str(threads)),
            start_new_session=True,  # an interruption from the keyboard is ours to handle
        )
    except OSError as error:
        raise WorkerError(f"The worker of {model} cannot be started ({error}).", fix=_OTHER_PYTHON) from error


def _end(process: subprocess.Popen[bytes], here: socket.socket, log: IO[bytes], owner: int) -> None:
    here.close()
    log.close()
    if os.getpid() == owner:  # a forked process has a copy of our end, but the worker is not its child
        _reap(process)


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that has no reason to live; kill it if it takes its time."""
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _how(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def _last_line(log: IO[bytes]) -> str:
    """Return the last line of a worker's standard error that says something."""
    log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL))
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return (lines[-1] if lines else "it said nothing")[-_LONGEST_MESSAGE:]
