"""Workers: the numbers of the other process, and no process left behind, however things end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT

from mace_ft_bench import testing
from mace_ft_bench.errors import UnknownNameError, WorkerError
from mace_ft_bench.workers import worker as workers
from mace_ft_bench.workers.worker import Description, Worker, describe_environment

from ..peers import is_gone, odd_environment

EMT_HERE = Description("ase.calculators.emt:EMT")
ROUNDING = 1e-12
"""Units are converted to Hartree and Bohr and back."""


def start(description=EMT_HERE, python=sys.executable, threads=1):
    return Worker("peer", str(python), description, threads=threads, fix="mend it.")


@pytest.fixture(scope="module")
def served():
    worker = start()
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Return a function that starts a worker whose calculator misbehaves, and the interpreter of its environment."""
    python = odd_environment(tmp_path_factory.mktemp("odd") / "venv") / "bin" / "python"

    def misbehaving(does, **options):
        return start(Description("odd_peer:Odd", {"does": does}), python, **options)

    misbehaving.python = python
    return misbehaving


def adatom():
    slab = fcc111("Au", (2, 2, 2), vacuum=6.0)
    slab.symbols[3] = "Cu"
    slab.rattle(0.1, seed=1)
    return slab


STRUCTURES = {
    "a sheared crystal": testing.sheared_crystal("Cu", "fcc", 3.6),
    "a primitive cell": bulk("Al"),
    "an open slab with another element": adatom(),
    "a wire": Atoms("Pt2", [[0, 0, 0], [0.3, 0.1, 2.5]], cell=[20, 20, 5], pbc=[False, False, True]),
    "a molecule without a cell": molecule("CO"),
    "a left-handed cell": Atoms("Ni", cell=[[0, 1.8, 1.8], [1.8, 1.8, 0], [1.8, 0, 1.8]], pbc=True),
}


def test_results_are_those_of_the_calculator_whatever_the_structure(served):
    for name, atoms in STRUCTURES.items():
        expected = atoms.copy()
        expected.calc = EMT()
        energy, forces = expected.get_potential_energy(), expected.get_forces()
        found = served.evaluate(atoms)
        assert found["energy"] == found["free_energy"] == pytest.approx(energy, abs=ROUNDING), name
        assert np.abs(found["forces"] - forces).max() <= ROUNDING, name
        assert np.abs(found["energies"] - expected.get_potential_energies()).max() <= ROUNDING, name
        assert ("stress" in found) == (atoms.cell.rank == 3), name
        if "stress" in found:
            assert np.abs(found["stress"] - expected.get_stress()).max() <= ROUNDING, name


def test_an_error_of_the_calculator_costs_no_worker(served):
    pid, atoms = served.pid, bulk("Cu")
    before = served.evaluate(atoms)["energy"]
    with pytest.raises(WorkerError, match="peer cannot evaluate this structure: NotImplementedError.*Mo"):
        served.evaluate(bulk("Mo"))
    assert served.alive
    assert (served.pid, served.evaluate(atoms)["energy"]) == (pid, before)


@pytest.mark.parametrize(
    ("does", "message"), [("fails", "ZeroDivisionError: of its own"), ("NaN", "forces not finite")]
)
def test_what_is_no_number_is_an_error(odd, does, message):
    worker = odd(does)
    with pytest.raises(WorkerError, match=message):
        worker.evaluate(bulk("Cu"))
    assert worker.evaluate(bulk("Cu", cubic=True))["energy"] == pytest.approx(-0.028, abs=0.01)


def test_further_results_come_along(odd):
    assert odd("has moments").evaluate(bulk("Cu"))["magmoms"].tolist() == [2.25]


def test_it_computes_with_as_many_threads_as_we_do(odd):
    assert odd("counts threads", threads=3).evaluate(bulk("Cu"))["energy"] == pytest.approx(3.0)


def test_a_killed_worker_is_an_error_that_says_so():
    worker = start()
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match="worker of peer ended .signal 9"):
        worker.evaluate(bulk("Cu"))
    assert not worker.alive
    assert is_gone(worker.pid)


def test_a_worker_that_dies_leaves_its_last_words(odd):
    worker = odd("dies")
    with pytest.raises(WorkerError, match="ended .exit status 7.: the last words"):
        worker.evaluate(bulk("Cu"))
    assert is_gone(worker.pid)


