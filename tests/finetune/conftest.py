"""A tiny recipe, and copper labelled by EMT."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from mace_ft_bench.datasets.frames import labelled
from mace_ft_bench.finetune.config import FinetuneConfig
from mace_ft_bench.toml_schema import parse

TABLE = {
    "name": "tiny",
    "e0s": {"policy": "least-squares"},
    "seed": 7,
    "eval_interval": 1,
    "data": {"sources": ["tiny:train"], "exclude": ["tiny:test"], "valid_fraction": 0.25, "split_seed": 3},
    "strategy": {
        "kind": "scratch",
        "architecture": {
            "hidden_irreps": "4x0e",
            "r_max": 3.5,
            "correlation": 2,
            "max_ell": 1,
            "num_interactions": 2,
            "num_radial_basis": 4,
            "mlp_irreps": "4x0e",
        },
    },
    "weights": {"energy": 10.0, "forces": 20.0, "stress": 30.0},
    "optimiser": {"lr": 0.02, "lr_decay": 0.9, "batch_size": 6, "max_epochs": 60, "ema_decay": 0.9},
}
STAGE_TWO = {"start_epoch": 50, "lr": 0.003, "weights": {"energy": 40.0, "forces": 50.0, "stress": 60.0}}


def copper(seed, config_type="hot"):
    """Return four atoms of hot, strained copper with the labels of EMT."""
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    generator = np.random.default_rng(seed)
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.02 * generator.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += 0.08 * generator.normal(size=(4, 3))
    atoms.calc = EMT()
    return labelled(
        atoms,
        energy=atoms.get_potential_energy(),
        forces=atoms.get_forces(),
        stress=atoms.get_stress(),
        config_type=config_type,
    )


def merged(table, changes):
    """Return the table with nested changes; a key changed to None is removed."""
    result = dict(table)
    for key, value in changes.items():
        if value is None:
            result.pop(key)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


@pytest.fixture
def recipe():
    """Return a function that makes a recipe with nested changes."""

    def make(**changes) -> FinetuneConfig:
        return parse(merged(TABLE, changes), FinetuneConfig, where="recipe.toml")

    return make


@pytest.fixture
def frames():
    """Return training and validation frames."""
    return [copper(seed) for seed in range(18)], [copper(seed) for seed in range(18, 24)]
