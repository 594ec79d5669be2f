"""Cost beside accuracy."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mace_ft_bench.leaderboard.board import make_board
from mace_ft_bench.leaderboard.cost import cost_figures, cost_rows, pareto_front
from mace_ft_bench.leaderboard.svg import model_styles
from mace_ft_bench.results.record import Provenance

from .fabricated import THROUGHPUT, make_case, make_record

SPEED = make_case("speed", property="throughput", metrics={}, references=())
SCORED = make_case("one")
OTHER = Provenance(hardware="another processor", device="cpu", threads=4)
POINTS = st.lists(st.tuples(st.floats(0.1, 100), st.floats(0, 1)), min_size=1)


def timed(model, factor=1.0, **changes):
    times = [factor * time for time in THROUGHPUT["median_us_per_atom"]]
    return make_record(model, SPEED, result=THROUGHPUT | {"median_us_per_atom": times}, **changes)


def board(*records):
    return make_board(records, [SCORED, SPEED], {"fast": {"parameters": "59,384"}})


def figures(found):
    return cost_figures(found, model_styles(found.models))


def test_a_row_holds_the_time_of_the_largest_system_and_the_score_of_the_study():
    (row,) = cost_rows(board(make_record("fast", SCORED, error=1.0), timed("fast")))
    assert (row.score, row.atoms, row.us_per_atom, row.parameters) == (0.5, 432, 500.0, "59,384")
    assert row.machine == "a processor, 0 threads, cpu"
    assert row.reason == ""


def test_what_has_no_cost_is_not_drawn_and_told():
    found = board(
        make_record("fast", SCORED),
        timed("fast"),
        make_record("silent", SCORED),
        make_record("foreign", SCORED),
        make_record("foreign", SPEED, "unsupported"),
        make_record("unscored", SCORED, "missing_data"),
        timed("unscored"),
    )
    (figure,) = figures(found)
    assert "Not drawn: foreign (unsupported), silent (not run), unscored (no score in mo)." in figure.caption
    assert ">fast</text>" in figure.svg
    assert not [name for name in ("silent", "foreign", "unscored") if name in figure.svg]


def test_times_of_different_machines_are_not_drawn_into_one_figure():
    found = board(
        make_record("fast", SCORED),
        timed("fast"),
        make_record("slow", SCORED),
        replace(timed("slow", 2.0), provenance=OTHER),
    )
    first, second = figures(found)
    assert "slow (timed on another machine)" in first.caption
    assert "another processor, 4 threads, cpu" in second.caption
    assert "Not beaten in both: slow." in second.svg


def test_the_figure_tells_who_is_beaten():
    found = board(
        make_record("good", SCORED), timed("good", 2.0),
        make_record("fast", SCORED, error=1.0), timed("fast", 1.0),
        make_record("beaten", SCORED, error=2.0), timed("beaten", 3.0),
    )  # fmt: skip
    (figure,) = figures(found)
    assert "Not beaten in both: good, fast." in figure.svg
    assert "beaten 1500 µs with score 0.250" in figure.svg


def test_without_times_there_is_no_figure():
    assert figures(board(make_record("m", SCORED))) == []


@given(POINTS)
def test_no_point_of_the_front_is_beaten_and_every_other_is(points):
    front = pareto_front(points)
    for cost, score in points:
        beaten = any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)
        assert ((cost, score) in front) == (not beaten)