def test_a_silent_worker_is_ended(odd):
    worker = odd("waits")
    worker._protocol.socket.settimeout(0.5)
    with pytest.raises(WorkerError, match="gave no answer.*MFB_WORKER_TIMEOUT"):
        worker.evaluate(bulk("Cu"))
    assert not worker.alive
    assert is_gone(worker.pid)


def test_a_worker_that_does_not_start_is_ended(odd, monkeypatch):
    started = []
    real = workers._start
    monkeypatch.setattr(workers, "_start", lambda *a, **o: started.append(real(*a, **o)) or started[-1])
    monkeypatch.setenv(workers.TIMEOUT_VARIABLE, "1")
    with pytest.raises(WorkerError, match="gave no answer within 1 s"):
        odd("never starts")
    assert is_gone(started[0].pid)
    monkeypatch.setenv(workers.TIMEOUT_VARIABLE, "soon")
    with pytest.raises(UnknownNameError, match="no time"):
        odd("nothing")


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (Description("no_such_package:Peer"), "No module named 'no_such_package'.*mend it"),
        (Description("ase.calculators.emt:EMTT"), "no attribute 'EMTT'"),
        (Description("ase.calculators.emt:EMT", packages={"ase": "1.0"}), "ase is .*, installed was 1.0"),
        (Description("ase.calculators.emt:EMT", packages={"no-such-package": "1"}), "no-such-package is missing"),
        (
            Description("ase.calculators.emt:EMT", weights="ase/__init__.py", weights_sha256="00"),
            "has sha256 .* not 00",
        ),
        (Description("ase.calculators.emt:EMT", weights="no_such_package/x", weights_sha256="00"), "is missing"),
        (Description("ase.calculators.emt:EMT", weights="ase/none.pth", weights_sha256="00"), "No such file"),
    ],
)
def test_what_is_not_as_it_was_installed_does_not_serve(description, message):
    with pytest.raises(WorkerError, match=message):
        start(description)


def test_an_interpreter_that_is_none(tmp_path):
    with pytest.raises(WorkerError, match="cannot be started"):
        start(python=tmp_path / "python")
    with pytest.raises(WorkerError, match="cannot be run"):
        describe_environment(str(tmp_path / "python"))
    with pytest.raises(WorkerError, match="does not say what is installed"):
        describe_environment("/bin/false")


def test_an_interruption_in_the_middle_of_a_message_ends_the_worker(monkeypatch):
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    worker = start()
    monkeypatch.setattr(worker._protocol, "calculate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        worker.evaluate(bulk("Cu"))
    assert not worker.alive
    assert is_gone(worker.pid)


def test_closing_ends_it_and_so_does_forgetting_it():
    closed, forgotten = start(), start()
    pids = closed.pid, forgotten.pid
    closed.close()
    closed.close()
    del forgotten
    assert all(map(is_gone, pids))
    assert not closed.alive


SCRIPT = """
import os, signal, sys
from ase.build import bulk
from mace_ft_bench.workers.worker import Description, Worker
worker = Worker("peer", sys.executable, Description("ase.calculators.emt:EMT"), threads=1, fix="mend it.")
worker.evaluate(bulk("Cu"))
print(worker.pid, flush=True)
{end}
"""
FORKED = """
if os.fork() == 0:
    assert not worker.alive
    worker.close()
    os._exit(0)
assert os.wait()[1] == 0
worker.evaluate(bulk("Cu"))
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [
        pytest.param("", 0, id="ends"),
        pytest.param("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, id="killed"),
        pytest.param(FORKED, 0, id="forked"),
    ],
)
def test_it_ends_with_the_process_that_started_it(end, status):
    """The folder of sockets that ASE's own server uses stays as it was, too."""
    before = set(Path("/tmp").glob("ipi_*"))  # noqa: S108 - where ASE puts them
    command = [sys.executable, "-W", "error", "-c", SCRIPT.format(end=end)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, "")
    assert is_gone(int(done.stdout))
    assert set(Path("/tmp").glob("ipi_*")) <= before  # noqa: S108 - as above


def test_the_packages_of_an_environment(odd):
    ours = describe_environment(sys.executable)
    assert ours["numpy"] == np.__version__
    assert "torch" in ours
    assert describe_environment(str(odd.python))["numpy"] == np.__version__
