"""Baselines: what is written is read, and what fell behind is named."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest

from mace_ft_bench.errors import CardError
from mace_ft_bench.leaderboard.baseline import (
    Baseline,
    Entry,
    entry_name,
    entry_of,
    fallen_behind,
    read_baseline,
    to_toml,
)

from .fabricated import elastic_case, make_record

CASE = elastic_case()  # three metrics of tolerance 10


def held(error):
    return entry_of(CASE, make_record("m", CASE, error=error), dynamics=False)


def test_what_is_written_is_read(tmp_path):
    stored = Baseline(
        ("mo", "si"),
        {
            "mo/a": Entry(errors={"x": -0.0123456, "y": 3.0, "z": 1234567.0}),
            "mo/b (quick)": Entry("unstable"),
            "mo/c (quick)": Entry("ok"),
        },
        {"mo/b": 'said "so"'},
    )
    path = tmp_path / "m.toml"
    path.write_text(to_toml("m", stored), encoding="utf-8")
    found = read_baseline(path)
    assert found.studies == stored.studies
    assert found.cases["mo/a"].errors == {"x": -0.01235, "y": 3.0, "z": 1.235e6}
    assert [found.cases[f"mo/{name} (quick)"] for name in "bc"] == [Entry("unstable"), Entry("ok")]
    assert found.worse_than_parent == stored.worse_than_parent
    assert set(tomllib.loads(path.read_text(encoding="utf-8"))) == {"studies", "worse_than_parent", *stored.cases}
    assert read_baseline(tmp_path / "none.toml") == Baseline()


@pytest.mark.parametrize("text", ["studies = 3", '["a/b"]\nx = "1"', '["a/b"]\nstatus = "good"', "x = 1", "["])
def test_a_malformed_file_is_refused(tmp_path, text):
    path = tmp_path / "m.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CardError):
        read_baseline(path)


def test_the_mode_is_part_of_the_name_where_settings_differ():
    assert entry_name(CASE) == "mo/elastic"
    assert entry_name(replace(CASE, mode="quick")) == "mo/elastic (quick)"


def test_only_scored_errors_are_stored():
    record = make_record("m", CASE, error=0.5)
    shown = replace(record, errors={**record.errors, "bulk_percent": 1.0})
    assert entry_of(CASE, shown, dynamics=False) == held(0.5)


def test_dynamics_are_held_by_how_they_end():
    record = make_record("m", CASE, error=0.3)
    assert entry_of(CASE, record, dynamics=False) == Entry("ok", record.errors)
    assert entry_of(CASE, record, dynamics=True) == Entry("ok")
    assert entry_of(CASE, make_record("m", CASE, "unstable"), dynamics=True) == Entry("unstable")
    assert entry_of(CASE, make_record("m", CASE, "missing_data"), dynamics=True) is None


@pytest.mark.parametrize(
    ("before", "now", "behind"),
    [
        (0.5, 0.5, False),
        (0.5, -0.5, False),  # the other sign is no larger error
        (0.5, 0.544, False),  # 5 % of it and 2 % of the tolerance
        (0.5, 0.546, True),
        (0.5, -0.546, True),
        (0.0, 0.021, True),
        (-0.5, 0.0, False),
    ],
)
def test_an_error_may_grow_by_the_slack_of_the_gate(before, now, behind):
    said = fallen_behind(CASE, make_record("m", CASE, error=now), held(before))
    assert bool(said) is behind
    assert ("C11 " in said) is behind


def test_one_metric_is_enough_and_is_named():
    record = make_record("m", CASE, error=0.1)
    worse = replace(record, errors={**record.errors, "c44_percent": 9.0})
    assert fallen_behind(CASE, worse, held(0.1)) == "C44 +1 → +9"
    missing = replace(record, errors={"c11_percent": 1.0, "c12_percent": 1.0})
    assert fallen_behind(CASE, missing, held(0.1)) == "C44 +1 → +nan"


@pytest.mark.parametrize("status", ["unstable", "unconverged", "unsupported", "error"])
def test_what_no_longer_ends_well_is_behind(status):
    record = make_record("m", CASE, status)
    for entry in (held(0.1), Entry("ok")):
        assert fallen_behind(CASE, record, entry).startswith(f"{status}: It ended")


def test_a_stored_failure_may_be_repeated_or_mended():
    assert fallen_behind(CASE, make_record("m", CASE, error=9.0), Entry("unstable")) == ""
    assert fallen_behind(CASE, make_record("m", CASE, "unconverged"), Entry("unstable")) == ""
    for status in ("error", "unsupported"):
        assert fallen_behind(CASE, make_record("m", CASE, status), Entry("unstable"))


def test_a_scored_case_needs_an_entry():
    assert fallen_behind(CASE, make_record("m", CASE), None) == "there is no baseline"
    assert fallen_behind(CASE, make_record("m", CASE, "unsupported"), None) == ""
    assert fallen_behind(replace(CASE, metrics={}), make_record("m", CASE), None) == ""
