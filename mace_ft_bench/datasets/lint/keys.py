"""Under which keys the labels of a file lie, and the same frames with the labels under ours.

A name is taken for a label if one of its words is, say, ``energy`` and all others say that it comes from a reference
calculation: ``dft_energy``, ``F_DFT``. Names with other words (``FF_energy``) are taken for those of a model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.outputs import all_outputs

from mace_ft_bench.datasets.frames import CONFIG_TYPE, ENERGY, FORCES, STRESS
from mace_ft_bench.datasets.lint.finding import Finding
from mace_ft_bench.datasets.readers.stress import voigt_of_matrix
from mace_ft_bench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

_WORDS = {
    ENERGY: {"energy", "e", "toten", "etot"},
    FORCES: {"forces", "force", "f"},
    STRESS: {"stress", "virial", "virials"},
}
_ORIGINS = frozenset(
    [
        *("ref", "reference", "dft", "qm", "scf", "ai", "abinitio", "total", "true", "target", "label"),
        *("vasp", "castep", "cp2k", "aims", "qe", "espresso", "gpaw"),
        *("pbe", "pbesol", "pw91", "rpbe", "scan", "r2scan", "ccsd", "mp2"),
    ]
)
HIDDEN = "_of_the_file"
"""What our reader of extended XYZ adds to the keys that ASE would take to itself."""
_OF_ATOMS = frozenset(name for name, kind in all_outputs.items() if getattr(kind, "shapespec", ())[:1] == ("natoms",))
"""What calculators have for every atom."""
_MOVES = "move_mask"
"""Column of which ASE makes the constraint of fixed atoms."""
_KINDS = {ENERGY: "energy", FORCES: "forces", STRESS: "stress"}


@dataclass(frozen=True)
class Keys:
    """Which labels a frame has."""

    labels: Mapping[str, tuple[str, ...]]
    """By our key the names in the frame, that which is read first."""
    swallowed: frozenset[str]
    """Names that ASE's reader has moved into a calculator."""
    others: frozenset[str]
    """Names that look like energies or forces of a model."""


def keys_of(frame: Atoms) -> Keys:
    """Return which of the values of a frame are labels."""
    swallowed = frozenset(frame.calc.results) if frame.calc is not None else frozenset()
    names = {_shown(name): name for name in (*frame.info, *frame.arrays, *swallowed)}
    labels = {
        label: tuple(sorted((name for name in names if _is_label(name, label)), key=lambda name: _rank(name, label)))
        for label in _WORDS
    }
    others = frozenset(
        name for name in names for label in (ENERGY, FORCES) if _mentions(name, label) and name not in labels[label]
    )
    return Keys(labels, swallowed, frozenset(name for name in others if _is_numeric(_value(frame, name))))


def adopt(frame: Atoms, keys: Keys) -> Atoms:
    """Return a copy with the labels under our keys and nothing else but the group; a virial becomes a stress."""
    copy = Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
    copy.info.update({name: frame.info[name] for name in (CONFIG_TYPE,) if name in frame.info})
    for label, names in keys.labels.items():
        if not names:
            continue
        value = _value(frame, names[0])
        if label == FORCES:
            if np.shape(value)[:1] == (len(frame),):
                copy.arrays[FORCES] = np.asarray(value)
            else:
                copy.info[FORCES] = value  # of another shape: not an array of this frame
        else:
            copy.info[label] = _voigt(value, frame, names[0]) if label == STRESS else value
    return copy


def check_keys(all_keys: Mapping[int, Keys]) -> list[Finding]:
    """Return what is to be said about the names of labels: foreign, swallowed, or several for one label."""
    return [*_several(all_keys), *_changing(all_keys), *_foreign(all_keys), *_of_models(all_keys)]


def _several(all_keys: Mapping[int, Keys]) -> list[Finding]:
    found = []
    for label, kind in _KINDS.items():
        frames = [index for index, keys in all_keys.items() if len(keys.labels[label]) > 1]
        if frames:
            names = sorted({name for index in frames for name in all_keys[index].labels[label]})
            read = sorted({all_keys[index].labels[label][0] for index in frames})
            found.append(
                Finding(
                    "mixed-keys",
                    "warning",
                    f"Frames hold more than one {kind} label ({', '.join(names)}); {', '.join(read)} is read here.",
                    "keep the label of the reference calculation, and remove the others.",
                    tuple(frames),
                )
            )
    return found


def _changing(all_keys: Mapping[int, Keys]) -> list[Finding]:
    found = []
    for label, kind in _KINDS.items():
        groups: dict[str, list[int]] = {}
        for index, keys in all_keys.items():
            if keys.labels[label]:
                groups.setdefault(keys.labels[label][0], []).append(index)
        if len(groups) > 1:
            ranked = sorted(groups.items(), key=lambda item: -len(item[1]))
            counts = ", ".join(f"{name} in {len(frames)} frames" for name, frames in ranked)
            found.append(
                Finding(
                    "mixed-keys",
                    "error",
                    f"The {kind} has different names: {counts}.",
                    "convert the sources one by one, with the units of each (mfb data convert).",
                    tuple(sorted(index for _, frames in ranked[1:] for index in frames)),
                )
            )
    return found


