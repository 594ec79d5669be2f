"""``mfb models``: what it lists, fetches, adds and removes."""

from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from mace_ft_bench.cli.main import app
from mace_ft_bench.errors import (
    CardError,
    CheckpointError,
    LicenceError,
    MaceFtBenchError,
    UnknownNameError,
    UntrustedFileError,
)
from mace_ft_bench.zoo import registry
from mace_ft_bench.zoo.user import MODELS_VARIABLE

from ..peers import isolated_card

OPTIONS = ("--functional", "PBE", "--dispersion", "none", "--licence", "MIT")


def invoke(*arguments, **options):
    return CliRunner().invoke(app, ["models", *map(str, arguments)], env={"COLUMNS": "250"}, **options)


def output(*arguments, **options):
    result = invoke(*arguments, **options)
    assert result.exit_code == 0, result.output
    return result.output


def refusal(*arguments):
    result = invoke(*arguments)
    assert isinstance(result.exception, MaceFtBenchError), (result.exception, result.output)
    return result.exception


@pytest.fixture(autouse=True)
def bare_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("MFB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path / "models"))


def row(name):
    return next(line for line in output().splitlines() if f" {name} " in line)


def test_the_list_says_where_weights_are_and_under_which_licence(tiny_file):
    output("add", tiny_file, "--name", "mo-mine", *OPTIONS)
    for name, place, elements, licence in [
        ("mo-ft", "embedded", "Mo", "MIT"),
        ("chgnet", "package", "89 elements", "BSD-3-Clause"),
        ("mace-mp-0b3", "not downloaded", "89 elements", "MIT"),
        ("mace-mh-1", "not downloaded", "see weights", "LicenseRef-ASL"),
        ("mo-mine", "user", "Si Mo", "MIT"),
        ("sevennet-0", "not installed", "89 elements", "MIT"),
        ("emt", "package", "11 elements", "LGPL-2.1-or-later"),
    ]:
        cells = [cell.strip() for cell in row(name).split("│")]
        assert (cells[2], cells[3], cells[5]) == (place, elements, licence)
    cards = {card["name"]: card for card in json.loads(output("--json"))}
    assert cards["mo-mine"]["weights"] == "user"
    assert cards["mace-omat-0"]["weights"] == "not downloaded"
    assert cards["mace-omat-0"]["licence_terms"].startswith("https://")


def test_fetching_needs_trust_and_acceptance():
    assert isinstance(refusal("fetch", "mace-mp-0b3"), UntrustedFileError)
    error = refusal("fetch", "mace-omat-0", "--trust")
    assert isinstance(error, LicenceError)
    assert "--accept-licence" in error.fix
    assert isinstance(refusal("fetch", "mace-omat-0", "--accept-licence"), UntrustedFileError)
    assert isinstance(refusal("fetch", "mace-mp-0c", "--trust"), UnknownNameError)
    assert isinstance(refusal("fetch", "chgnet"), CheckpointError)


def test_the_environment_of_a_model_is_made_when_asked(tmp_path):
    card = isolated_card(tmp_path, "peer", calculator="ase.calculators.emt:EMT", device="")
    assert "mfb models install peer" in output("add", card.folder / "card.toml")
    assert row("peer").split("│")[2].strip() == "not installed"
    assert "peer works with" in output("install", "peer", "--environment", sys.prefix)
    assert row("peer").split("│")[2].strip() == "installed"
    assert "peer works with" in output("install", "peer")
    assert isinstance(refusal("install", "mo-ft"), CardError)
    error = refusal("fetch", "sevennet-0")
    assert isinstance(error, CheckpointError)
    assert error.fix == "run `mfb models install sevennet-0`."


def test_what_is_here_is_not_fetched():
    assert output("fetch", "mo-ft").strip() == f"mo-ft: {registry.find_model('mo-ft').path}"


def test_a_model_is_added_and_removed(tiny_file):
    assert 'get_calculator("mo-mine")' in output("add", tiny_file, "--name", "mo-mine", *OPTIONS)
    assert isinstance(refusal("add", tiny_file, "--name", "mo-mine", *OPTIONS), CardError)
    output("add", tiny_file, "--name", "mo-mine", *OPTIONS, "--force")
    assert invoke("remove", "mo-mine", input="n\n").exit_code == 1
    assert "mo-mine" in output()
    assert "removed" in output("remove", "mo-mine", input="y\n")
    assert isinstance(refusal("remove", "mo-mine", "--yes"), UnknownNameError)


def test_remove_does_not_ask_with_yes(tiny_file):
    output("add", tiny_file, "--name", "mo-mine", *OPTIONS)
    assert "[y/N]" not in output("remove", "mo-mine", "--yes")
    assert "mo-mine" not in output()


def test_adding_says_which_options_are_missing(tiny_file, tmp_path):
    error = refusal("add", tiny_file, "--name", "mo-mine")
    assert isinstance(error, CardError)
    assert error.fix == "give --functional, --dispersion, --licence."
    pickle = tmp_path / "a.model"
    pickle.write_bytes(b"PK\x03\x04")
    assert isinstance(refusal("add", pickle, "--name", "mo-mine", *OPTIONS), UntrustedFileError)
