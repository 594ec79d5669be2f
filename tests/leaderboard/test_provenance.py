"""Settings in force, origins of numbers, commands that repeat them."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from mace_ft_bench.leaderboard.board import make_board
from mace_ft_bench.leaderboard.provenance import ORIGIN, commands, origins, package_sets, settings_in_force
from mace_ft_bench.results.case import DatasetStructure, FramesInput
from mace_ft_bench.results.record import Provenance

from .fabricated import make_case, make_record


def origin(**changes):
    return replace(Provenance(model_sha256="ab" * 32, device="cpu", started="2026-01-02T03:04:05Z"), **changes)


def test_settings_name_those_of_the_card_and_the_defaults():
    case = make_case("one", settings={"points": 7, "relax": {"fmax": 1e-4}})
    every = {case.id: {"points": 7, "strain": 0.02, "relax": {"fmax": 1e-4, "cell": True}, "none": None}}
    found = settings_in_force(make_board([], [case], settings=every), case)
    assert [(row.name, row.value, row.from_card) for row in found] == [
        ("points", "7", True),
        ("strain", "0.02", False),
        ("relax.fmax", "0.0001", True),
        ("relax.cell", "yes", False),
        ("none", "—", False),
    ]


def test_without_defaults_those_of_the_card_are_shown():
    case = make_case("one", settings={"repeat": (2, 4)})
    assert [(row.name, row.value) for row in settings_in_force(make_board([], [case]), case)] == [("repeat", "[2, 4]")]


def test_every_record_says_where_it_comes_from(cases):
    case = cases[0]
    records = [
        make_record("a", case, provenance=origin(package_versions={"ase": "3"}, threads=2, property_version=4)),
        make_record("b", case, "error", provenance=origin(package_versions={"ase": "4"}, model_sha256="f@{...}")),
        make_record("a", cases[1], provenance=origin(package_versions={"ase": "3"})),
    ]
    board = make_board(records, cases)
    first, second = origins(board, case)
    assert package_sets(board) == [{"ase": "3"}, {"ase": "4"}]
    assert set(first.facts) == set(ORIGIN)
    assert (first.model, first.packages, second.packages) == ("a", 1, 2)
    assert first.facts["weights"] == "abababababab"
    assert second.facts["weights"] == "f"
    assert (first.facts["started"], first.facts["threads"]) == ("2026-01-02T03:04:05Z", "2")
    assert (first.facts["property version"], second.facts["status"]) == ("4", "error")


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"b": {"heads": "pbe"}}, ["--models a,b --cases mo/one --device cpu"]),
        (
            {"b": {"heads": "pbe, r2scan"}},
            ["--models a --cases mo/one --device cpu", "--models b --cases mo/one --device cpu --head pbe"],
        ),
    ],
)
def test_one_command_repeats_all_models_that_need_no_head(cases, info, expected):
    records = [make_record("a", cases[0], provenance=origin(head="Default"))]
    records += [make_record("b", cases[0], provenance=origin(head="pbe"))]
    board = make_board(records, cases, {"a": {"heads": "Default"}, **info})
    assert commands(board, cases[0]) == [f"mfb run {words}" for words in expected]


def test_files_frames_and_pickles_get_what_they_need():
    case = make_case("one", structure=None, frames=FramesInput("set", "test"))
    board = make_board([make_record("my file.model", case, provenance=origin(head="h", device="cuda"))], [case])
    (command,) = commands(board, case)
    assert shlex.split(command) == [
        *("mfb", "run", "--models", "my file.model", "--cases", "mo/one"),
        *("--device", "cuda", "--head", "h", "--trust", "--fetch"),
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"mode": "standard"}, ""),
        ({"mode": "quick"}, "--mode quick"),
        ({"runs_in": ("full",)}, "--mode full"),
    ],
)
def test_a_mode_is_named_where_the_usual_one_is_another(changes, words):
    case = make_case("one", **changes)
    (command,) = commands(make_board([make_record("a", case)], [case]), case)
    assert command.split("mo/one")[1].split("--device")[0].strip() == words


def test_a_structure_of_a_dataset_is_fetched():
    case = make_case("one", structure=DatasetStructure("dataset", "set", "test"))
    (command,) = commands(make_board([make_record("a", case)], [case]), case)
    assert "--fetch" in command


def test_models_that_were_not_run_are_not_repeated(cases):
    board = make_board([make_record("a", cases[0]), make_record("b", cases[1])], cases)
    assert "--models a --cases" in commands(board, cases[0])[0]
    assert commands(board, cases[2]) == []
