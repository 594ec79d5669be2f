"""Where packaged data lies: in the wheel, or in the source tree of an editable installation."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def reference_data() -> Path:
    """Return the folder of case cards, dataset cards and structures.

    In a wheel it is ``mace_ft_bench/_reference_data``; in a source tree ``reference_data`` beside the package.
    """
    packaged = PACKAGE / "_reference_data"
    return packaged if packaged.is_dir() else PACKAGE.parent / "reference_data"


def model_cards() -> Path:
    """Return the folder of the embedded model cards."""
    return PACKAGE / "zoo" / "cards"
