"""Shared fixtures: tiny MACE models with random weights, built once."""

from __future__ import annotations

import pytest
import torch

from mace_ft_bench.zoo import checkpoint

TINY = {
    "r_max": 4.5,
    "num_bessel": 6,
    "num_polynomial_cutoff": 5,
    "max_ell": 2,
    "interaction_cls": "RealAgnosticResidualInteractionBlock",
    "interaction_cls_first": "RealAgnosticInteractionBlock",
    "num_interactions": 2,
    "num_elements": 2,
    "hidden_irreps": "4x0e+4x1o",
    "edge_irreps": None,
    "MLP_irreps": "8x0e",
    "gate": "silu",
    "atomic_energies": [[-1.25, -2.5]],
    "avg_num_neighbors": 27.357934951782227,
    "atomic_numbers": [14, 42],
    "correlation": 2,
    "radial_type": "bessel",
    "pair_repulsion": False,
    "distance_transform": "None",
    "atomic_inter_scale": [0.8],
    "atomic_inter_shift": [0.1],
    "heads": ["Default"],
    "radial_MLP": [16, 16],
    "readout_cls": "NonLinearReadoutBlock",
    "dtype": "float32",
}

TWO_HEADS = {
    "heads": ["pbe", "r2scan"],
    "atomic_energies": [[-1.25, -2.5], [-1.0, -2.0]],
    "atomic_inter_scale": [0.8, 0.7],
    "atomic_inter_shift": [0.1, 0.0],
}

FOUNDATION_LIKE = {
    "pair_repulsion": True,
    "distance_transform": "Agnesi",
    "interaction_cls": "RealAgnosticDensityResidualInteractionBlock",
    "interaction_cls_first": "RealAgnosticDensityInteractionBlock",
    "correlation": 3,
}


def build(**changes):
    """Return a tiny random model, the same one for the same arguments."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return checkpoint.build_model({**TINY, **changes}).eval()


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory):
    """Safetensors file of a tiny model of Si and Mo with one head."""
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    checkpoint.save_checkpoint(build(), path)
    return path


@pytest.fixture(scope="session")
def two_heads_file(tmp_path_factory):
    """Safetensors file of a tiny model with the heads pbe and r2scan."""
    path = tmp_path_factory.mktemp("models") / "two-heads.safetensors"
    checkpoint.save_checkpoint(build(**TWO_HEADS), path)
    return path


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep downloads and measured times of the tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MFB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
