"""Groups of commands one of which need not be named."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


def group_with_default(default: str, *, alone: bool = False) -> type[TyperGroup]:
    """Return a class of groups: ``mfb finetune mine.toml`` is ``mfb finetune train mine.toml``.

    Parameters
    ----------
    default
        Command that runs where the first word names none.
    alone
        Whether it also runs without any word.
    """

    class Group(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click's, or typer's copy of it
            if args[0] not in {*self.commands, "--help"} if args else alone:
                args = [default, *args]
            return [*super().parse_args(ctx, args)]

    return Group
