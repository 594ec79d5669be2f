"""Rows of the literature."""

from __future__ import annotations

import pytest

from mace_ft_bench.errors import CardError
from mace_ft_bench.leaderboard.board import make_board
from mace_ft_bench.leaderboard.case_section import case_section
from mace_ft_bench.leaderboard.main_table import main_rows
from mace_ft_bench.leaderboard.published import determined_errors, published_errors, published_standings
from mace_ft_bench.results.case import load_cases

from .fabricated import elastic_case, gsfe_case, make_case, make_record, published


def test_determined_errors_follow_the_stem():
    found = determined_errors(
        ["c11_percent", "c12_percent", "barrier"], {"c11_gpa": 440.0, "c1_gpa": 1.0}, {"c11_gpa": 400.0}
    )
    assert found == {"c11_percent": pytest.approx(10.0)}


def test_a_unit_tells_values_of_one_stem_apart():
    values = {"b0_prime": 5.0, "b0_gpa": 90.0}
    assert determined_errors(["b0_percent"], values, {"b0_prime": 4.0, "b0_gpa": 100.0}) == {
        "b0_percent": pytest.approx(-10)
    }


def test_a_metric_that_both_tables_name_is_a_difference():
    assert determined_errors(
        ["barrier_ev", "path_ev"], {"barrier_ev": 1.5, "path_ev": [1.0]}, {"barrier_ev": 1.25}
    ) == {"barrier_ev": 0.25}
    assert determined_errors(["barrier_ev"], {"barrier_ev": 1.5}, {"barrier_ev": 0.0}) == {"barrier_ev": 1.5}


def test_an_ambiguous_value_is_an_error():
    values = {"e_ev": 1.0, "e_mev": 1.0}
    with pytest.raises(CardError, match="To fix"):
        determined_errors(["e_percent"], values, values)


def test_a_reference_of_zero_is_an_error():
    with pytest.raises(CardError, match="zero"):
        determined_errors(["a_percent"], {"a_gpa": 1.0}, {"a_gpa": 0.0})


def test_curves_have_no_percentage():
    assert determined_errors(["a_percent"], {"a_gpa": [1.0]}, {"a_gpa": [1.0]}) == {}


def test_printed_errors_come_before_computed_ones():
    case = make_case("one")
    reference = published("P", values={"a_angstrom": 3.3}, errors={"a_percent": 1.0, "other": 2.0})
    assert published_errors(case, reference) == {"a_percent": 1.0}


def test_a_label_is_one_row_with_known_scores():
    elastic, gsfe = elastic_case(), gsfe_case()
    eam, mace = published_standings([elastic, gsfe])
    assert (eam.model, eam.kind, eam.score) == ("EAM", "published", None)
    assert eam.case_scores[elastic.id] == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert (mace.model, mace.covered, mace.scored) == ("MACE-MP-0b3", 2, 2)
    assert mace.case_scores[elastic.id] == pytest.approx((2**-5 + 1 + 2**-5) / 3)
    assert mace.case_scores[gsfe.id] == pytest.approx(0.5)
    assert mace.partial == {gsfe.id}


def test_published_rows_are_never_ranked():
    case = elastic_case()
    board = make_board([make_record("EAM", case, "error")], [case])
    assert [(row.rank, row.model, row.kind) for row in main_rows(board)] == [
        ("1", "EAM", "measured"),
        ("—", "EAM", "published"),
        ("—", "MACE-MP-0b3", "published"),
    ]


def test_published_rows_alone_are_shown_without_rank():
    board = make_board([], [elastic_case()])
    assert {row.rank for row in main_rows(board)} == {"—"}
    kinds = [row.kind for row in case_section(board, elastic_case()).rows]
    assert kinds == ["DFT", "experiment", "published", "published"]


def test_the_cards_of_the_project_give_their_published_rows():
    standings = {standing.model: standing for standing in published_standings(list(load_cases().values()))}
    fine_tuned = standings["MACE-MP-0b3 fine-tuned"]
    assert fine_tuned.covered >= 3
    assert {item.kind for item in standings.values()} == {"published"}
