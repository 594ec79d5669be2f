"""Environments of isolated models: made once, when the user asks, and proved by evaluating a structure.

A model has the folder ``<cache>/environments/<name>`` with a virtual environment and, written last, a record of what is
installed. Without a record that fits the card, the model counts as not installed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mace_ft_bench.atomic import write_whole
from mace_ft_bench.download import cache_folder
from mace_ft_bench.errors import CardError, MissingDependencyError
from mace_ft_bench.toml_schema import StrictTable, parse
from mace_ft_bench.zoo.card import Environment  # noqa: TC001 - read when records are parsed

if TYPE_CHECKING:
    from ase import Atoms

    from mace_ft_bench.workers.worker import Description
    from mace_ft_bench.zoo.card import ModelCard

RECORD_NAME = "installation.json"
_FIRST = "torch"
"""Goes first, alone: an interrupted installation has the largest package already, and nothing replaces its build."""
_PROBE_ATOMS = 8
_PROBE_SPACING_A = 3.0


@dataclass(frozen=True)
class Installation(StrictTable):
    """What is installed for an isolated model on this machine."""

    python: str
    """Interpreter."""
    environment: Environment
    """That of the card when it was installed."""
    packages: dict[str, str] = field(default_factory=dict)
    """Version of every package."""
    implemented_properties: tuple[str, ...] = ()
    """Results that the calculator gave for a periodic structure."""

    def pinned(self) -> dict[str, str]:
        """Return the installed versions, with their build, of the packages that can change a result."""
        return {name: _version(self.packages, name) for name in self.environment.pinned()}

    def identity(self) -> str:
        """Return what determines the results: checksum of the weights, calculator, arguments and versions."""
        content = {
            "calculator": self.environment.calculator,
            "arguments": self.environment.arguments,
            "packages": self.pinned(),
        }
        first = self.environment.weights_sha256 or self.environment.calculator
        return f"{first}@{json.dumps(content, sort_keys=True)}"

    def description(self, device: str) -> Description:
        """Return the calculator on a device, as a worker takes it."""
        from mace_ft_bench.workers.worker import Description  # noqa: PLC0415 - imports ASE's calculators

        argument = self.environment.device_argument
        return Description(
            self.environment.calculator,
            self.environment.arguments | ({argument: device} if argument else {}),
            self.pinned(),
            self.environment.weights,
            self.environment.weights_sha256,
        )


def environment_folder(card: ModelCard) -> Path:
    """Return where the environment of an isolated model is kept."""
    return cache_folder("environments") / card.name


def find_installation(card: ModelCard) -> Installation | None:
    """Return what is installed for an isolated model; None if nothing is, or something else than its card names.

    Raises
    ------
    CardError
        If the record is damaged.
    """
    path = environment_folder(card) / RECORD_NAME
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CardError(f"{path} is not valid JSON: {error}.", fix=_again(card)) from error
    found = parse(table, Installation, where=str(path))
    return found if found.environment == card.environment and Path(found.python).is_file() else None


def installation(card: ModelCard) -> Installation:
    """Return what is installed for an isolated model.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    found = find_installation(card)
    if found is None:
        raise MissingDependencyError(
            f"{card.name} runs in a Python environment of its own, which has not been made on this machine.",
            fix=f"run `mfb models install {card.name}` once.",
        )
    return found


def install(
    card: ModelCard, *, python: str = sys.executable, environment: Path | None = None, force: bool = False
) -> Installation:
    """Make the environment of an isolated model, or take one that exists, and prove that it works.

    An interrupted installation goes on where it was. pip takes packages from where it is configured to.

    Parameters
    ----------
    card
        Of kind ``isolated``.
    python
        Interpreter to make the environment with.
    environment
        Folder of an environment that has the packages already; nothing is installed into it.
    force
        Start over.

    Raises
    ------
    CardError
        If the model is not isolated.
    MissingDependencyError
        If packages cannot be installed, or are not in the environment in the versions of the card.
    WorkerError
        If the calculator does not work there.
    """
    from filelock import FileLock  # noqa: PLC0415 - beside its only use

    if card.environment is None:
        raise CardError(f"{card.name} needs no environment of its own.", fix="use it as it is, see `mfb models`.")
    folder = environment_folder(card)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        present = None if force or environment else find_installation(card)
        if present is not None:
            return present
        (folder / RECORD_NAME).unlink(missing_ok=True)
        interpreter = (
            _interpreter(environment) if environment else _made(card.environment, folder / "venv", python, force)
        )
        found = _proved(card, interpreter)
        _write(folder / RECORD_NAME, found)
    return found


