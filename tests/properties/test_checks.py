"""Validation of settings and signed errors."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_ft_bench.errors import CardError, DataError, UnstableError
from mace_ft_bench.properties import checks

NUMBERS = st.floats(-1e6, 1e6).filter(lambda number: abs(number) > 1e-3)


@given(reference=NUMBERS, deviation=st.floats(-90, 90))
def test_percent_returns_the_deviation_with_its_sign(reference, deviation):
    value = reference + abs(reference) * deviation / 100
    assert checks.percent(value, reference) == pytest.approx(deviation, abs=1e-6)


def test_percent_against_zero_is_refused():
    with pytest.raises(DataError, match="undefined"):
        checks.percent(1.0, 0.0)


def test_percent_errors_skips_what_the_reference_lacks():
    assert checks.percent_errors(SimpleNamespace(a=2.0, b=1.0), {"a": 1.0}, {"a_percent": "a", "b_percent": "b"}) == {
        "a_percent": 100.0
    }


def test_percent_errors_refuses_an_undefined_value():
    with pytest.raises(DataError, match="undefined for this structure"):
        checks.percent_errors(SimpleNamespace(a=None), {"a": 1.0}, {"a_percent": "a"})


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_require_positive_refuses_nonsense(value):
    with pytest.raises(CardError, match="fmax"):
        checks.require_positive(SimpleNamespace(fmax=value), "fmax")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_require_finite_refuses_nan_and_infinity(value):
    with pytest.raises(UnstableError, match="not finite"):
        checks.require_finite([1.0, value], "an energy")
