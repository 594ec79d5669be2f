"""Scores, coverage and ranking."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_ft_bench.leaderboard.score import case_score, current_records, metric_score, rank_models
from mace_ft_bench.results.case import Case, Metric
from mace_ft_bench.results.record import FAILED, NOT_COVERED, Provenance, Record, Status

from .fabricated import THROUGHPUT, make_case, make_record

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TOLERANCES = st.floats(min_value=1e-6, max_value=1e6)


def ranking(records: list[Record], cases: list[Case]):
    current, _ = current_records(records, cases)
    return rank_models(current, cases)


@pytest.mark.parametrize(("error", "score"), [(0.0, 1.0), (0.2, 0.5), (-0.2, 0.5), (0.4, 0.25), (-0.6, 0.125)])
def test_metric_score_halves_with_every_tolerance(error, score):
    assert metric_score(error, 0.2) == pytest.approx(score, rel=1e-12)


@given(FINITE, FINITE, TOLERANCES)
def test_metric_score_is_bounded_and_never_rises_with_the_error(one, two, tolerance):
    small, large = sorted((abs(one), abs(two)))
    assert 0.0 <= metric_score(large, tolerance) <= metric_score(small, tolerance) <= 1.0


@given(FINITE, TOLERANCES)
def test_metric_score_does_not_know_the_sign(error, tolerance):
    assert metric_score(error, tolerance) == metric_score(-error, tolerance)


@pytest.mark.parametrize("error", [float("nan"), float("inf"), float("-inf")])
def test_an_error_that_is_no_number_is_refused(error):
    with pytest.raises(ValueError, match="To fix"):
        metric_score(error, 1.0)


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan"), float("inf")])
def test_a_tolerance_that_cannot_score_is_refused(tolerance):
    with pytest.raises(ValueError, match="To fix"):
        metric_score(0.1, tolerance)


@pytest.mark.parametrize("status", get_args(Status))
def test_every_status_has_its_score(status):
    case = make_case("one")
    expected = 0.0 if status in FAILED else None if status in NOT_COVERED else 0.5
    assert case_score(case, make_record("m", case, status, error=1.0)) == expected


def test_a_missing_error_counts_zero():
    case = make_case("one", metrics={"a_percent": Metric("a", "%", 1.0), "b_percent": Metric("b", "%", 1.0)})
    assert case_score(case, make_record("m", case, errors={"a_percent": 1.0})) == pytest.approx(0.25)


def test_a_case_without_metrics_has_no_score():
    case = make_case("one", metrics={})
    assert case_score(case, make_record("m", case)) is None
    assert case_score(case, make_record("m", case, "error")) is None


def test_models_are_ranked_on_the_cases_they_share(cases):
    one, two, shown = cases
    records = [
        make_record("partial", one, error=1.0),
        make_record("partial", two, "unsupported"),
        make_record("full", one, error=0.0),
        make_record("full", two, error=2.0),
        make_record("full", shown, "unconverged"),
    ]
    found = ranking(records, cases)
    assert found.shared == (one.id,)
    full, partial = found.ranked
    assert [found.position(item) for item in found.ranked] == [1, 2]
    assert (full.model, full.score, full.own_score) == ("full", 1.0, pytest.approx(0.625))
    assert (full.covered, full.scored, full.coverage, full.failed, full.wall_s) == (2, 2, 1.0, 1, 30.0)
    assert (partial.model, partial.score, partial.coverage, partial.failed) == ("partial", 0.5, 0.5, 0)
    assert partial.case_scores == {one.id: 0.5, two.id: None}
    assert {item.kind for item in found.ranked} == {"measured"}


def test_a_failed_case_is_covered_and_scores_zero(cases):
    records = [make_record("m", cases[0]), make_record("m", cases[1], "unstable")]
    (standing,) = ranking(records, cases).ranked
    assert (standing.score, standing.coverage, standing.failed) == (0.5, 1.0, 1)


def test_without_a_shared_case_nobody_is_ranked(cases):
    found = ranking([make_record("a", cases[0]), make_record("b", cases[1])], cases)
    assert found.shared == ()
    assert found.ranked == ()
    assert [(item.model, item.score, item.own_score) for item in found.unranked] == [("a", None, 1.0), ("b", None, 1.0)]


def test_a_model_that_covers_nothing_does_not_unrank_the_others(cases):
    found = ranking([make_record("a", cases[0]), make_record("b", cases[0], "missing_data")], cases)
    assert [item.model for item in found.ranked] == ["a"]
    assert [item.model for item in found.unranked] == ["b"]


def test_equal_scores_share_a_rank(cases):
    found = ranking(
        [make_record("a", cases[0]), make_record("b", cases[0]), make_record("c", cases[0], "error")], cases
    )
    assert [found.position(item) for item in found.ranked] == [1, 1, 3]


def test_the_last_record_counts(cases):
    early, late = (Provenance(started=f"2026-01-0{day}T00:00:00Z") for day in (1, 2))
    good, bad = (make_record("m", cases[0], error=error) for error in (0.0, 1.0))
    for records in ([good, bad], [replace(bad, provenance=late), replace(good, provenance=early)]):
        current, _ = current_records(records, cases)
        assert current["m", cases[0].id].errors == {"a_percent": 1.0}


def test_a_stale_record_counts_as_not_run(cases):
    old = make_record("m", cases[0], case_hash="old")
    current, stale = current_records([old, make_record("m", cases[1])], cases)
    assert set(current) == {("m", cases[1].id)}
    assert stale == (old,)


def test_a_stale_record_does_not_hide_a_current_one(cases):
    """A card that was changed and changed back: the suite finds the old record in the store and does not rerun."""
    fresh, old = make_record("m", cases[0]), make_record("m", cases[0], case_hash="old")
    assert current_records([fresh, old], cases) == ({("m", cases[0].id): fresh}, ())


def test_records_of_another_mode_are_neither_current_nor_stale():
    quick, full = (
        make_case("one", settings={"points": points}, mode=mode) for points, mode in ((5, "quick"), (9, "full"))
    )
    records = [make_record("m", quick, mode="quick"), make_record("m", full, mode="full")]
    assert current_records(records, [quick]) == ({("m", quick.id): records[0]}, ())
    assert current_records(records, [full]) == ({("m", full.id): records[1]}, ())
    standard = replace(full, mode="standard")  # with the same settings: not run again, so it has to count
    assert current_records(records, [standard]) == ({("m", full.id): records[1]}, ())
    before = make_record("m", quick, case_hash="before there were modes")
    assert current_records([before], [quick]) == ({}, (before,))


def test_records_of_other_cases_are_left_out(cases):
    assert current_records([make_record("m", make_case("elsewhere"))], cases) == ({}, ())


def test_speed_is_that_of_the_largest_system():
    case = make_case("speed", property="throughput", metrics={}, references=())
    (standing,) = ranking([make_record("m", case, result=THROUGHPUT)], [case]).unranked
    assert standing.us_per_atom == 500.0


CASES = [make_case(name) for name in "abc"]
ATTEMPTS = st.lists(
    st.tuples(st.sampled_from(["m", "n"]), st.sampled_from(CASES), st.sampled_from(get_args(Status)), st.floats(0, 50)),
    min_size=1,
    unique_by=lambda attempt: (attempt[0], attempt[1].id),
)


@given(ATTEMPTS, st.sampled_from(sorted(FAILED)), st.data())
def test_a_failure_never_improves_a_score(attempts, failure, data):
    before = [make_record(model, case, status, error) for model, case, status, error in attempts]
    fine = [i for i, record in enumerate(before) if record.status == "ok"]
    if not fine:
        return
    i = data.draw(st.sampled_from(fine))
    after = [replace(r, status=failure, result=None, errors={}) if j == i else r for j, r in enumerate(before)]
    old, new = (ranking(records, CASES) for records in (before, after))
    assert old.shared == new.shared
    was = {item.model: item for item in (*old.ranked, *old.unranked)}
    now = {item.model: item for item in (*new.ranked, *new.unranked)}
    model = before[i].model
    assert now[model].own_score <= was[model].own_score
    assert now[model].coverage == was[model].coverage
    if was[model].score is not None:
        assert now[model].score <= was[model].score
        assert new.position(now[model]) >= old.position(was[model])