def _made(wanted: Environment, folder: Path, python: str, force: bool) -> str:
    """Make a virtual environment, or complete one, and return its interpreter."""
    if force:
        shutil.rmtree(folder, ignore_errors=True)
    # -I: what PYTHONPATH or the working directory offer is not installed.
    _run([python, "-I", "-m", "venv", str(folder)], f"A virtual environment cannot be made with {python}", _CHOOSE)
    interpreter = _interpreter(folder)
    pip = [interpreter, "-I", "-m", "pip", "install", "--disable-pip-version-check"]
    first = [text for text in wanted.requirements if text.partition("==")[0] == _FIRST]
    for requirements in filter(None, (first, wanted.requirements)):
        _run([*pip, *requirements], f"pip did not install {' '.join(requirements)}", _PIP)
    return interpreter


_CHOOSE = "name another interpreter with --python, or an environment that has the packages with --environment."
_PIP = f"see what pip says; with the network back, the same command goes on. Or {_CHOOSE}"


def _run(command: list[str], failed: str, fix: str) -> None:
    try:
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL)  # noqa: S603 - built here
    except OSError as error:
        raise MissingDependencyError(f"{failed}: {error.strerror}.", fix=fix) from error
    if done.returncode:
        raise MissingDependencyError(f"{failed} (exit status {done.returncode}).", fix=fix)


def _interpreter(environment: Path) -> str:
    path = environment / "bin" / "python"
    if not path.is_file():
        raise MissingDependencyError(f"{path} does not exist.", fix="give the folder of a Python environment.")
    return str(path.absolute())  # not resolved: the link is what makes it that environment's


def _proved(card: ModelCard, interpreter: str) -> Installation:
    """Return the record of an environment after its calculator evaluated a structure in it."""
    from mace_ft_bench.workers.worker import Worker, describe_environment  # noqa: PLC0415 - imports ASE's calculators

    if card.environment is None:
        raise AssertionError(card.name)  # excluded by install()
    found = Installation(interpreter, card.environment, describe_environment(interpreter))
    for name, version in card.environment.pinned().items():
        present = _version(found.packages, name)
        if present.partition("+")[0] != version:
            raise MissingDependencyError(
                f"{name} is {present or 'not'} installed in {interpreter}; {card.name} needs {version}.",
                fix=_again(card),
            )
    worker = Worker(card.name, interpreter, found.description("cpu"), threads=1, fix=_again(card))
    try:
        results = worker.evaluate(_probe(card.elements))
    finally:
        worker.close()
    return Installation(interpreter, card.environment, found.packages, tuple(results))


def _again(card: ModelCard) -> str:
    return f"make the environment anew: `mfb models install {card.name} --force`."


def _version(packages: dict[str, str], name: str) -> str:
    """Return the version of a package, whichever way its name is written."""
    return {_plain(key): version for key, version in packages.items()}.get(_plain(name), "")


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _probe(elements: tuple[str, ...]) -> Atoms:
    """Return a periodic structure of a few elements, without symmetry."""
    import numpy as np  # noqa: PLC0415 - beside its only use
    from ase import Atoms  # noqa: PLC0415 - beside its only use

    sites = _PROBE_SPACING_A * np.indices((2, 2, 2)).reshape(3, -1).T
    moved = sites + np.random.default_rng(0).uniform(-0.2, 0.2, sites.shape)
    symbols = [elements[index % len(elements)] for index in range(_PROBE_ATOMS)]
    return Atoms(symbols, positions=moved, cell=[2 * _PROBE_SPACING_A] * 3, pbc=True)


def _write(path: Path, found: Installation) -> None:
    write_whole(path, json.dumps(asdict(found), indent=1))
