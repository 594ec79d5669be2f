"""Gradients through the fused kernel against torch's, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import bulk

from mace_ft_bench.datasets.frames import labelled
from mace_ft_bench.errors import TrainingError
from mace_ft_bench.finetune.cached_backbone import CachedEngine
from mace_ft_bench.finetune.config import ArchitectureConfig, Freeze, LossWeights
from mace_ft_bench.finetune.engines import FusedEngine, TorchEngine, choose_engine
from mace_ft_bench.finetune.graphs import batches, to_graphs
from mace_ft_bench.finetune.initial import derived_model, random_model
from mace_ft_bench.finetune.objective import make_loss
from mace_ft_bench.finetune.strategies import prepare
from mace_ft_bench.torch_env import default_dtype
from mace_ft_bench.zoo.checkpoint import build_model, copy_model, describe_model

E0S = {"Mg": -1.0, "O": -2.0, "Al": -3.0}


def strained_oxides(*, stress=True):
    rng = np.random.default_rng(0)
    frames = []
    for number in range(4):
        atoms = bulk("MgO", "rocksalt", a=4.2) * (1, 1, 1 + number % 2)
        atoms.rattle(0.1, rng=rng)
        if number == 3:
            atoms.symbols[0] = "Al"
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * rng.normal(size=(3, 3))), scale_atoms=True)
        labels = {"energy": -5.0 * len(atoms) + rng.normal(), "forces": rng.normal(size=(len(atoms), 3))}
        given = 0.01 * rng.normal(size=6) if stress else None
        frames.append(labelled(atoms, **labels, stress=given, config_type="oxide"))
    return frames


@pytest.fixture(scope="module")
def models():
    """Return a function that makes a model and a batch for it."""
    made = {}

    def make(irreps, layers=2):
        if (irreps, layers) not in made:
            shape = ArchitectureConfig(
                hidden_irreps=irreps, r_max=4.0, correlation=3, max_ell=2, num_interactions=layers, mlp_irreps="4x0e"
            )
            made[irreps, layers] = random_model(shape, E0S, strained_oxides(), dtype="float64", seed=1)
        return copy_model(made[irreps, layers])

    return make


def batch_for(model, **options):
    frames = strained_oxides(**options)
    return next(batches(to_graphs(frames, model, head=model.heads[0]), len(frames)))


def gradients(engine, model, batch, kind, weights=(1.0, 10.0, 100.0)):
    model.zero_grad()
    with default_dtype(torch.float64):
        loss = make_loss(kind, LossWeights(*weights), stress=True)
        value = engine.backward(batch, loss)
    trained = [item for item in model.named_parameters() if item[1].requires_grad]
    return value, {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in trained}


def assert_same(found, expected, tolerance=3e-6):
    assert found[0] == pytest.approx(expected[0], rel=1e-8)
    assert set(found[1]) == set(expected[1])
    largest = max(float(gradient.abs().max()) for gradient in expected[1].values())
    assert largest > 1e-6
    for name, gradient in expected[1].items():
        scale = max(float(gradient.abs().max()), 1e-3 * largest)
        assert float((found[1][name] - gradient).abs().max()) < tolerance * scale, name


@pytest.mark.parametrize("kind", ["stress", "universal"])
@pytest.mark.parametrize(("irreps", "layers"), [("4x0e", 2), ("4x0e+4x1o", 2), ("4x0e", 1)])
def test_equals_autograd(models, recipe, irreps, layers, kind):
    model = prepare(models(irreps, layers), recipe().strategy, seed=1)
    batch = batch_for(model)
    expected = gradients(TorchEngine(model, stress=True), model, batch, kind)
    assert_same(gradients(FusedEngine(model), model, batch_for(model), kind), expected)


@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 100.0)])
def test_every_term_alone(models, recipe, weights):
    """A wrong sign or volume in one term cannot hide behind another."""
    model = prepare(models("4x0e"), recipe().strategy, seed=1)
    expected = gradients(TorchEngine(model, stress=True), model, batch_for(model), "stress", weights)
    assert_same(gradients(FusedEngine(model), model, batch_for(model), "stress", weights), expected)


@pytest.mark.parametrize(
    "parts",
    [("embedding", "interaction-1"), ("embedding", "interaction-1", "interaction-2", "products"), ("readouts",)],
)
def test_frozen_parts_stay_without_gradient(models, parts):
    model = prepare(models("4x0e"), Freeze(kind="freeze", parent="any", parts=parts), seed=1)
    expected = gradients(TorchEngine(model, stress=True), model, batch_for(model), "stress")
    assert_same(gradients(FusedEngine(model), model, batch_for(model), "stress"), expected)
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    assert frozen
    assert all(parameter.grad is None for parameter in frozen)


def test_predicts_what_mace_does(models):
    model = models("4x0e+4x1o")
    with FusedEngine(model).predicting() as ours, TorchEngine(model, stress=True).predicting() as theirs:
        found, expected = ours(batch_for(model)), theirs(batch_for(model))
    for name, tolerance in (("energy", 1e-8), ("forces", 1e-7), ("stress", 1e-8)):
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=tolerance)


def test_auto_takes_the_fused_kernel_where_it_knows_the_model(models, recipe):
    model = models("4x0e")
    assert choose_engine(recipe(), model) == "fused"
    assert choose_engine(recipe(engine="torch"), model) == "torch"


def two_heads(parent):
    """Return a model with a head for the parent's level of theory, their readouts no longer equal."""
    model = derived_model(parent, {"parent": E0S, "Default": {symbol: 2 * energy for symbol, energy in E0S.items()}})
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.readouts.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model


