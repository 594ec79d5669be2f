"""Frames of VASP, read by ASE, with what ASE does not ask: was every electronic loop converged, did the run end."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ase.io import ParseError
from ase.io import read as ase_read

from mace_ft_bench.datasets.readers.labels import Labels, partly_labelled
from mace_ft_bench.errors import DataError
from mace_ft_bench.toml_schema import StrictTable

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms

_ENERGIES = {"free": "free_energy", "sigma0": "energy"}


@dataclass(frozen=True)
class _Run:
    """What a run says of itself."""

    converged: tuple[bool, ...]
    """For every ionic step, whether its electronic loop converged."""
    finished: bool


@dataclass(frozen=True, kw_only=True)
class _Vasp(StrictTable):
    """Options of both files of VASP."""

    energy: Literal["free", "sigma0"]
    """``free``: the free energy, whose derivatives the forces and stress are. ``sigma0``: extrapolated to no smearing
    (``energy(sigma->0)``), as some databases store; it does not belong to the forces."""
    allow_unconverged: bool = False
    """Leave steps whose electronic loop did not converge out, rather than refuse the run."""
    allow_truncated: bool = False
    """Read the complete steps of a run that did not end."""
    config_type: str = ""
    """Group of the frames; by default the name of the folder."""

    def read(self, path: Path) -> list[Atoms]:
        """Return the ionic steps of a run.

        Raises
        ------
        DataError
            If the run did not end, a step is not converged, or a step has no forces.
        """
        run = self._examine(path)
        if not run.finished and not self.allow_truncated:
            raise DataError(
                f"{path} ends in the middle of a run.", fix="use allow_truncated to read the complete steps."
            )
        unconverged = [number for number, good in enumerate(run.converged) if not good]
        if unconverged and not self.allow_unconverged:
            raise DataError(
                f"{path}: the electronic loop of step {', '.join(map(str, unconverged))} did not converge.",
                fix="compute them again, or use allow_unconverged to leave these steps out.",
            )
        steps = self._steps(path)
        complete = min(len(steps), len(run.converged))
        if complete == 0 or (run.finished and len(steps) != len(run.converged)):
            raise DataError(f"{path}: {len(steps)} of {len(run.converged)} steps can be read.", fix="check the file.")
        kept = [number for number in range(complete) if run.converged[number]]
        return [self._frame(steps[number], path, number) for number in kept]

    @staticmethod
    @abstractmethod
    def _examine(path: Path) -> _Run: ...

    @staticmethod
    @abstractmethod
    def _steps(path: Path) -> list[Atoms]: ...

    def _frame(self, step: Atoms, path: Path, number: int) -> Atoms:
        results = step.calc.results  # atoms.get_forces() would apply the constraints of selective dynamics
        where = f"{path}, step {number}"
        if results.get("forces") is None:
            raise DataError(f"{where} has no forces.", fix="check the file.")
        return partly_labelled(
            step,
            Labels(
                energy=float(results[_ENERGIES[self.energy]]),
                forces=results["forces"],
                stress=results.get("stress"),
            ),
            config_type=self.config_type or path.resolve().parent.name,
            where=where,
        )


@dataclass(frozen=True, kw_only=True)
class Vasprun(_Vasp):
    """A ``vasprun.xml``; its stress, in kbar with compression positive, is converted by ASE.

    A step that took NELM electronic iterations counts as not converged.
    """

    @staticmethod
    def _examine(path: Path) -> _Run:
        iterations, limit, finished = [], None, True
        try:
            for _, element in ET.iterparse(path):  # noqa: S314 - no more dangerous than ASE, which reads it next
                if element.tag == "calculation":
                    iterations.append(len(element.findall("scstep")))
                elif element.tag == "i" and element.get("name") == "NELM" and limit is None:
                    limit = int(element.text or 0)
        except ET.ParseError:
            finished = False
        if limit is None:
            raise DataError(f"{path} does not name NELM; it is no vasprun.xml, or ends early.", fix="check the file.")
        return _Run(tuple(count < limit for count in iterations), finished)

    @staticmethod
    def _steps(path: Path) -> list[Atoms]:
        return list(ase_read(path, index=":", format="vasp-xml"))


@dataclass(frozen=True, kw_only=True)
class Outcar(_Vasp):
    """An ``OUTCAR``; its stress, in kbar with compression positive, is converted by ASE.

    A step is converged where VASP says that EDIFF is reached. Runs of VASP's machine-learned force field are refused.
    """

    @staticmethod
    def _examine(path: Path) -> _Run:
        converged, reached, finished = [], False, False
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if "aborting loop because EDIFF is reached" in line:
                    reached = True
                elif "FREE ENERGIE OF THE ION-ELECTRON SYSTEM" in line:
                    converged.append(reached)
                    reached = False
                elif "free  energy ML TOTEN" in line:
                    raise DataError(f"{path} holds steps of a machine-learned force field.", fix="give DFT runs.")
                elif "General timing and accounting" in line:
                    finished = True
        return _Run(tuple(converged), finished)

    @staticmethod
    def _steps(path: Path) -> list[Atoms]:
        try:
            return list(ase_read(path, index=":", format="vasp-out"))
        except ParseError as error:
            raise DataError(f"{path} is no OUTCAR that ASE can read: {error}.", fix="check the file.") from error
