"""Times to wait that a variable of the environment can set."""

from __future__ import annotations

import os

from mace_ft_bench.errors import UnknownNameError


def timeout_s(variable: str, default: float) -> float:
    """Return the seconds that an environment variable names, or the default if it is not set.

    Raises
    ------
    UnknownNameError
        If it names no positive number.
    """
    text = os.environ.get(variable, "")
    try:
        seconds = float(text) if text else default
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise UnknownNameError(f'{variable}="{text}" is no time.', fix="set it to a number of seconds.")
    return seconds
