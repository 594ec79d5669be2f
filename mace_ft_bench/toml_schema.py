"""Strict TOML files: one dataclass per table, unknown keys are errors with a suggestion."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import tomllib
import types
import typing
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mace_ft_bench.errors import CardError, MaceFtBenchError, suggestion

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from pathlib import Path

T = TypeVar("T")


class StrictTable:
    """Base of the dataclasses that files are parsed into: unknown keys, NaN and infinity are errors."""

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid", "allow_inf_nan": False}


def merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table with changes; of a table inside it, what the changes do not name stays, too."""
    found = copy.deepcopy(dict(table))
    for key, value in changes.items():
        own = found.get(key)
        both = isinstance(own, dict) and isinstance(value, dict)
        found[key] = merged(own or {}, value) if both else copy.deepcopy(value)
    return found


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
    except OSError as error:
        raise CardError(f"{path} cannot be read: {error.strerror}.", fix="give a readable TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CardError(f"{path} is not valid TOML: {error}.", fix="correct the named line.") from error


def parse(table: dict[str, Any], schema: type[T], *, where: str) -> T:
    """Return ``table`` as an instance of the frozen dataclass ``schema``.

    Nothing is coerced except a whole number where a float is asked for: ``"10"`` is no number, ``true`` no 1 and
    ``2.0`` no integer. The table passes through JSON because pydantic's strict mode takes lists for tuples only there.

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
        parsed: T = _adapter(typing.cast("Hashable", schema)).validate_json(json.dumps(table), strict=True)
    except ValidationError as error:
        problems = _problems(table, schema, error.errors(include_url=False))
        raise CardError(f"{where} is not valid: {'; '.join(problems)}.", fix=f"edit {where}.") from error
    except TypeError as error:  # a date or a time, which no table of ours holds
        raise CardError(f"{where} is not valid: {error}.", fix="use numbers, strings, booleans and lists.") from error
    return parsed


@functools.cache
def _adapter(schema: Any) -> TypeAdapter[Any]:  # noqa: ANN401 - any dataclass
    return TypeAdapter(schema)


@dataclasses.dataclass(frozen=True)
class _Problem:
    """One of pydantic's complaints; for a value of a union there are some for every member."""

    keys: tuple[str | int, ...]
    members: tuple[tuple[int, str], ...]
    """Members of unions that complain: number of keys before, and name."""
    item: Any  # pydantic's ErrorDetails differs between releases


def _problems(table: Any, schema: Any, items: list[Any]) -> list[str]:  # noqa: ANN401 - plain data and any annotation
    found = [_located(table, item) for item in items]
    unions: dict[Any, dict[Any, list[_Problem]]] = {}
    for problem in found:
        for before, member in problem.members[:1]:
            unions.setdefault(problem.keys[:before], {}).setdefault(member, []).append(problem)
    meant = [problem for members in unions.values() for problem in _likeliest(members)]
    texts = [_describe(problem, schema) for problem in found if not problem.members or problem in meant]
    return list(dict.fromkeys(texts))


def _likeliest(members: dict[Any, list[_Problem]]) -> list[_Problem]:
    """Return the complaints of the members of a union that fit best: by their tag, then by their number."""
    wrong_tags = {member: [p for p in group if p.item["type"] == "literal_error"] for member, group in members.items()}
    refused_by_all = set.intersection(*({p.keys for p in group} for group in wrong_tags.values()))
    if refused_by_all:
        return [problem for group in wrong_tags.values() for problem in group if problem.keys in refused_by_all]
    misfit = {member: (len(wrong_tags[member]), len(group)) for member, group in members.items()}
    best = min(misfit.values())
    return [problem for member, group in members.items() if misfit[member] == best for problem in group]


def _located(table: Any, item: Any) -> _Problem:  # noqa: ANN401 - plain data
    """Split pydantic's location into keys of the table and the names of union members among them."""
    keys: list[str | int] = []
    members: list[tuple[int, str]] = []
    for number, part in enumerate(item["loc"], start=1):
        inside = part in table if isinstance(table, dict) else isinstance(part, int)
        absent = item["type"] == "missing" and number == len(item["loc"])
        if inside or absent:
            keys.append(part)
            table = None if absent else table[part]
        else:
            members.append((len(keys), part))
    return _Problem(tuple(keys), tuple(members), item)


def _describe(problem: _Problem, schema: Any) -> str:  # noqa: ANN401 - any annotation can stand here
    item, key = problem.item, ".".join(str(part) for part in problem.keys)
    if item["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
        path = [part for part in item["loc"] if isinstance(part, str)]
        return f'unknown key "{key}", {suggestion(path[-1], _fields_at(schema, path[:-1])).rstrip(".")}'
    if item["type"] == "missing":
        return f'"{key}" is missing'
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, MaceFtBenchError):
        place = f'"{key}": ' if key else ""
        return f"{place}{cause.message.rstrip('.')} ({cause.fix.rstrip('.')})"
    return f'"{key}": {item["msg"]} (got {item["input"]!r})'


def _fields_at(schema: Any, path: list[str]) -> list[str]:  # noqa: ANN401 - any annotation can stand here
    """Names of the fields of the dataclass(es) reached from ``schema`` along ``path``, members of unions included."""
    found = _dataclasses_in(schema)
    for part in path:
        named = [cls for cls in found if cls.__name__ == part]
        hints = [typing.get_type_hints(cls).get(part) for cls in found]
        found = named or [inner for hint in hints if hint is not None for inner in _dataclasses_in(hint)] or found
    return [field.name for cls in found for field in dataclasses.fields(cls)]


def _dataclasses_in(hint: Any) -> list[Any]:  # noqa: ANN401 - any annotation can stand here
    if dataclasses.is_dataclass(hint):
        return [hint]
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is not None:
        return [found for arg in typing.get_args(hint) for found in _dataclasses_in(arg)]
    return []
