"""Tiny recipes of two metals that EMT labels."""

from __future__ import annotations

import pytest

from mace_ft_bench.learning.recipe import DistillConfig, FamilyConfig


@pytest.fixture
def config():
    """Return a recipe of aluminium and gold of a hundred frames."""
    return DistillConfig(
        teacher="emt",
        elements=("Al", "Au"),
        energies="as-they-are",
        family={
            "elements": FamilyConfig(volumes=(0.9, 1.1), frames=2, least_atoms=4),
            "pairs": FamilyConfig(volumes=(1.0,), relax_steps=4, frames=1, least_atoms=4),
            "compounds": FamilyConfig(frames=2, least_atoms=4),
        },
        valid_fraction=0.2,
        test_fraction=0.3,
    )
