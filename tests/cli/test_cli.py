"""The command line: what it prints, what it refuses, and with which exit code."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from dataclasses import replace

import pytest
import torch
from ase.calculators.emt import EMT
from typer.testing import CliRunner

from mace_ft_bench import __version__
from mace_ft_bench.cli import report as report_cli
from mace_ft_bench.cli.console import console
from mace_ft_bench.cli.main import app, main
from mace_ft_bench.errors import (
    CardError,
    CheckpointError,
    MaceFtBenchError,
    MissingDataError,
    StoreError,
    UnknownNameError,
    UntrustedFileError,
)
from mace_ft_bench.leaderboard import report as report_module
from mace_ft_bench.properties.base import get_property
from mace_ft_bench.results import runner
from mace_ft_bench.results.case import load_cases
from mace_ft_bench.results.record import Provenance, Record
from mace_ft_bench.results.store import RecordStore
from mace_ft_bench.zoo import registry
from mace_ft_bench.zoo.card import ModelCard
from mace_ft_bench.zoo.checkpoint import load_checkpoint, read_config

INTERRUPTED = 130


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def output(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refusal(*arguments):
    """Return our error; main() turns it into a message and exit code 2."""
    result = invoke(*arguments)
    assert isinstance(result.exception, MaceFtBenchError), (result.exception, result.output)
    return result.exception


@pytest.fixture(autouse=True)
def bare_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MFB_MIRROR", raising=False)
    monkeypatch.setenv("MFB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def emt(monkeypatch):
    """Offer a model ``emt`` in place of the embedded one; return a list of errors to raise when it computes."""
    errors = []

    class Failing(EMT):
        def calculate(self, *arguments, **options):
            if errors:
                raise errors.pop()
            super().calculate(*arguments, **options)

    def build(*_arguments):
        return Failing()

    module = types.ModuleType("fake_models")
    module.build = build
    monkeypatch.setitem(sys.modules, "fake_models", module)
    card = ModelCard("emt", "factory", "E[/b]MT", ("Cu",), "[EMT]", "none", "MIT", "c", factory="fake_models:build")
    embedded = registry._embedded
    monkeypatch.setattr(registry, "_embedded", lambda: [*(other for other in embedded() if other.name != "emt"), card])
    return errors


def test_version_and_help():
    assert output("--version").strip() == __version__
    assert "finetune" in output("--help")


def test_models_as_a_table_and_as_json(emt):
    table = output("models")
    assert "chgnet" in table
    assert "E[/b]MT" in table
    assert "[EMT]" in table
    cards = json.loads(output("models", "--json"))
    assert [card["name"] for card in cards] == [card.name for card in registry.list_models()]
    assert emt == []


def test_cases_as_a_table_and_as_json():
    assert "molybdenum/elastic" in output("cases")
    cases = json.loads(output("cases", "molybdenum/gsfe*", "--json"))
    assert [case["id"] for case in cases] == [name for name in load_cases() if name.startswith("molybdenum/gsfe")]
    (rigid,) = [case for case in cases if case["id"] == "molybdenum/gsfe-110"]
    assert len(rigid["references"][0]["values"]["gamma_j_per_m2"]) == 12


def test_a_pattern_without_a_match():
    error = refusal("cases", "molybdenum/elastics")
    assert isinstance(error, UnknownNameError)
    assert 'did you mean "molybdenum/elastic"' in error.fix


def test_datasets_as_a_table_and_as_json():
    assert "mlearn-mo" in output("data", "list")
    cards = json.loads(output("data", "list", "--json"))
    assert {card["name"] for card in cards} >= {"mlearn-mo", "snap-mo"}
    assert len(cards[0]["files"][0]["sha256"]) == 64


def test_fetching_what_does_not_exist(tmp_path):
    assert isinstance(refusal("data", "fetch", "mlearn"), UnknownNameError)
    assert isinstance(refusal("data", "fetch", "mlearn-mo", "--mirror", tmp_path / "no"), MissingDataError)


@pytest.fixture
def pickle_file(tmp_path):
    path = tmp_path / "a.model"
    path.write_bytes(b"not even a pickle")
    return path


def test_convert_refuses_a_pickle_without_trust(pickle_file, tmp_path):
    error = refusal("models", "convert", pickle_file, tmp_path / "a.safetensors")
    assert isinstance(error, UntrustedFileError)
    assert "--trust" in error.fix
    assert not (tmp_path / "a.safetensors").exists()
    error = refusal("models", "convert", "--trust", pickle_file, tmp_path / "a.safetensors")
    assert isinstance(error, CheckpointError)
    assert not (tmp_path / "a.safetensors").exists()


def test_convert_refuses_to_overwrite(pickle_file, tmp_path):
    target = tmp_path / "b.safetensors"
    target.write_text("precious", encoding="utf-8")
    error = refusal("models", "convert", "--trust", pickle_file, target)
    assert "--force" in error.fix
    refusal("models", "convert", "--trust", "--force", pickle_file, target)
    assert target.read_text(encoding="utf-8") == "precious"


def test_convert_refuses_other_kinds_and_missing_folders(pickle_file, tmp_path):
    assert "Cannot convert" in refusal("models", "convert", pickle_file, tmp_path / "b.pt").message
    target = tmp_path / "no" / "b.safetensors"
    assert "does not exist" in refusal("models", "convert", "--trust", pickle_file, target).message


def test_convert_there_and_back(tiny_file, tmp_path):
    output("models", "convert", tiny_file, tmp_path / "t.model")
    output("models", "convert", "--trust", tmp_path / "t.model", tmp_path / "t.safetensors")
    before, after = (load_checkpoint(path).state_dict() for path in (tiny_file, tmp_path / "t.safetensors"))
    assert set(before) == set(after)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert read_config(tiny_file) == read_config(tmp_path / "t.safetensors")


def test_run_refuses_unknown_models_cases_and_files(tmp_path):
    assert 'did you mean "chgnet"' in refusal("run", "--models", "chgnett").fix
    assert isinstance(refusal("run", "--models", "chgnet", "--cases", "nope/*"), UnknownNameError)
    assert "does not exist" in refusal("run", "--models", tmp_path / "no.safetensors").message
    assert "--models is empty" in refusal("run", "--models", " , ").message
    assert not (tmp_path / "results").exists()


def test_run_stores_reports_and_continues(emt, tmp_path):
    arguments = ("run", "--models", "emt", "--cases", "molybdenum/lattice", "--out", "out[1]", "--device", "cpu")
    emt.append(RuntimeError("wrong [settings] in [/here]"))
    first = invoke(*arguments)
    text = first.output
    assert first.exit_code == 1  # a case ended in an error
    assert "1 cases, 0 already done, 1 to run" in text
    assert "RuntimeError: wrong [settings] in [/here]" in text
    assert str(tmp_path / "out[1]" / "leaderboard.html") in text
    assert (tmp_path / "out[1]" / "leaderboard.md").is_file()
    assert invoke(*arguments).exit_code == 1  # EMT knows no molybdenum: an error again, and tried again
    records = RecordStore(tmp_path / "out[1]").all()
    assert [record.status for record in records] == ["error", "error"]
    assert "leaderboard.html" in output("report", "out[1]")
    (told,) = json.loads((tmp_path / "out[1]" / "leaderboard.json").read_text(encoding="utf-8"))["cases"]
    assert told["settings"]["fmax"]  # a default, which the card does not name


def test_a_model_that_d3_does_not_belong_to_costs_its_case_only(tmp_path):
    cases = "graphene-water/nvt-128,molybdenum/lattice"
    arguments = ("run", "--models", "emt,mo-ft", "--cases", cases, "--mode", "standard", "--out", tmp_path / "out")
    assert invoke(*arguments, "--device", "cpu").exit_code == 0
    records = {(record.model, record.case): record for record in RecordStore(tmp_path / "out").all()}
    assert records["mo-ft", "molybdenum/lattice"].status == "ok"
    record = records["emt", "graphene-water/nvt-128"]
    assert record.status == "unsupported"
    assert record.message.startswith("DispersionError")


def test_a_rerun_with_nothing_to_do_draws_no_leaderboard(tmp_path, monkeypatch):
    arguments = ("run", "--models", "mo-ft", "--cases", "molybdenum/lattice,silicon/lattice", "--device", "cpu")
    drawn = []  # one item per leaderboard
    write = report_module.write_report

    def counted(*given, **options):
        drawn.append(1)
        return write(*given, **options)

    monkeypatch.setattr(report_module, "write_report", counted)
    assert "2 to run" in output(*arguments)
    page = tmp_path / "results" / "leaderboard.html"
    before = page.stat().st_mtime_ns
    text = output(*arguments)
    assert "0 to run" in text
    assert str(page) in text
    assert (len(drawn), page.stat().st_mtime_ns) == (1, before)
    (tmp_path / "results" / "leaderboard.csv").unlink()
    output(*arguments)  # a file is missing
    output("report", "results")  # asked for
    with monkeypatch.context() as context:
        context.setattr(report_cli, "__version__", "another")
        output(*arguments)
    more = (*arguments, "--cases", "molybdenum/lattice,silicon/lattice,molybdenum/gsfe-110")
    assert "1 to run" in output(*more)
    assert len(drawn) == 5
    output(*more)
    assert len(drawn) == 5


def test_ctrl_c_says_that_the_same_command_continues(emt, monkeypatch):
    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run", interrupt)
    result = invoke("run", "--models", "emt", "--cases", "molybdenum/lattice", "--device", "cpu")
    assert result.exit_code == INTERRUPTED
    assert "the same command continues" in result.output
    assert emt == []


def test_report_needs_records(tmp_path):
    for folder in (tmp_path, tmp_path / "no"):
        error = refusal("report", folder)
        assert isinstance(error, StoreError)
        assert "mfb run" in error.fix


@pytest.mark.usefixtures("emt")
def test_the_mode_is_one_of_three_and_reaches_the_report(tmp_path):
    arguments = ("run", "--models", "emt", "--cases", "molybdenum/lattice", "--device", "cpu")
    assert 'did you mean "quick"' in refusal(*arguments, "--mode", "quik").fix
    assert not (tmp_path / "results").exists()
    invoke(*arguments, "--mode", "quick")
    (record,) = RecordStore(tmp_path / "results").all()
    assert record.mode == ""  # the case has the same settings in all
    for mode in ("quick", "full"):
        output("report", "results", "--mode", mode)
        assert "molybdenum/lattice" in (tmp_path / "results" / "leaderboard.md").read_text(encoding="utf-8")


def test_a_report_is_of_one_mode(tmp_path):
    store = RecordStore(tmp_path / "out")
    current = Provenance(property_version=get_property("molecular_dynamics").version)
    old = Record("k", "emt", "lgps/diffusion-1000K", "molecular_dynamics", "h", "error", provenance=current)
    store.append(replace(old, mode="quick"))
    assert "records of mode full" in refusal("report", "out", "--mode", "full").message
    output("report", "out")  # the mode that was run last


def test_finetune_refuses_a_malformed_recipe(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("nmae = 'a'", encoding="utf-8")
    error = refusal("finetune", recipe)
    assert isinstance(error, CardError)
    assert 'unknown key "nmae", did you mean "name"' in error.message
    assert not (tmp_path / "runs").exists()


def test_brackets_of_an_error_reach_the_user(monkeypatch, capsys):
    def fail():
        raise CardError('[settings] of "a" [/b].', fix='pip install "mace-ft-bench[chgnet]".')

    monkeypatch.setattr("mace_ft_bench.cli.main.app", fail)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    text = capsys.readouterr().err
    assert 'Error: [settings] of "a" [/b].' in text
    assert 'To fix: pip install "mace-ft-bench[chgnet]".' in text


def test_the_program_prints_no_traceback_and_exits_with_2():
    code = "from mace_ft_bench.cli.main import main; main()"
    command = [sys.executable, "-c", code, "report", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Error: nowhere holds no records." in done.stderr
    assert "To fix: run `mfb run --out nowhere` first." in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stdout == ""


def test_a_model_that_cannot_be_built_ends_the_run_before_any_work(pickle_file, tmp_path):
    assert isinstance(refusal("run", "--models", pickle_file, "--out", tmp_path / "out"), UntrustedFileError)
    assert not (tmp_path / "out").exists()
    assert isinstance(refusal("run", "--models", "mo-ft", "--head", "pbe"), UnknownNameError)
    assert isinstance(refusal("run", "--models", "mo-ft", "--mirror", tmp_path / "nowhere"), MissingDataError)


def test_a_material_stands_for_its_cases():
    assert json.loads(output("cases", "molybdenum", "--json")) == json.loads(output("cases", "molybdenum/*", "--json"))


def test_timing_prints_ratios():
    text = output("timing", "skin", "batches", "--quick", "--rounds", "1")
    assert "fresh : skin" in text
    assert "one by one : evaluate" in text


def test_timing_as_json():
    rows = json.loads(output("timing", "batches", "--quick", "--rounds", "2", "--json"))
    assert [len(samples) for samples in rows[0]["samples"].values()] == [2, 2]


def test_unknown_timing():
    assert 'did you mean "steps"' in str(refusal("timing", "stepz"))


def test_doctor():
    text = output("doctor")
    assert "mo-ft" in text
    assert "embedded" in text
    assert text.count("same") >= 4  # e3nn and fused in two dtypes; cuEquivariance does not know every model


def test_doctor_as_json():
    found = json.loads(output("doctor", "--json"))
    assert found["packages"]["mace-torch"] == "0.3.16"
    assert found["models"]["mo-ft"] == "embedded"
    assert {check["name"] for check in found["accelerators"] if check["good"]} >= {"e3nn", "fused"}


def test_names_of_frames_are_no_emoji(capsys):
    console().print("mlearn-si:train:3")
    assert capsys.readouterr().out == "mlearn-si:train:3\n"
