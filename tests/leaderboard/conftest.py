"""Fixtures of the leaderboard's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .fabricated import make_case

if TYPE_CHECKING:
    from mace_ft_bench.results.case import Case


@pytest.fixture
def cases() -> list[Case]:
    return [make_case("one"), make_case("two"), make_case("shown", metrics={}, references=())]
