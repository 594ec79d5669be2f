"""Descriptors: those of mace's own calculator, and what must leave them as they are."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mace_ft_bench.calculators import descriptors
from mace_ft_bench.calculators.descriptors import compute_descriptors
from mace_ft_bench.calculators.mace import MaceCalculator
from mace_ft_bench.errors import CardError, UnknownNameError, UnsupportedElementError
from mace_ft_bench.torch_env import default_dtype, mace_environment

from ..conftest import FOUNDATION_LIKE, TWO_HEADS, build


def calculator(**changes):
    model = build(dtype="float64", **changes)
    return MaceCalculator(model, name="tiny", device="cpu", dtype=torch.float64, head=changes.get("heads", [None])[-1])


@functools.cache
def with_irreps(irreps):
    return calculator(hidden_irreps=irreps)


def crystal(seed=0, size=2):
    atoms = bulk("Mo", cubic=True) * (size, 1, 1)
    atoms.numbers[::3] = 14
    atoms.rattle(0.1, seed=seed)
    return atoms


def of_mace(model, atoms, head=None):
    with mace_environment(), default_dtype(torch.float64):
        from mace.calculators import MACECalculator

        options = {"head": head} if head else {}
        peer = MACECalculator(models=[model], device="cpu", default_dtype="float64", **options)
        return peer.get_descriptors(atoms)


@pytest.mark.parametrize(
    "changes", [{}, FOUNDATION_LIKE, TWO_HEADS, {"hidden_irreps": "6x0e+6x1o+6x2e"}, {"hidden_irreps": "5x0e"}]
)
def test_they_are_those_of_mace(changes):
    ours = calculator(**changes)
    frames = [crystal(0), crystal(1, size=3)]
    for atoms, found in zip(frames, compute_descriptors(ours, frames), strict=True):
        expected = of_mace(build(dtype="float64", **changes).double(), atoms, changes.get("heads", [None])[-1])
        assert found.shape == (len(atoms), expected.shape[1])
        np.testing.assert_allclose(found, expected, atol=1e-10)
        assert found.std() > 1e-3


def test_the_embedded_model_by_name_is_that_of_mace():
    from mace_ft_bench.zoo import checkpoint
    from mace_ft_bench.zoo.registry import find_model

    atoms = bulk("Mo", cubic=True)
    atoms.rattle(0.1, seed=1)
    model = checkpoint.load_checkpoint(find_model("mo-ft").verified_path()).double()
    expected = of_mace(model, atoms)
    np.testing.assert_allclose(compute_descriptors("mo-ft", [atoms])[0], expected, atol=1e-6)
    single = compute_descriptors("mo-ft", [atoms], dtype="float32")[0]
    assert 0 < np.abs(single - expected).max() < 1e-4


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**20))
@pytest.mark.parametrize("irreps", ["4x0e+4x1o", "3x0e+3x1o+3x2e"])
def test_rotation_translation_and_order_leave_them_as_they_are(irreps, seed):
    ours = with_irreps(irreps)
    atoms, generator = crystal(seed), np.random.default_rng(seed)
    (expected,) = compute_descriptors(ours, [atoms])
    matrix, order = Rotation.random(random_state=seed).as_matrix(), generator.permutation(len(atoms))
    moved = atoms[order]
    moved.set_cell(moved.cell.array @ matrix.T)
    moved.positions = (moved.positions + generator.normal(size=3)) @ matrix.T
    moved.wrap()
    np.testing.assert_allclose(compute_descriptors(ours, [moved])[0], expected[order], atol=1e-10)
    changed = atoms.copy()
    changed.positions[0] += 0.05
    assert np.abs(compute_descriptors(ours, [changed])[0] - expected).max() > 1e-7


def test_layers_are_chosen_and_ordered():
    ours = calculator()
    atoms = crystal()
    (both,) = compute_descriptors(ours, [atoms])
    (first,) = compute_descriptors(ours, [atoms], layers=[0])
    (turned,) = compute_descriptors(ours, [atoms], layers=[1, 0])
    np.testing.assert_array_equal(first, both[:, :4])
    np.testing.assert_array_equal(turned, np.hstack([both[:, 4:], both[:, :4]]))


def test_batches_change_nothing(monkeypatch):
    ours = calculator()
    frames = [crystal(seed, size=1 + seed % 3) for seed in range(5)] + [
        Atoms("Mo"),
        Atoms("Si2", [[0, 0, 0], [2, 0, 0]]),
    ]
    alone = [compute_descriptors(ours, [frame])[0] for frame in frames]
    sizes = []
    features = descriptors._FeatureBackend.features

    def counted(self, graph):
        sizes.append(len(graph.cells))
        return features(self, graph)

    monkeypatch.setattr(descriptors._FeatureBackend, "features", counted)
    for together in (compute_descriptors(ours, frames), compute_descriptors(ours, frames, pairs_per_batch=200)):
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-12)
    assert sizes[0] == len(frames)
    assert len(sizes) > 3
    assert compute_descriptors(ours, []) == []


def test_what_has_no_descriptors_is_refused(tiny_file):
    for layers in ([2], [-1], []):
        with pytest.raises(CardError, match="has no layers .*To fix: choose from 0, 1"):
            compute_descriptors(tiny_file, [crystal()], layers=layers)
    with pytest.raises(UnknownNameError, match='did you mean "mo-ft"'):
        compute_descriptors("mo-fd", [crystal()])
    with pytest.raises(UnsupportedElementError, match="Cu"):
        compute_descriptors(tiny_file, [crystal(), bulk("Cu")])


def test_a_model_that_is_no_mace_model_is_refused(monkeypatch):
    monkeypatch.setattr(descriptors, "get_calculator", lambda *_, **__: EMT())
    with pytest.raises(CardError, match="emt is no MACE model.*To fix"):
        compute_descriptors("emt", [crystal()])
