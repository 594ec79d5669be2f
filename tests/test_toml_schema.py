"""Strict files: nothing unknown, nothing missing, nothing coerced, and a message that names the key."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from mace_ft_bench.errors import CardError
from mace_ft_bench.toml_schema import StrictTable, parse, read_toml


@dataclass(frozen=True)
class Leaf(StrictTable):
    """The innermost table."""

    size: float = 1.0
    count: int = 1

    def __post_init__(self) -> None:
        if self.size < 0:
            raise CardError("The size is negative.", fix="give size >= 0.")


@dataclass(frozen=True)
class Cube(StrictTable):
    """One member of a union; its tag may be left out."""

    edge: float
    kind: Literal["cube"] = "cube"


@dataclass(frozen=True)
class Ball(StrictTable):
    """The other member."""

    kind: Literal["ball"]
    radius: float


@dataclass(frozen=True)
class Root(StrictTable):
    """What the tests parse."""

    name: str
    on: bool = False
    vector: tuple[int, int, int] = (0, 0, 0)
    leaf: Leaf = field(default_factory=Leaf)
    leaves: tuple[Leaf, ...] = ()
    named: dict[str, Leaf] = field(default_factory=dict)
    shape: Cube | Ball | None = None
    values: dict[str, float | list[float]] = field(default_factory=dict)
    free: dict[str, Any] = field(default_factory=dict)


def refused(**table: Any) -> str:
    with pytest.raises(CardError) as caught:
        parse({"name": "a", **table}, Root, where="card.toml")
    assert caught.value.message.startswith("card.toml is not valid: ")
    assert caught.value.fix
    return caught.value.message


def test_a_good_table_is_read_as_it_stands():
    table = {
        "name": "a",
        "on": True,
        "vector": [1, -2, 3],
        "leaf": {"size": 2},
        "leaves": [{"count": 2}, {}],
        "named": {"x": {"size": 0.1}},
        "shape": {"edge": 1},
        "values": {"number": 472, "curve": [0, 0.182939718897349]},
        "free": {"list": [1, "b"], "deep": {"c": 1e-300}},
    }
    root = parse(table, Root, where="card.toml")
    assert root == Root(
        name="a",
        on=True,
        vector=(1, -2, 3),
        leaf=Leaf(size=2.0),
        leaves=(Leaf(count=2), Leaf()),
        named={"x": Leaf(size=0.1)},
        shape=Cube(edge=1.0),
        values={"number": 472.0, "curve": [0.0, 0.182939718897349]},
        free=table["free"],
    )
    assert isinstance(root.leaf.size, float)
    assert parse({"name": "a", "shape": {"kind": "ball", "radius": 2}}, Root, where="x").shape == Ball("ball", 2.0)


@pytest.mark.parametrize(
    ("table", "key", "suggested"),
    [
        ({"nmae": "b"}, "nmae", "name"),
        ({"leaf": {"sise": 1.0}}, "leaf.sise", "size"),
        ({"leaves": [{}, {"cuont": 1}]}, "leaves.1.cuont", "count"),
        ({"named": {"x": {"sizes": 1.0}}}, "named.x.sizes", "size"),
        ({"shape": {"edge": 1.0, "egde": 1.0}}, "shape.egde", "edge"),
        ({"shape": {"kind": "ball", "radius": 1.0, "radios": 1.0}}, "shape.radios", "radius"),
    ],
)
def test_unknown_keys_are_named_with_the_nearest_known_one(table, key, suggested):
    message = refused(**table)
    assert f'unknown key "{key}", did you mean "{suggested}"?' in message
    assert message.count("unknown key") == 1


def test_only_the_member_of_a_union_that_is_meant_complains():
    message = refused(shape={"kind": "ball", "radios": 1.0})
    assert '"shape.radius" is missing' in message
    assert "edge" not in message
    message = refused(shape={"kind": "cone", "radius": 1.0})
    assert "'cube'" in message
    assert "'ball'" in message
    assert "edge" not in message


def test_missing_keys_are_all_named():
    with pytest.raises(CardError, match='"name" is missing; "shape.edge" is missing'):
        parse({"shape": {}}, Root, where="card.toml")


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"name": 3}, "name"),
        ({"on": 1}, "on"),
        ({"on": "true"}, "on"),
        ({"vector": [1.0, 2, 3]}, "vector.0"),
        ({"vector": [1, 2]}, "vector.2"),
        ({"vector": "123"}, "vector"),
        ({"leaf": {"size": "10"}}, "leaf.size"),
        ({"leaf": {"size": True}}, "leaf.size"),
        ({"leaf": {"count": 2.0}}, "leaf.count"),
        ({"leaf": {"count": True}}, "leaf.count"),
        ({"leaf": 3}, "leaf"),
        ({"shape": {"edge": "1"}}, "shape.edge"),
        ({"values": {"x": "1"}}, "values.x"),
        ({"values": {"x": True}}, "values.x"),
        ({"values": {"x": [1, "2"]}}, "values.x.1"),
        ({"leaf": {"size": float("nan")}}, "leaf.size"),
        ({"leaf": {"size": float("inf")}}, "leaf.size"),
        ({"values": {"x": float("inf")}}, "values.x"),
    ],
)
def test_nothing_is_coerced(table, key):
    assert f'"{key}"' in refused(**table)


def test_a_date_is_refused():
    assert "date" in refused(free={"when": dt.date(2024, 1, 1)})


def test_errors_of_the_table_itself_keep_their_fix():
    assert '"leaves.1": The size is negative (give size >= 0)' in refused(leaves=[{}, {"size": -1.0}])


@pytest.mark.parametrize("content", [b"name = ", b"a = 1\na = 2", b"name = '\xff'", b"[table"])
def test_what_is_not_toml_is_a_card_error(tmp_path, content):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(CardError, match=r"bad\.toml is not valid TOML"):
        read_toml(path)


def test_missing_files_and_folders_are_card_errors(tmp_path):
    with pytest.raises(CardError, match="does not exist"):
        read_toml(tmp_path / "no.toml")
    with pytest.raises(CardError, match="cannot be read"):
        read_toml(tmp_path)
