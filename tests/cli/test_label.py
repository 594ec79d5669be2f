"""``mfb label``: what it prints, how it exits."""

from __future__ import annotations

import json

import pytest
from ase.build import bulk
from ase.io import read, write
from typer.testing import CliRunner

from mace_ft_bench.cli.label import parse_variation
from mace_ft_bench.cli.main import app
from mace_ft_bench.errors import CardError, DataError

SETTINGS = 'name = "cu"\ncalculator = "emt"\nlevel_of_theory = "EMT"\narguments = { asap_cutoff = false }\n'


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """Write three structures, one of which EMT does not know, and settings."""
    monkeypatch.chdir(tmp_path)
    frames = [bulk("Cu"), bulk("Mo"), bulk("Au")]
    for seed, frame in enumerate(frames):
        frame.rattle(0.05, seed=seed)
        frame.info["config_type"] = "[b]crystal[/b]"
    write("frames.xyz", frames, format="extxyz")
    (tmp_path / "emt.toml").write_text(SETTINGS)


def invoke(*arguments):
    return CliRunner().invoke(app, ["label", *arguments])


def test_a_failure_is_shown_and_is_the_exit_code(tmp_path):
    found = invoke("frames.xyz", "--settings", "emt.toml", "--out", "out")
    assert found.exit_code == 1
    words = " ".join(found.stdout.split())
    assert "[b]crystal[/b]" in words
    assert "NotImplementedError" in words
    assert "2 labelled frames" in words
    assert len(read(tmp_path / "out/labelled.xyz", ":")) == 2
    again = invoke("frames.xyz", "--settings", "emt.toml", "--out", "out", "--json", "--retry")
    assert again.exit_code == 1
    report = json.loads(again.stdout)
    assert (report["labelled"], [one["index"] for one in report["failures"]]) == (2, [1])


def test_convergence_is_a_table_without_the_finest(tmp_path):
    write(tmp_path / "copper.xyz", bulk("Cu", a=3.5), format="extxyz")
    options = ("copper.xyz", "--settings", "emt.toml", "--vary", "asap_cutoff=true,false", "--out", "convergence")
    found = invoke("converge", *options)
    assert found.exit_code == 0
    assert "differences from asap_cutoff = False" in " ".join(found.stdout.split())
    (row,) = json.loads(invoke("converge", *options, "--json").stdout)
    assert row["value"] is True
    assert abs(row["energy_mev_per_atom"]) > 0.01


def test_variations_are_written_as_toml():
    assert parse_variation("mode.ecut=400, 600.5") == ("mode.ecut", [400, 600.5])
    assert parse_variation('xc="PBE","PBEsol"') == ("xc", ["PBE", "PBEsol"])
    assert parse_variation("kpts.size=[2, 2, 1],[4, 4, 1]") == ("kpts.size", [[2, 2, 1], [4, 4, 1]])
    for wrong in ("mode.ecut", "=400", "xc=PBE", ""):
        with pytest.raises(CardError, match="is no argument with values"):
            parse_variation(wrong)


def test_what_is_missing_is_named():
    assert invoke("frames.xyz", "--settings", "none.toml", "--out", "out").exit_code == 2
    with pytest.raises(DataError, match=r"none\.xyz does not exist"):
        CliRunner().invoke(app, ["label", "none.xyz", "--settings", "emt.toml", "--out", "out"], catch_exceptions=False)
