"""Groups of commands of which one needs no name: the first word may be a file."""

from __future__ import annotations

from typing import Any, ClassVar

from typer.core import TyperGroup


class FileFirst(TyperGroup):
    """A group that takes a first word which is none of its commands for an argument of the default one."""

    default: ClassVar[str]
    """Name of that command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click's, or typer's copy of it
        """Put the default command before arguments that name none."""
        if args and args[0] not in {*self.commands, "--help"}:
            args = [self.default, *args]
        return [*super().parse_args(ctx, args)]
