"""Models against studies."""

from __future__ import annotations

import pytest

from mace_ft_bench.leaderboard.board import make_board
from mace_ft_bench.leaderboard.score import current_records
from mace_ft_bench.leaderboard.studies import ALL, rank_studies

from .fabricated import make_case, make_record

MO = [make_case("one"), make_case("two")]
SI = [make_case("one", id="si/one"), make_case("shown", id="si/shown", metrics={}, references=())]


def cells(records, cases=(*MO, *SI)):
    current, _ = current_records(records, cases)
    models = sorted({record.model for record in records})
    studies = rank_studies(cases, current)
    return {(model, study.name): study.cell(model, current) for study in studies for model in models}


def test_a_study_is_ranked_by_itself():
    records = [make_record("mo-only", case) for case in MO]
    records += [make_record("all", case, error=1.0) for case in (*MO, *SI)]
    records += [make_record("mo-only", case, "unsupported") for case in SI]
    found = cells(records)
    first = found["mo-only", "mo"]
    assert (first.rank, first.score, first.coverage) == (1, 1.0, "2/2")
    assert (found["all", "mo"].rank, found["all", "mo"].score) == (2, 0.5)
    assert (found["all", "si"].rank, found["all", "si"].score, found["all", "si"].coverage) == (1, 0.5, "1/1")
    assert found["mo-only", "si"].score is None
    assert found["mo-only", "si"].reason == "1 unsupported"
    assert (found["all", ALL].score, found["mo-only", ALL].score) == (0.5, 1.0)


@pytest.mark.parametrize("status", ["unconverged", "unstable", "error"])
def test_a_failure_counts_zero_and_is_told(status):
    cell = cells([make_record("m", MO[0]), make_record("m", MO[1], status)])["m", "mo"]
    assert (cell.score, cell.coverage, cell.reason) == (0.5, "2/2", f"1 {status} (scores 0)")


@pytest.mark.parametrize("status", ["missing_data", "unsupported"])
def test_what_could_not_be_attempted_lowers_coverage_and_is_not_averaged(status):
    cell = cells([make_record("m", MO[0], error=1.0), make_record("m", MO[1], status)])["m", "mo"]
    assert (cell.score, cell.coverage) == (0.5, "1/2")
    assert cell.reason == f"1 {status.replace('_', ' ')}"


def test_a_model_that_was_not_run_says_so():
    found = cells([make_record("m", MO[0]), make_record("n", SI[0])])
    assert (found["n", "mo"].rank, found["n", "mo"].reason) == (None, "2 not run")
    assert found["m", "mo"].reason == "1 not run"


def test_models_that_share_no_case_are_not_ranked():
    found = cells([make_record("m", MO[0]), make_record("n", MO[1])], MO)
    assert {cell.reason for cell in found.values()} == {"no case that all models cover"}
    assert {cell.coverage for cell in found.values()} == {"1/2"}


def test_a_study_without_scored_cases_says_so():
    assert cells([make_record("m", SI[1])], SI[1:])["m", "si"].reason == "shown, not scored"


def test_the_column_of_all_studies_stands_only_beside_several():
    assert [study.name for study in rank_studies(MO, {})] == ["mo"]
    assert [study.name for study in rank_studies([*MO, *SI], {})] == [ALL, "mo", "si"]


def test_the_scores_of_one_study_are_those_of_the_standings():
    board = make_board([make_record("m", MO[0], error=1.0), make_record("m", MO[1], "unstable")], MO)
    assert board.studies[0].cell("m", board.records).score == board.ranking.ranked[0].score == 0.25
