"""Frames by their configuration type, for properties of named structures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_ft_bench.errors import StructureError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms


def only(frames: Sequence[Atoms], config_type: str) -> Atoms:
    """Return the frame of a configuration type.

    Raises
    ------
    StructureError
        If there is none, or several.
    """
    found = [frame for frame in frames if frame.info.get("config_type") == config_type]
    if len(found) != 1:
        known = sorted({str(frame.info.get("config_type")) for frame in frames})
        raise StructureError(
            f'{len(found)} frames have the configuration type "{config_type}"; there are {known}.',
            fix="name one that a single frame has.",
        )
    return found[0]