def _foreign(all_keys: Mapping[int, Keys]) -> list[Finding]:
    names: dict[bool, dict[str, list[int]]] = {True: {}, False: {}}
    for index, keys in all_keys.items():
        for label, found in keys.labels.items():
            if found and found[0] != label:
                names[found[0] in keys.swallowed].setdefault(found[0], []).append(index)
    findings = []
    if names[True]:
        findings.append(
            Finding(
                "swallowed-labels",
                "warning",
                f"ASE moves {', '.join(sorted(names[True]))} into a calculator; training does not look there.",
                "rename them with --fix, or convert the file (mfb data convert).",
                tuple(sorted({index for found in names[True].values() for index in found})),
            )
        )
    if names[False]:
        findings.append(
            Finding(
                "foreign-keys",
                "warning",
                f"Labels are called {', '.join(sorted(names[False]))}; training reads {ENERGY}, {FORCES} and {STRESS}.",
                "rename energies and forces with --fix; a stress is converted with its convention named "
                "(mfb data convert).",
                tuple(sorted({index for found in names[False].values() for index in found})),
            )
        )
    return findings


def _of_models(all_keys: Mapping[int, Keys]) -> list[Finding]:
    names = sorted({name for keys in all_keys.values() for name in keys.others})
    if not names:
        return []
    return [
        Finding(
            "other-keys",
            "info",
            f"Not taken for labels: {', '.join(names)}.",
            "if one of them is, convert the file and name it (mfb data convert --energy-key, --forces-key).",
        )
    ]


def as_in_file(frame: Atoms) -> Atoms:
    """Return a copy without calculator, whose labels have the names of the file they were read from."""
    copy: Atoms = frame.copy()
    for name, value in (frame.calc.results if frame.calc is not None else {}).items():
        store = copy.arrays if name in _OF_ATOMS else copy.info
        store.setdefault(name, np.array(value) if store is copy.arrays else value)
    for name in [name for name in copy.info if name.endswith(HIDDEN)]:
        copy.info[_shown(name)] = copy.info.pop(name)
    if fixed := [one.index for one in copy.constraints if isinstance(one, FixAtoms)]:
        copy.arrays[_MOVES] = np.isin(np.arange(len(copy)), np.concatenate(fixed), invert=True)
    return copy


def original_key(name: str, frame: Atoms) -> str:
    """Return the name under which a label lies in ``info``, ``arrays`` or the calculator's results."""
    return f"{name}{HIDDEN}" if f"{name}{HIDDEN}" in frame.info else name


def _shown(name: str) -> str:
    return name.removesuffix(HIDDEN)


def _tokens(name: str) -> set[str]:
    return {token for token in re.split(r"[_\-. ]+", name.lower()) if token}


def _mentions(name: str, label: str) -> bool:
    words = {word for word in _WORDS[label] if len(word) > 1}
    return len(_tokens(name)) <= 2 and bool(_tokens(name) & words)  # noqa: PLR2004 - a word and who computed it


def _is_label(name: str, label: str) -> bool:
    tokens = _tokens(name)
    words = tokens & _WORDS[label]
    return len(words) == 1 and tokens - words <= _ORIGINS


def _rank(name: str, label: str) -> tuple[int, str]:
    """Ours first, then names that say where they come from: a bare ``energy`` may be a model's."""
    return (0 if name == label else 1 if len(_tokens(name)) > 1 else 2, name)


def _value(frame: Atoms, name: str) -> Any:  # noqa: ANN401 - whatever a file holds
    name = original_key(name, frame)
    if name in frame.info:
        return frame.info[name]
    return frame.arrays[name] if name in frame.arrays else frame.calc.results[name]


def _is_numeric(value: Any) -> bool:  # noqa: ANN401 - whatever a file holds
    return not isinstance(value, (str, dict)) and np.asarray(value).dtype.kind == "f"


def _voigt(value: Any, frame: Atoms, name: str) -> Any:  # noqa: ANN401 - what is no stress is left as it is
    """Return six components in ASE's order; a virial is taken for that of QUIP and DeePMD, -V times the stress."""
    try:
        array = np.asarray(value, dtype=float)
        if array.size == 9:  # noqa: PLR2004 - a matrix
            array = voigt_of_matrix(array, name)
    except (ValueError, TypeError, DataError):
        return value
    volume = frame.cell.volume
    return -array / volume if "virial" in name.lower() and volume > 0 else array
