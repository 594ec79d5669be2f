"""A case is added by one TOML file: it is listed, run, and stands in the report."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import types

import pytest
from ase.calculators.emt import EMT
from typer.testing import CliRunner

from mace_ft_bench import paths
from mace_ft_bench.cli.main import app
from mace_ft_bench.results.store import RecordStore
from mace_ft_bench.zoo import registry
from mace_ft_bench.zoo.card import ModelCard

CASE = """
title = "Lattice constant of gold in a new study"
property = "relaxation"
structure = { element = "Au", lattice = "fcc", a = 4.1 }
metrics.a_percent = { label = "a0", unit = "%", tolerance = 0.5 }

[[references]]
label = "Experiment"
kind = "experiment"
level_of_theory = "experiment"
source = "Haas et al., Phys. Rev. B 79, 085104 (2009), extrapolated to 0 K"
doi = "10.1103/PhysRevB.79.085104"
scored = true
values = { a_angstrom = 4.062 }
"""


def run(*arguments):
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("name", ["gold/lattice", "another-study/whatever"])
def test_one_file_is_enough(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MFB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "fake_models", types.SimpleNamespace(emt=lambda *_: EMT()))
    card = ModelCard("emt", "factory", "", ("Au",), "", "none", "", "", factory="fake_models:emt")
    monkeypatch.setattr(registry, "_embedded", lambda: [card])
    monkeypatch.setattr(paths, "reference_data", lambda: tmp_path / "cards")
    path = tmp_path / "cards" / f"{name}.toml"
    path.parent.mkdir(parents=True)
    path.write_text(CASE, encoding="utf-8")
    (listed,) = json.loads(run("cases", "--json"))
    assert name in listed.values()
    text = run("run", "--models", "emt", "--device", "cpu", "--out", "out")
    assert "1 cases, 0 already done, 1 to run" in text
    (record,) = RecordStore(tmp_path / "out").all()
    assert (record.case, record.status) == (name, "ok")
    assert record.errors["a_percent"] == pytest.approx(100 * (record.result["a_angstrom"] / 4.062 - 1))
    for suffix in ("html", "md"):
        page = (tmp_path / "out" / f"leaderboard.{suffix}").read_text(encoding="utf-8")
        assert "Lattice constant of gold in a new study" in page
        assert name in page
    with (tmp_path / "out" / "leaderboard.csv").open(encoding="utf-8") as file:
        (row,) = [row for row in csv.DictReader(file) if row["model"] == "emt"]
    assert row["case"] == name
    run("report", "out")


def test_a_rerun_with_nothing_to_do_imports_no_torch(tmp_path):
    arguments = ["run", "--models", "mo-ft", "--cases", "molybdenum/lattice", "--device", "cpu", "--out", str(tmp_path)]
    assert "1 to run" in run(*arguments)
    code = (
        "import sys\nfrom mace_ft_bench.cli.main import app\n"
        f"app({arguments!r}, standalone_mode=False)\nassert 'torch' not in sys.modules"
    )
    again = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "1 already done, 0 to run" in again.stdout
