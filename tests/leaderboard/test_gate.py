"""The gate: no mean hides a case that got worse."""

from __future__ import annotations

import pytest

from mace_ft_bench.leaderboard.gate import RELATIVE_SLACK, TOLERANCE_SLACK, compare_models, grown, passes

from .fabricated import make_case, make_record

CASES = [make_case("one"), make_case("two"), make_case("shown", metrics={})]


def compared(own, parent):
    """Compare two models by their (status, error) on the two scored cases; the third has no score."""
    records = {
        (model, case.id): make_record(model, case, status, error)
        for model, ends in (("new", own), ("old", parent))
        for case, (status, error) in zip(CASES, [*ends, ("ok", 9.0)], strict=True)
    }
    return compare_models(CASES, records, model="new", parent="old")


def outcomes(own, parent):
    return [item.outcome for item in compared(own, parent)]


def test_one_case_that_got_worse_is_not_outweighed_by_another():
    result = compared([("ok", 0.0), ("ok", 0.6)], [("ok", 5.0), ("ok", 0.5)])
    assert [item.outcome for item in result] == ["better", "worse"]
    assert [item.case for item in result] == ["mo/one", "mo/two"]
    assert result[0].score == pytest.approx(1.0)
    assert result[0].parent_score == pytest.approx(2**-5)
    assert not passes(result)


def test_slack_allows_noise_and_no_more():
    parent = [("ok", 1.0), ("ok", 1.0)]
    assert outcomes([("ok", 1.0), ("ok", -1.02)], parent) == ["as good", "as good"]
    allowed = 1.0 + RELATIVE_SLACK + TOLERANCE_SLACK
    assert outcomes([("ok", 1.0), ("ok", allowed - 1e-6)], parent) == ["as good", "as good"]
    assert outcomes([("ok", 1.0), ("ok", allowed + 1e-6)], parent) == ["as good", "worse"]


def test_averages_of_dynamics_may_scatter_by_a_tolerance():
    case = make_case("water", property="molecular_dynamics")
    for error, worse in ((1.9, False), (2.1, True)):
        before = {name: metric.tolerance for name, metric in case.metrics.items()}
        assert bool(grown(case, {name: error * value for name, value in before.items()}, before)) == worse
        assert grown(make_case("lattice"), {"a_percent": error}, {"a_percent": 1.0})


def test_a_bad_parent_is_no_excuse():
    assert outcomes([("ok", 0.0), ("ok", 60.0)], [("ok", 0.0), ("ok", 9.0)]) == ["as good", "worse"]


def test_two_crashes_are_no_pass():
    crash = [("error", 0.0), ("error", 0.0)]
    assert outcomes(crash, crash) == ["failed", "failed"]
    assert not passes(compared(crash, crash))


@pytest.mark.parametrize("status", ["unconverged", "unstable", "error"])
def test_a_failure_fails_even_beside_a_useless_parent(status):
    result = compared([("ok", 0.0), (status, 0.0)], [("ok", 0.0), ("ok", 1e6)])
    assert [item.outcome for item in result] == ["as good", "failed"]
    assert "try again" in result[1].reason
    assert not passes(result)


def test_where_both_fail_nothing_is_compared_and_the_reason_is_told():
    result = compared([("ok", 0.0), ("unstable", 0.0)], [("ok", 0.0), ("unconverged", 0.0)])
    assert result[1].outcome == "not compared"
    assert result[1].reason.startswith("both failed; new: ")
    assert passes(result)
    nothing = [("unstable", 0.0)] * 2
    assert not passes(compared(nothing, nothing))


@pytest.mark.parametrize("who", ["new", "old"])
def test_what_either_does_not_cover_is_not_compared(who):
    gap, full = [("ok", 0.0), ("unsupported", 0.0)], [("ok", 0.0), ("ok", 0.0)]
    result = compared(gap, full) if who == "new" else compared(full, gap)
    assert result[1].outcome == "not compared"
    assert result[1].reason.startswith(f"{who}: ")
    assert passes(result)


def test_nothing_compared_is_no_pass():
    nothing = [("missing_data", 0.0)] * 2
    assert not passes(compared(nothing, nothing))
    assert not passes([])
