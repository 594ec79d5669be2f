"""Consoles and the JSON output that commands share."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console


def console() -> Console:
    """Return a console on standard output; ``mlearn-si:train:3`` is a frame, not an emoji."""
    return Console(emoji=False)


def error_console() -> Console:
    """Return a console on standard error."""
    return Console(stderr=True, emoji=False)


def print_json(data: Any) -> None:  # noqa: ANN401 - anything JSON can hold
    """Print plain data as JSON for machines, without wrapping or colours; paths become strings."""
    print(json.dumps(data, indent=1, ensure_ascii=False, default=str))
