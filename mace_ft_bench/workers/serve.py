"""Serve one ASE calculator over the i-PI protocol; run by the Python of the model's own environment.

Imports ASE and the package of the model, nothing of mace_ft_bench, which is not installed there::

    python -I serve.py describe              prints the versions of the packages, as JSON
    python -I serve.py SOCKET DESCRIPTION    serves over an open socket, until that is closed

Before every structure the worker asks for an initialisation (NEEDINIT), as the drivers that come with i-PI do. Its
string holds as JSON what i-PI does not transmit: atomic numbers and periodicity. The extra string of the answer holds
as JSON ``stress`` (whether there is one), results for which i-PI has no place, and ``error`` when there is no answer.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import pathlib
import socket
import sys
from importlib import metadata, util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Answer = tuple[float, np.ndarray, np.ndarray, np.ndarray]

PER_ATOM = ("energies", "magmoms")
"""Results that travel in the extra string, where the calculator has them."""
_SERVE = 3
"""Number of arguments of a worker that serves."""


def describe() -> dict[str, str]:
    """Return the versions of all packages of this environment; of two with one name, the one that is imported."""
    versions: dict[str, str] = {}
    for found in metadata.distributions():  # in the order of sys.path
        versions.setdefault(found.metadata["Name"], found.version)
    return versions


def verify(description: dict[str, Any]) -> None:
    """End with a message unless packages and weights are those that were installed."""
    for name, version in description["packages"].items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "missing"
        if found != version:
            sys.exit(f"{name} is {found}, installed was {version}")
    if description["weights"]:
        found = hashlib.sha256(path_in_package(description["weights"]).read_bytes()).hexdigest()
        if found != description["weights_sha256"]:
            sys.exit(f"{description['weights']} has sha256 {found}, not {description['weights_sha256']}")


def path_in_package(name: str) -> pathlib.Path:
    """Return the path of a file that a package ships, without importing the package."""
    package, _, rest = name.partition("/")
    found = util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"the package {package} is missing")
    return pathlib.Path(found.submodule_search_locations[0]) / rest


def build(description: dict[str, Any]) -> Any:  # noqa: ANN401 - an ASE calculator
    """Return the calculator."""
    module, _, name = description["calculator"].partition(":")
    return getattr(importlib.import_module(module), name)(**description["arguments"])


def serve(protocol: Any, calculator: Any) -> None:  # noqa: ANN401 - objects of ASE
    """Answer until the other side is gone."""
    state = "NEEDINIT"
    while True:
        message = protocol.recvmsg()
        if message == "EXIT":
            return
        if message == "STATUS":
            protocol.sendmsg(state)
        elif message == "INIT":
            structure, state = json.loads(protocol.recvinit()[1].tobytes()), "READY"
        elif message == "POSDATA":
            cell, _, positions = protocol.recvposdata()
            answer, state = evaluate(calculator, structure, cell, positions), "HAVEDATA"
        elif message == "GETFORCE":
            protocol.sendforce(*answer)
            state = "NEEDINIT"
        else:
            raise RuntimeError(f"no message of i-PI: {message}")


def evaluate(
    calculator: Any,  # noqa: ANN401 - an ASE calculator
    structure: dict[str, Any],
    cell: np.ndarray,
    positions: np.ndarray,
) -> Answer:
    """Return energy [eV], forces [eV/A], virial [eV] and the extra string; an error of the calculator is an answer."""
    import numpy as np  # noqa: PLC0415 - describing an environment needs none

    try:
        energy, forces, virial, extras = _compute(calculator, structure, cell, positions)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other side has to know
        energy, forces, virial = 0.0, np.zeros_like(positions), np.zeros((3, 3))
        extras = {"error": f"{type(error).__name__}: {error}"}
        calculator.reset()
    return energy, forces, virial, np.frombuffer(json.dumps(extras).encode(), dtype=np.byte)


def _compute(
    calculator: Any,  # noqa: ANN401 - an ASE calculator
    structure: dict[str, Any],
    cell: np.ndarray,
    positions: np.ndarray,
) -> tuple[float, np.ndarray, np.ndarray, dict[str, Any]]:
    import numpy as np  # noqa: PLC0415 - as above
    from ase import Atoms  # noqa: PLC0415 - as above

    atoms = Atoms(structure["numbers"], positions, cell=cell, pbc=structure["pbc"], calculator=calculator)
    energy = float(atoms.get_potential_energy())
    forces = np.array(atoms.get_forces(), dtype=float)
    with_stress = bool("stress" in calculator.implemented_properties and atoms.cell.rank == len(cell))
    stress = np.array(atoms.get_stress(voigt=False) if with_stress else np.zeros((3, 3)), dtype=float)
    found = {name: calculator.results[name] for name in PER_ATOM if calculator.results.get(name) is not None}
    extras = {name: np.array(values, dtype=float).tolist() for name, values in found.items()}
    for what, values in {"energy": energy, "forces": forces, "stress": stress, **extras}.items():
        if not np.isfinite(values).all():
            raise FloatingPointError(f"{what} not finite")
    return energy, forces, -atoms.get_volume() * stress if with_stress else stress, {"stress": with_stress, **extras}


def main(arguments: list[str]) -> None:
    """Describe the environment, or serve."""
    if arguments[1:] == ["describe"]:
        json.dump(describe(), sys.stdout)
        return
    if len(arguments) != _SERVE:
        sys.exit(__doc__)
    connection = socket.socket(fileno=int(arguments[1]))
    description = json.loads(arguments[2])
    verify(description)
    calculator = build(description)
    from ase.calculators.socketio import IPIProtocol, SocketClosed  # noqa: PLC0415 - as above

    try:
        serve(IPIProtocol(connection), calculator)
    except (SocketClosed, ConnectionError):
        return  # whoever started us is gone


if __name__ == "__main__":
    main(sys.argv)
