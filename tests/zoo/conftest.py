"""A machine without our caches and without models of the user."""

from __future__ import annotations

import pytest

from mace_ft_bench.download import CACHE_VARIABLE
from mace_ft_bench.zoo.user import MODELS_VARIABLE


@pytest.fixture(autouse=True)
def bare_machine(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("machine")
    monkeypatch.setenv(CACHE_VARIABLE, str(folder / "cache"))
    monkeypatch.setenv(MODELS_VARIABLE, str(folder / "models"))
    return folder