def mixed_batch(model):
    frames = strained_oxides()
    graphs = [*to_graphs(frames[::2], model, head="parent"), *to_graphs(frames[1::2], model, head="Default")]
    return next(batches(graphs, len(graphs)))


def test_every_frame_trains_its_own_head(models, recipe):
    model = prepare(two_heads(models("4x0e")), recipe().strategy, seed=1)
    expected = gradients(TorchEngine(model, stress=True), model, mixed_batch(model), "stress")
    assert_same(gradients(FusedEngine(model), model, mixed_batch(model), "stress"), expected)
    with FusedEngine(model).predicting() as ours, TorchEngine(model, stress=True).predicting() as theirs:
        found, reference = ours(mixed_batch(model)), theirs(mixed_batch(model))
    torch.testing.assert_close(found["energy"], reference["energy"], rtol=0, atol=1e-8)
    torch.testing.assert_close(found["forces"], reference["forces"], rtol=0, atol=1e-7)


def test_what_it_does_not_know_is_refused_by_name(models, recipe):
    model = two_heads(models("4x0e"))
    model.scale_shift.scale[1] *= 2
    assert choose_engine(recipe(), model) == "torch"
    with pytest.raises(TrainingError, match="heads of different scale") as caught:
        choose_engine(recipe(engine="fused"), model)
    assert "torch" in caught.value.fix


BACKBONE = ("embedding", "interaction-1", "interaction-2", "products")


def numbered_batch(model, engine):
    """Return the batch of an engine that knows its frames."""
    graphs = to_graphs(strained_oxides(), model, head=model.heads[0])
    made = engine(model, graphs)
    return made, next(batches(graphs, len(graphs)))


@pytest.mark.parametrize("irreps", ["4x0e", "4x0e+4x1o"])
@pytest.mark.parametrize("weights", [(1.0, 10.0, 100.0), (0.0, 0.0, 100.0)])
def test_readouts_on_kept_features_equal_uncached_training(models, irreps, weights):
    """To 1e-6, also after the readouts have changed: what was kept may not depend on them."""
    model = prepare(models(irreps), Freeze(kind="freeze", parent="any", parts=BACKBONE), seed=1)
    engine, batch = numbered_batch(model, CachedEngine)
    for _ in range(2):
        expected = gradients(TorchEngine(model, stress=True), model, batch_for(model), "stress", weights)
        assert_same(gradients(engine, model, batch, "stress", weights), expected, tolerance=1e-6)
        with engine.predicting() as ours, TorchEngine(model, stress=True).predicting() as theirs:
            found, reference = ours(batch), theirs(batch_for(model))
        for name, tolerance in (("energy", 1e-8), ("forces", 1e-7), ("stress", 1e-8)):
            torch.testing.assert_close(found[name], reference[name], rtol=0, atol=tolerance)
        with torch.no_grad():
            for parameter in model.readouts.parameters():
                parameter.mul_(1.3)


def test_kept_features_know_the_pair_repulsion():
    shape = ArchitectureConfig(hidden_irreps="4x0e", r_max=4.0, correlation=2, max_ell=1, mlp_irreps="4x0e")
    plain = random_model(shape, E0S, strained_oxides(), dtype="float64", seed=1)
    model = build_model(describe_model(plain) | {"pair_repulsion": True})
    model = prepare(model, Freeze(kind="freeze", parent="any", parts=BACKBONE), seed=1)
    engine, batch = numbered_batch(model, CachedEngine)
    with torch.no_grad():
        for parameter in model.readouts.parameters():
            parameter.mul_(1.3)
    expected = gradients(TorchEngine(model, stress=True), model, batch_for(model), "stress")
    assert_same(gradients(engine, model, batch, "stress"), expected, tolerance=1e-6)


def test_features_are_kept_where_only_readouts_train_and_it_pays(models, recipe):
    frozen = prepare(models("4x0e"), Freeze(kind="freeze", parent="any", parts=BACKBONE), seed=1)
    long, short = recipe(optimiser={"max_epochs": 200}), recipe(optimiser={"max_epochs": 5})
    assert choose_engine(long, frozen, [50] * 10) == "cached"
    assert choose_engine(short, frozen, [50] * 10) == "fused"
    assert choose_engine(long, prepare(models("4x0e"), recipe().strategy, seed=1), [50] * 10) == "fused"


def test_what_cannot_be_kept_is_refused(models, recipe):
    asked = recipe(engine="cached")
    with pytest.raises(TrainingError, match="more than the readouts"):
        choose_engine(asked, prepare(models("4x0e"), recipe().strategy, seed=1), [50])
    frozen = prepare(models("4x0e"), Freeze(kind="freeze", parent="any", parts=BACKBONE), seed=1)
    with pytest.raises(TrainingError, match="GiB"):
        choose_engine(asked, frozen, [2000] * 100)
