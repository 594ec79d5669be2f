"""Checks of the labels by themselves: there, finite, of the right shape, and not a placeholder."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import spglib

from mace_ft_bench.datasets.frames import CONFIG_TYPE, ENERGY, FORCES, STRESS
from mace_ft_bench.datasets.lint.finding import Finding, Frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

_LABELS = (ENERGY, FORCES, STRESS)
_SYMMETRY_A = 1e-3
"""How well symmetric positions have to agree [Angstrom]."""
_NET_FORCE = 0.05
"""Net force per atom above which a frame is named [eV/Angstrom]."""
_NET_SHARE = 0.1
"""The same, as a share of the root mean square force."""
_BROAD = 3
"""Dimensions of a cell."""


def missing_labels(frames: Frames) -> list[Finding]:
    """Find frames without labels, or without one that others have."""
    found = []
    bare = [index for index, frame in frames.items() if not any(has(frame, label) for label in _LABELS)]
    if bare:
        everything = len(bare) == len(frames)
        found.append(
            Finding(
                "missing-labels",
                "error",
                "No frame has a label." if everything else "Some frames have no label at all.",
                "label them; if labels have names of their own, convert the file and name them (mfb data convert).",
                tuple(bare),
            )
        )
    labelled = {index: frame for index, frame in frames.items() if index not in set(bare)}
    for label in _LABELS:
        without = [index for index, frame in labelled.items() if not has(frame, label)]
        if without and len(without) == len(labelled):
            severity, text = ("info" if label == STRESS else "warning"), f"No frame has {label}."
        elif without:
            severity, text = "warning", f"{len(without)} of {len(labelled)} labelled frames have no {label}."
        else:
            continue
        found.append(
            Finding(
                "missing-labels",
                severity,  # type: ignore[arg-type]  # one of two literals
                text,
                "nothing, if that is meant: a missing label does not count in the loss.",
                tuple(without) if len(without) < len(frames) else (),
            )
        )
    return found


def wrong_shape(frames: Frames) -> list[Finding]:
    """Find labels that are no numbers, or not of the shape of the frame."""
    found = []
    for label in _LABELS:
        wrong = [index for index, frame in frames.items() if has(frame, label) and not fits(frame, label)]
        if wrong:
            shape = np.shape(label_of(frames[wrong[0]], label))
            found.append(
                Finding(
                    "wrong-shape",
                    "error",
                    f"{label} has shape {shape} or is no number, in the first of these frames.",
                    "write one number as energy, (n, 3) as forces, and six numbers or a symmetric matrix as stress.",
                    tuple(wrong),
                )
            )
    return found


def not_finite(frames: Frames) -> list[Finding]:
    """Find labels, positions and cells with NaN or infinity."""
    found = []
    for what in (*_LABELS, "positions", "cell"):
        wrong = [index for index, frame in frames.items() if not _is_finite(frame, what)]
        if wrong:
            found.append(
                Finding(
                    "not-finite",
                    "error",
                    f"{what} holds NaN or infinity.",
                    "drop the frames (--fix does), and look why the calculation failed.",
                    tuple(wrong),
                )
            )
    return found


def net_force(frames: Frames) -> list[Finding]:
    """Find frames whose forces do not add up to zero, as those of an isolated or periodic system do."""
    wrong = []
    for index, frame in frames.items():
        if FORCES not in frame.arrays or len(frame) == 1:
            continue
        forces = frame.arrays[FORCES]
        net = float(np.linalg.norm(forces.mean(axis=0)))
        if net > max(_NET_FORCE, _NET_SHARE * float(np.sqrt((forces**2).mean()))):
            wrong.append((net, index))
    if not wrong:
        return []
    largest = max(wrong)[0]
    return [
        Finding(
            "net-force",
            "warning",
            f"Forces do not add up to zero: up to {largest:.3g} eV/Å per atom are left. A model cannot learn that.",
            "look for an external field, fixed atoms whose forces are left out, or unconverged calculations.",
            tuple(index for _, index in sorted(wrong, reverse=True)),
        )
    ]


def placeholder_forces(frames: Frames) -> list[Finding]:
    """Find frames whose forces are all exactly zero where symmetry does not make them vanish."""
    zeros = placeholders(frames)
    if not zeros:
        return []
    return [
        Finding(
            "placeholder-forces",
            "error",
            "All forces are exactly zero, and symmetry does not make them so: placeholders, not labels.",
            "remove the forces of these frames (--fix does), or compute them.",
            tuple(zeros),
        )
    ]


def placeholders(frames: Frames) -> list[int]:
    """Return the frames of :func:`placeholder_forces`."""
    return [
        index
        for index, frame in frames.items()
        if len(frame) > 1
        and FORCES in frame.arrays
        and not frame.arrays[FORCES].any()
        and not forces_vanish_by_symmetry(frame)
    ]


def groups_named(frames: Frames) -> list[Finding]:
    """Say where frames have no group."""
    without = [index for index, frame in frames.items() if CONFIG_TYPE not in frame.info]
    if not without:
        return []
    everything = len(without) == len(frames)
    return [
        Finding(
            "no-group",
            "info",
            f"{'Frames' if everything else 'Some frames'} have no {CONFIG_TYPE}: no check by group, no split by group.",
            f"write {CONFIG_TYPE} into the comment line.",
            () if everything else tuple(without),
        )
    ]


def forces_vanish_by_symmetry(frame: Atoms) -> bool:
    """Whether no site of a crystal allows a force: the operations that keep an atom leave no vector as it is.

    Symmetry is searched to 1e-3 Angstrom. What has no cell in three directions is taken to have none.
    """
    if frame.cell.rank < _BROAD:
        return False
    scaled = frame.get_scaled_positions()
    with warnings.catch_warnings():
        # spglib 2.7 announces other errors; what cannot be found is None before and an exception of its own after.
        warnings.simplefilter("ignore", DeprecationWarning)
        symmetry = spglib.get_symmetry((frame.cell.array, scaled, frame.numbers), symprec=_SYMMETRY_A)
    if symmetry is None:
        return False
    rotations, translations = symmetry["rotations"], symmetry["translations"]
    for place in scaled:
        moved = rotations @ place + translations - place
        stays = (np.abs((moved - np.round(moved)) @ frame.cell.array) < 2 * _SYMMETRY_A).all(axis=1)
        # The mean over a group is the projector onto what the group leaves as it is.
        if np.abs(rotations[stays].mean(axis=0)).max() > 1e-6:  # noqa: PLR2004 - rounding
            return False
    return True


def usable(frames: Frames) -> dict[int, Atoms]:
    """Return copies without labels that are not finite or of a wrong shape, and without frames that have no geometry.

    All later checks take these, and need not ask.
    """
    kept = {}
    for index, frame in frames.items():
        if not (_is_finite(frame, "positions") and _is_finite(frame, "cell")) or len(frame) == 0:
            continue
        copy = frame.copy()
        for label in _LABELS:
            if has(frame, label) and not (fits(frame, label) and _is_finite(frame, label)):
                copy.info.pop(label, None)
                copy.arrays.pop(label, None)
            elif label in copy.info:
                value = np.asarray(copy.info[label], dtype=float)
                copy.info[label] = float(value.item()) if label == ENERGY else value
        kept[index] = copy
    return kept


def has(frame: Atoms, label: str) -> bool:
    """Whether a frame has a label, of whatever shape."""
    return label in frame.info or label in frame.arrays


def label_of(frame: Atoms, label: str) -> Any:  # noqa: ANN401 - whatever a file holds
    """Return a label, of whatever shape."""
    return frame.info[label] if label in frame.info else frame.arrays[label]


def fits(frame: Atoms, label: str) -> bool:
    """Whether a label consists of as many numbers as it should."""
    value = np.asarray(label_of(frame, label))
    shapes: dict[str, Sequence[tuple[int, ...]]] = {ENERGY: [(), (1,)], FORCES: [(len(frame), 3)], STRESS: [(6,)]}
    return value.dtype.kind in "if" and value.shape in shapes[label]


def _is_finite(frame: Atoms, what: str) -> bool:
    if what in _LABELS:
        if not has(frame, what):
            return True
        value = np.asarray(label_of(frame, what))
    else:
        value = frame.positions if what == "positions" else frame.cell.array
    return value.dtype.kind not in "if" or bool(np.isfinite(value).all())
