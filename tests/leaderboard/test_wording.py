"""Numbers and names."""

from __future__ import annotations

import pytest

from mace_ft_bench.leaderboard import wording

from .fabricated import elastic_case


@pytest.mark.parametrize(
    ("value", "text"),
    [(472.0, "472"), (0.0821, "0.0821"), (-4.236, "−4.24"), (0.0, "0"), (1.5e-7, "1.50e−07"), (2e9, "2.00e+09")],
)
def test_numbers_have_three_digits(value, text):
    assert wording.number(value) == text


def test_numbers_that_are_none_are_a_dash():
    assert wording.number(float("nan")) == "—"
    assert wording.score(None) == wording.duration(None) == "—"


@pytest.mark.parametrize(("seconds", "text"), [(2.0, "2.00 s"), (90.0, "1.50 min"), (5400.0, "1.50 h")])
def test_durations_choose_their_unit(seconds, text):
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("field", "label", "unit"),
    [
        ("c11_gpa", "C11", "GPa"),
        ("bulk_modulus_gpa", "B", "GPa"),
        ("poisson_ratio", "ν", ""),
        ("some_energy_ev_per_atom", "some energy", "eV/atom"),
        ("residual_fmax_ev_per_angstrom", "residual fmax", "eV/Å"),
    ],
)
def test_labels_come_from_the_card_or_the_field(field, label, unit):
    assert wording.field_label(field, elastic_case()) == label
    assert wording.split_field(field)[1] == unit


def test_quantities_of_any_kind():
    assert wording.quantity("a_angstrom", 3.16912) == "3.169"
    assert wording.quantity("born_stable", True) == "yes"  # noqa: FBT003 - the value of a field
    assert wording.quantity("count", 12345) == "12345"
    assert wording.quantity("name", "bcc") == "bcc"
    assert wording.quantity("atoms", [16, 128]) == "16 / 128"
    assert wording.quantity("curve", [1.0] * 12) == "—"
    assert wording.quantity("table", [[1.0]]) == "—"


def test_errors_carry_sign_and_unit():
    assert wording.signed(1.0, "%") == "+1.00 %"
    assert wording.signed(-0.25) == "−0.250"


def test_plurals():
    assert wording.plural(1, "case") == "1 case"
    assert wording.plural(0, "case") == "0 cases"
