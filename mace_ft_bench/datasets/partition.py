"""Divide frames into several parts without cutting what belongs together: groups, trajectories, blocks of time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from mace_ft_bench.datasets.frames import CONFIG_TYPE
from mace_ft_bench.errors import CardError, DataError, suggestion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

Kind = Literal["frame", "config_type", "key", "trajectory", "block"]
KINDS = ("frame", "config_type", "key:NAME", "trajectory", "block:N")
_ORDERS = 64
"""Random orders of whole groups of which the one is taken that meets the fractions best."""
_NAMED = 4


@dataclass(frozen=True)
class Grouping:
    """What stays together."""

    kind: Kind
    """``frame``: nothing; ``config_type``: the frames of one; ``key``: those with one value of a key; ``trajectory``:
    consecutive frames of the same atoms and config_type; ``block``: ``size`` consecutive frames of a trajectory."""
    key: str = ""
    """Key in the comment line."""
    size: int = 0
    """Frames of a block."""
    gap: int = 0
    """Frames that are dropped between neighbouring blocks of different parts."""

    def __post_init__(self) -> None:
        if (self.kind == "key") != bool(self.key):
            raise CardError("A key is divided by, or none is named.", fix='write "key:NAME".')
        if (self.kind == "block") != (self.size > 0) or self.size < 0:
            raise CardError("A block has no size, or something else has one.", fix='write, say, "block:50".')
        if self.gap < 0 or (self.gap and not self.gap < self.size):
            raise CardError(
                f"A gap of {self.gap} frames does not fit into blocks of {self.size}.",
                fix="make it smaller than a block; only blocks have gaps.",
            )


def parse_grouping(text: str, *, gap: int = 0) -> Grouping:
    """Return what ``frame``, ``config_type``, ``key:NAME``, ``trajectory`` or ``block:N`` says.

    Raises
    ------
    CardError
        If the text is none of these.
    """
    kind, _, rest = text.partition(":")
    if kind == "block":
        if not rest.isdecimal():
            raise CardError(f'"{text}" names no number of frames.', fix='write, say, "block:50".')
        return Grouping("block", size=int(rest), gap=gap)
    if kind == "key":
        return Grouping("key", key=rest, gap=gap)
    if rest or kind not in {"frame", "config_type", "trajectory"}:
        raise CardError(f'Frames cannot be divided by "{text}".', fix=suggestion(text, KINDS))
    return Grouping(kind, gap=gap)  # type: ignore[arg-type]  # one of the literals


@dataclass(frozen=True)
class Partition:
    """Which frame goes where."""

    parts: tuple[tuple[int, ...], ...]
    """Frames of every part, ascending."""
    dropped: tuple[int, ...]
    """Frames of gaps."""
    groups: tuple[str, ...]
    """Group of every frame."""


def partition(
    frames: Sequence[Atoms], grouping: Grouping, fractions: Sequence[float], *, seed: int, first: Sequence[int] = ()
) -> Partition:
    """Divide frames so that every part gets about its fraction of them, and no group is cut.

    Single frames and blocks are drawn from every config_type alike. Of whole groups that order is taken, among random
    ones, which meets the fractions best.

    Parameters
    ----------
    frames
        Frames in the order of their files.
    grouping
        What stays together.
    fractions
        Share of every part; they add up to one. A part of none stays empty.
    seed
        The same frames and seed give the same parts.
    first
        Frames that go into the first part that has a fraction, whatever is drawn, such as isolated atoms.

    Raises
    ------
    CardError
        If the fractions are no fractions.
    DataError
        If a part would be empty, or a frame lacks the key.
    """
    _check_fractions(fractions)
    names = group_names(frames, grouping)
    members: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        if index not in first:
            members.setdefault(name, []).append(index)
    _refuse_too_few(members, grouping, fractions)
    generator = np.random.default_rng(seed)
    spread = grouping.kind in {"frame", "block"}
    drawn = [_draw(frames, members, fractions, generator, spread=spread) for _ in range(1 if spread else _ORDERS)]
    place = min(drawn, key=lambda where: _deviation(where, members, fractions))
    _fill_empty(place, members, fractions)
    dropped = _gaps(names, place, grouping.gap, frozenset(first)) if grouping.gap else set()
    parts: list[list[int]] = [[] for _ in fractions]
    begin = next(part for part, share in enumerate(fractions) if share > 0)
    for index, name in enumerate(names):
        if index not in dropped:
            parts[begin if index in first else place[name]].append(index)
    for share, part in zip(fractions, parts, strict=True):
        if share > 0 and not part:
            raise DataError(f"Gaps leave the fraction of {share:g} without frames.", fix="make gaps smaller.")
    return Partition(tuple(map(tuple, parts)), tuple(sorted(dropped)), tuple(names))


def group_names(frames: Sequence[Atoms], grouping: Grouping) -> list[str]:
    """Return the group of every frame.

    Raises
    ------
    DataError
        If a frame lacks the key.
    """
    if grouping.kind == "frame":
        return [str(index) for index in range(len(frames))]
    if grouping.kind in {"config_type", "key"}:
        key = grouping.key or CONFIG_TYPE
        return [_value(frame, key, index) for index, frame in enumerate(frames)]
    names: list[str] = []
    for number, (_, run) in enumerate(groupby(frames, key=_same_trajectory)):
        length = sum(1 for _ in run)
        if grouping.kind == "trajectory":
            names += [f"trajectory {number}"] * length
        else:
            names += [f"trajectory {number}, block {place // grouping.size}" for place in range(length)]
    return names


def _same_trajectory(frame: Atoms) -> tuple[bytes, str]:
    return frame.numbers.tobytes(), str(frame.info.get(CONFIG_TYPE, ""))


def _value(frame: Atoms, key: str, index: int) -> str:
    if key not in frame.info:
        raise DataError(f'Frame {index} has no "{key}".', fix=suggestion(key, frame.info))
    return str(frame.info[key])


def _check_fractions(fractions: Sequence[float]) -> None:
    if not all(0 <= share <= 1 for share in fractions) or abs(sum(fractions) - 1) > 1e-6:  # noqa: PLR2004 - rounding
        raise CardError(f"Fractions {list(fractions)} do not add up to one.", fix="give, say, 0.8 0.1 0.1.")


def _refuse_too_few(members: dict[str, list[int]], grouping: Grouping, fractions: Sequence[float]) -> None:
    wanted = [share for share in fractions if share > 0]
    if len(members) >= len(wanted):
        return
    listed = ", ".join(list(members)[:_NAMED]) or "none"
    raise DataError(
        f"A fraction of {wanted[len(members)]:g} is left without frames: by {grouping.kind} there "
        f"{'is 1 group' if len(members) == 1 else f'are {len(members)} groups'} ({listed}) for {len(wanted)} parts.",
        fix="ask for fewer parts (a fraction of 0), or divide by blocks.",
    )


def _draw(
    frames: Sequence[Atoms],
    members: dict[str, list[int]],
    fractions: Sequence[float],
    generator: np.random.Generator,
    *,
    spread: bool,
) -> dict[str, int]:
    """Return a part for every group: in random order, each to the part that lags behind its fraction most."""
    names = [list(members)[index] for index in generator.permutation(len(members))]
    if spread:  # one config_type after the other, so that each is divided alike
        names.sort(key=lambda name: str(frames[members[name][0]].info.get(CONFIG_TYPE, "")))
    have = np.zeros(len(fractions))
    place = {}
    for name in names:
        lag = np.where(np.array(fractions) > 0, np.array(fractions) * (have.sum() + len(members[name])) - have, -np.inf)
        place[name] = int(lag.argmax())
        have[place[name]] += len(members[name])
    return place


def _deviation(place: dict[str, int], members: dict[str, list[int]], fractions: Sequence[float]) -> float:
    sizes = np.zeros(len(fractions))
    for name, part in place.items():
        sizes[part] += len(members[name])
    empty = (sizes == 0) & (np.array(fractions) > 0)
    return float(np.abs(sizes / sizes.sum() - fractions).sum() + empty.sum())


def _fill_empty(place: dict[str, int], members: dict[str, list[int]], fractions: Sequence[float]) -> None:
    """Give every part that has a fraction a group: the smallest of the part that has most groups."""
    for part, share in enumerate(fractions):
        if share > 0 and part not in place.values():
            counts = [list(place.values()).count(other) for other in range(len(fractions))]
            rich = [name for name, other in place.items() if other == int(np.argmax(counts))]
            place[min(rich, key=lambda name: len(members[name]))] = part


def _gaps(names: Sequence[str], place: dict[str, int], gap: int, first: frozenset[int]) -> set[int]:
    """Return the first frames of every block that follows, in its trajectory, one of another part."""
    dropped: set[int] = set()
    for before, after in pairwise(range(len(names))):
        if first & {before, after} or names[before] == names[after]:
            continue
        same = names[before].partition(",")[0] == names[after].partition(",")[0]
        if same and place[names[before]] != place[names[after]]:
            block = [index for index in range(after, min(after + gap, len(names))) if names[index] == names[after]]
            dropped |= set(block)
    return dropped
