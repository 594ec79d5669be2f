"""``mfb timing table``: one command to a table, refusals before any work, and the other timings beside it."""

from __future__ import annotations

import json
import re

import ase.io
import pytest
from ase.build import bulk
from typer.testing import CliRunner

from mace_ft_bench.cli.main import app
from mace_ft_bench.errors import DataError, MaceFtBenchError, StoreError, UnknownNameError
from mace_ft_bench.results import timing_table

SMALL = ("--model", "mo-ft", "--system", "molybdenum", "--sizes", "16,54", "--dtype", "float32", "--steps", "2")


@pytest.fixture(autouse=True)
def bare_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("MFB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def invoke(*arguments):
    return CliRunner().invoke(app, ["timing", "table", *map(str, arguments)], env={"COLUMNS": "300"})


def test_a_table(tmp_path):
    ways = ("--accelerate", "e3nn,fused", "--dispersion", "off", "--repeats", "2", "--out", "mine")
    result = invoke(*SMALL, *ways)
    assert result.exit_code == 0, result.output
    data = json.loads((tmp_path / "mine" / "timing.json").read_text(encoding="utf-8"))
    found = {(row["atoms"], row["device"], row["accelerate"]): row for row in data["rows"]}
    assert set(found) == {
        (atoms, device, name) for atoms in (16, 54) for device in ("cpu", "cuda") for name in ("e3nn", "fused")
    }
    for (_, device, name), row in found.items():
        if device == "cpu":
            assert row["used"] == name
            assert row["samples"] == 2
            assert row["first_quartile_ms_per_step"] <= row["ms_per_step"] <= row["third_quartile_ms_per_step"]
    assert len(data["power_laws"]) >= 2
    assert "mo-ft, molybdenum" in result.output
    records = (tmp_path / "mine" / "records.jsonl").read_text(encoding="utf-8")
    assert invoke(*SMALL, *ways).exit_code == 0
    assert (tmp_path / "mine" / "records.jsonl").read_text(encoding="utf-8") == records


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (("--accelerate", "fusd"), UnknownNameError, 'did you mean "fused"'),
        (("--dtype", "float16"), UnknownNameError, 'did you mean "float'),
        (("--device", "tpu"), UnknownNameError, 'did you mean "cpu"'),
        (("--dispersion", "pbee"), UnknownNameError, "pbe"),
        (("--accelerate", ","), UnknownNameError, "is empty"),
        (("--sizes", "many"), DataError, "no list of numbers"),
        (("--sizes", "16,0"), DataError, "no list of numbers"),
        (("--sizes", "55"), MaceFtBenchError, "54 or 56"),
        (("--system", "molibdenum"), UnknownNameError, 'did you mean "molybdenum"'),
        (("--system", "graphene-water", "--sizes", "128"), MaceFtBenchError, r"not trained on H, C, O.*--system"),
        (("--model", "mo-fd"), UnknownNameError, "mo-ft"),
        (("--temperature", "-1"), DataError, "is not positive"),
        (("--timestep", "0"), DataError, "is not positive"),
        (("--out", "file"), StoreError, "is not a folder"),
        (("--out", "file/below"), StoreError, "cannot be written"),
    ],
)
def test_mistakes_are_refused_before_any_work(arguments, kind, text, tmp_path):
    (tmp_path / "file").write_text("a file")
    result = invoke(*SMALL, *arguments)
    assert isinstance(result.exception, kind), (result.exception, result.output)
    assert re.search(text, str(result.exception), re.DOTALL)
    assert not list(tmp_path.glob("timing*"))


@pytest.mark.parametrize("option", ["--repeats", "--steps"])
def test_none_is_no_number_of_samples(option):
    assert invoke(*SMALL, option, "0").exit_code == 2


def test_an_interruption_says_how_to_go_on(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(timing_table, "time_in_turns", interrupted)
    result = invoke(*SMALL, "--accelerate", "fused", "--dispersion", "off", "--device", "cpu")
    assert result.exit_code == 130
    assert "the same command continues" in result.output


def test_a_crash_ends_with_one(monkeypatch, tmp_path):
    ase.io.write(tmp_path / "cell.xyz", bulk("Mo", cubic=True))

    def broken(*_, **__):
        raise RuntimeError("somebody else's bug")

    monkeypatch.setattr(timing_table.Protocol, "of", lambda *_: broken)
    result = invoke(*SMALL, "--system", "cell.xyz", "--sizes", "16", "--accelerate", "fused", "--device", "cpu")
    assert result.exit_code == 1, result.output
    assert "somebody else's bug" in result.output
