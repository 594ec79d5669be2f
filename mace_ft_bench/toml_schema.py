"""Strict TOML files: one dataclass per table, unknown keys are errors with a suggestion."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mace_ft_bench.errors import CardError, suggestion

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")


class StrictTable:
    """Base of the dataclasses that files are parsed into: unknown keys are errors."""

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}


def read_toml(path: Path) -> dict[str, Any]:
    """Return the table of a TOML file.

    Raises
    ------
    CardError
        If the file is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CardError(f"{path} does not exist.", fix="check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CardError(f"{path} is not valid TOML: {error}.", fix="correct the named line.") from error


def parse(table: dict[str, Any], schema: type[T], *, where: str) -> T:
    """Return ``table`` as an instance of the frozen dataclass ``schema``.

    Parameters
    ----------
    table
        Plain data, as read from TOML or JSON.
    schema
        A dataclass whose fields carry types; nested dataclasses and unions are followed.
    where
        Name of the file or table, for the error message.

    Raises
    ------
    CardError
        Naming every offending key, with the nearest known key for an unknown one.
    """
    try:
        return TypeAdapter(schema).validate_python(table)
    except ValidationError as error:
        problems = [_describe(item, schema) for item in error.errors(include_url=False)]
        raise CardError(f"{where} is not valid: {'; '.join(problems)}", fix=f"edit {where}.") from error


def _describe(item: Any, schema: type[Any]) -> str:  # noqa: ANN401 - pydantic's ErrorDetails differs between releases
    path = [part for part in item["loc"] if isinstance(part, str)]
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
        return f'unknown key "{key}", {suggestion(path[-1], _fields_at(schema, path[:-1]))}'
    if item["type"] == "missing":
        return f'"{key}" is missing'
    return f'"{key}": {item["msg"]} (got {item["input"]!r})'


def _fields_at(schema: Any, path: list[str]) -> list[str]:  # noqa: ANN401 - any annotation can stand here
    """Names of the fields of the dataclass(es) reached from ``schema`` along ``path``."""
    found = _dataclasses_in(schema)
    for part in path:
        hints = [typing.get_type_hints(cls).get(part) for cls in found]
        found = [inner for hint in hints if hint is not None for inner in _dataclasses_in(hint)] or found
    return [field.name for cls in found for field in dataclasses.fields(cls)]


def _dataclasses_in(hint: Any) -> list[Any]:  # noqa: ANN401 - any annotation can stand here
    if dataclasses.is_dataclass(hint):
        return [hint]
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is not None:
        return [found for arg in typing.get_args(hint) for found in _dataclasses_in(arg)]
    return []
