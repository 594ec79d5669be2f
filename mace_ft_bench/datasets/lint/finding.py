"""What a check found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ase import Atoms

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""Worst first."""

Frames = Mapping[int, "Atoms"]
"""Frames by their number in the sources: checks look at some, and still call them by their names."""
Check = Callable[[Frames], list["Finding"]]


@dataclass(frozen=True)
class Finding:
    """One thing a check found."""

    check: str
    """Name of the check."""
    severity: Severity
    """``error``: training on it goes wrong; ``warning``: look at it; ``info``: good to know."""
    message: str
    """What is wrong."""
    fix: str
    """What to do."""
    frames: tuple[int, ...] = ()
    """Numbers of the frames concerned; empty where all are."""


def worst(findings: Iterable[Finding]) -> Severity | None:
    """Return the worst severity, None where nothing was found."""
    found = {finding.severity for finding in findings}
    return next((severity for severity in SEVERITIES if severity in found), None)


def named(frames: Sequence[int], names: Sequence[str], *, most: int = 5) -> str:
    """Return the names of some frames and how many more there are."""
    first = ", ".join(names[index] for index in frames[:most])
    return first if len(frames) <= most else f"{first} and {len(frames) - most} more"
