"""Tables and figures of a study from fabricated records: means, deviations, failures."""

from __future__ import annotations

import csv

import pytest

from mace_ft_bench.leaderboard.study_figures import (
    curves,
    error_against_share,
    error_against_steps,
    forgetting_against_gain,
    learning_curves,
)
from mace_ft_bench.leaderboard.study_page import compared_splits, table_rows, to_csv, write_study


def metrics(forces):
    return {"energy": None, "energy_relative": None, "forces": {"rmse": forces}, "stress": None}


def entry(name, role, forces, parent=100.0):
    row = {"config_type": None, "fine_tuned": metrics(forces), "parent": parent and metrics(parent)}
    group = {"config_type": "hot", "fine_tuned": metrics(1e6), "parent": None}
    return {"name": name, "role": role, "errors": [group, row]}


def record(variant, fraction, seed, forces, **options):
    splits = [entry("valid", "valid", 5.0), entry("test.xyz", "test", forces, **options)]
    forgotten = [entry("domain.xyz", "forgetting", 2 * forces, parent=10.0)]
    return {
        "variant": variant,
        "fraction": fraction,
        "seed": seed,
        "name": f"{variant}-{fraction:g}-{seed}",
        "status": "ok",
        "history": [{"steps": steps, "forces": forces + 300.0 / (1 + steps)} for steps in (0, 9, 19)],
        "report": {"splits": splits, "forgetting": forgotten},
    }


@pytest.fixture
def records():
    made = [record("full", share, seed, 10 / share + seed) for share in (0.1, 1.0) for seed in (1, 3)]
    made.append(record("scratch", 0.1, 1, 200.0, parent=None))
    failed = {"variant": "scratch", "fraction": 0.1, "seed": 3, "name": "scratch-0.1-3", "status": "failed"}
    return [*made, failed | {"message": "<diverged>"}]


def test_means_and_deviations_over_seeds(records):
    found = curves(records, "test.xyz", "forces")
    assert [point.fraction for point in found["full"]] == [0.1, 1.0]
    assert found["full"][0].mean == pytest.approx(102.0)
    assert found["full"][0].spread == pytest.approx(2**0.5)
    assert found["full"][0].failed == 0
    assert found["scratch"][0][1:] == (200.0, 0.0, 1, 1)
    assert curves(records, "test.xyz", "energy") == {}


def test_a_failed_run_is_counted_and_not_averaged(records):
    rows = {(row[0], row[1]): row for row in table_rows(records, "test.xyz")}
    assert rows["scratch", "0.1"] == ["scratch", "0.1", "–", "200", "–", "2", "1"]
    assert rows["full", "0.1"][3] == "102 ± 1.4"
    assert rows["full", "0.1"][-2:] == ["2", "–"]
    assert rows["scratch", "1"][3:] == ["–", "–", "0", "–"]


def test_tests_are_compared_and_validation_only_without_them(records):
    assert compared_splits(records) == ["test.xyz"]
    for item in records[:-1]:
        item["report"]["splits"].pop()
    assert compared_splits(records) == ["valid"]


def test_every_run_has_its_rows(records):
    rows = list(csv.DictReader(to_csv(records).splitlines()))
    first = [row for row in rows if row["variant"] == "full" and row["seed"] == "1" and row["fraction"] == "0.1"]
    assert {row["split"] for row in first} == {"valid", "test.xyz", "domain.xyz"}
    forces = next(row for row in first if row["split"] == "test.xyz" and row["quantity"] == "forces")
    assert (float(forces["rmse"]), float(forces["parent_rmse"])) == (101.0, 100.0)
    assert [row["status"] for row in rows if row["seed"] == "3" and row["variant"] == "scratch"] == ["failed"]


def test_errors_during_training_are_means_over_seeds(records):
    found = learning_curves(records, 0.1)
    assert set(found) == {"full", "scratch"}
    assert [point.steps for point in found["full"]] == [9, 19]  # not the parent's own
    assert found["full"][0].mean == pytest.approx(102.0 + 30.0)
    assert found["full"][0].spread == pytest.approx(2**0.5)
    assert found["scratch"][1] == (19, pytest.approx(215.0), 0.0)
    assert learning_curves(records, 1.0).keys() == {"full"}


def test_records_of_earlier_releases_are_drawn_without_their_history(records, tmp_path):
    for item in records:
        item.pop("history", None)
    assert error_against_steps(records) == ""
    page = write_study(records, tmp_path, name="x", steps=7).read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "During training" not in page


def test_the_page_is_whole_and_says_what_failed(records, tmp_path):
    page = write_study(records, tmp_path, name="a & b", steps=7).read_text(encoding="utf-8")
    assert "a &amp; b" in page
    assert "&lt;diverged&gt;" in page
    assert page.count("<svg") == 3
    assert "102 ± 1.4" in (tmp_path / "study.md").read_text(encoding="utf-8")
    assert (tmp_path / "study.csv").is_file()


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("forces", [637.3247256341328, 270.51692705010646, 100.0])
def test_one_run_is_drawn(forces, share):
    # Rounding in matplotlib's error bars once left these axes no width; so did a single share.
    only = [record("full", share, 1, forces)]
    assert error_against_share(only, "test.xyz").count("<svg") == 1
    assert forgetting_against_gain(only, "test.xyz", "domain.xyz").count("<svg") == 1
