"""The strict choice of a head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_ft_bench.errors import UnknownNameError, suggestion

if TYPE_CHECKING:
    from collections.abc import Sequence


DEFAULT_HEAD = "Default"
"""Head that is used where none is named, as in mace: after multihead fine-tuning that of the new labels."""


def choose_head(heads: Sequence[str], head: str | None, *, model: str, option: str = "head") -> str:
    """Return the head to use: the one asked for, the only one there is, or the one called ``Default``.

    Parameters
    ----------
    heads
        Names of the model's heads.
    head
        The one asked for.
    model
        Name of the model, for messages.
    option
        Where users say which head, for messages.

    Raises
    ------
    UnknownNameError
        If the head does not exist, or is not given although there are several and none is called ``Default``.
    """
    if head is None and len(heads) == 1:
        return heads[0]
    if head is None and DEFAULT_HEAD in heads:
        return DEFAULT_HEAD
    if head is None:
        raise UnknownNameError(f"Model {model} has several heads.", fix=f"set {option} to one of {', '.join(heads)}.")
    if head in heads:
        return head
    raise UnknownNameError(f'Model {model} has no head "{head}".', fix=suggestion(head, heads))
