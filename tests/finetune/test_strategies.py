"""What strategies train, and that they start from the parent and end as a model that can be served."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mace_ft_bench.calculators.mace import MaceCalculator
from mace_ft_bench.datasets.frames import ENERGY, FORCES
from mace_ft_bench.errors import DataError, TrainingError, UnknownNameError
from mace_ft_bench.finetune.config import PARTS, Freeze, Full, LoRA, MultiheadReplay
from mace_ft_bench.finetune.graphs import to_graphs
from mace_ft_bench.finetune.initial import HEAD, PARENT_HEAD, derived_model, e0s_of, random_model, single_head
from mace_ft_bench.finetune.loop import Trainer
from mace_ft_bench.finetune.strategies import finish, part_of, prepare, trained_parts
from mace_ft_bench.zoo.checkpoint import copy_model

from ..conftest import build
from ..zoo.test_convert import NONLINEAR
from .conftest import copper

E0S = {"Cu": -0.1, "Ag": 0.2, "Au": 0.4}
ALL = [
    Full("full", "p"),
    Freeze("freeze", "p", ("embedding", "interaction-1")),
    LoRA("lora", "p", rank=2, alpha=4.0),
    MultiheadReplay("multihead-replay", "p", ("x:y",), 4),
]
BIASED = ("readouts.0.linear_mid", "readouts.0.linear_2")


@pytest.fixture(scope="module")
def parent():
    """Return a random model of three elements with scalars, vectors and correlation 2."""
    from mace_ft_bench.finetune.config import ArchitectureConfig

    shape = ArchitectureConfig("4x0e+4x1o", 3.5, 2, 2, num_radial_basis=4, mlp_irreps="4x0e")
    frames = [copper(seed) for seed in range(4)]
    return random_model(shape, E0S, frames, dtype="float64", seed=0)


def results(model, frame, head=None):
    calculator = MaceCalculator(
        copy_model(model), name="m", device="cpu", dtype=torch.float64, head=head, accelerate="off"
    )
    return calculator.evaluate([frame])[0]


def mixed(seed=0):
    """Return copper with a gold atom."""
    frame = copper(seed)
    frame.symbols[1] = "Au"
    return frame


def test_cutting_elements_changes_nothing_else(parent):
    cut = derived_model(parent, {HEAD: {"Cu": E0S["Cu"], "Au": E0S["Au"]}})
    assert cut.atomic_numbers.tolist() == [29, 79]
    before, after = results(parent, mixed()), results(cut, mixed())
    assert after["energy"] == pytest.approx(before["energy"], abs=1e-12)
    np.testing.assert_allclose(after["forces"], before["forces"], atol=1e-12)
    np.testing.assert_allclose(after["stress"], before["stress"], atol=1e-12)


def test_one_element_and_other_e0s(parent):
    cut = derived_model(parent, {HEAD: {"Cu": 7.0}})
    before, after = results(parent, copper(0)), results(cut, copper(0))
    assert after["energy"] - before["energy"] == pytest.approx(4 * (7.0 - E0S["Cu"]), abs=1e-12)
    np.testing.assert_allclose(after["forces"], before["forces"], atol=1e-12)
    assert e0s_of(cut) == {"Cu": 7.0}


def test_every_head_starts_as_the_parent_and_can_be_taken_out(parent):
    shifted = {symbol: value + 1 for symbol, value in E0S.items()}
    two = derived_model(parent, {PARENT_HEAD: E0S, HEAD: shifted})
    before = results(parent, mixed())
    for head, shift in ((PARENT_HEAD, 0.0), (HEAD, 4.0)):
        for found in (results(two, mixed(), head), results(single_head(two, head, name="two"), mixed())):
            assert found["energy"] - before["energy"] == pytest.approx(shift, abs=1e-12)
            np.testing.assert_allclose(found["forces"], before["forces"], atol=1e-12)
    with pytest.raises(UnknownNameError, match='no head "defualt"'):
        single_head(two, "defualt", name="two")
    assert list(single_head(two, "", name="two").heads) == [HEAD]
    with pytest.raises(UnknownNameError, match="several heads"):
        single_head(derived_model(parent, {PARENT_HEAD: E0S, "other": E0S}), "", name="two")


@pytest.mark.parametrize("strategy", ALL, ids=lambda strategy: strategy.kind)
def test_prepared_models_start_as_the_parent_and_train_what_is_asked(parent, recipe, strategy):
    heads = {PARENT_HEAD: E0S, HEAD: E0S} if strategy.kind == "multihead-replay" else {HEAD: E0S}
    model = prepare(derived_model(parent, heads), strategy, seed=1)
    frames = [mixed(seed) for seed in range(6)]
    start = results(finish(copy_model(model), strategy), frames[0])
    assert start["energy"] == pytest.approx(results(parent, frames[0])["energy"], abs=1e-12)

    graphs = to_graphs(frames, model, head=HEAD)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    trainer = Trainer(recipe(dtype="float64", optimiser={"max_epochs": 2}), model, graphs, graphs)
    trained = trained_parts(model)
    trainer.run()
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(before[name], parameter)}
    allowed = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert changed
    assert changed <= allowed
    assert {part for part in PARTS if trained[part]} == {part_of(name) for name in allowed}
    served = finish(copy_model(model), strategy)
    assert list(served.heads) == list(heads)
    assert abs(results(served, frames[0])["energy"] - start["energy"]) > 1e-6


def test_frozen_parts_have_no_trained_parameter(parent):
    model = prepare(derived_model(parent, {HEAD: E0S}), ALL[1], seed=1)
    found = trained_parts(model)
    assert found["embedding"] == found["interaction-1"] == 0
    assert min(found["interaction-2"], found["products"], found["readouts"]) > 0


def test_low_rank_updates_merge_exactly(parent):
    strategy = LoRA("lora", "p", rank=2, alpha=4.0)
    model = prepare(derived_model(parent, {HEAD: E0S}), strategy, seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).double())
    (graph,) = to_graphs([mixed()], model, head=HEAD)
    from mace_ft_bench.finetune.graphs import batches

    (batch,) = batches([graph], 1)
    unmerged = float(model(batch.to_dict())["energy"].detach())
    merged = finish(model, strategy)
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert results(merged, mixed())["energy"] == pytest.approx(unmerged, abs=1e-10)
    assert abs(unmerged - results(parent, mixed())["energy"]) > 1e-3


def test_maps_with_biases_are_left_alone():
    """mace-torch wraps the biased readouts of MACE-MH-1 and then cannot merge them."""
    model = build(**NONLINEAR)
    strategy = LoRA("lora", "p", rank=2, alpha=4.0)
    prepared = prepare(copy_model(model), strategy, seed=3)
    with torch.no_grad():
        for name, parameter in prepared.named_parameters():
            if "lora" in name:
                parameter.add_(0.1)
    merged = dict(finish(prepared, strategy).named_parameters())
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, merged[name])}
    assert any(name.startswith("interactions.1.linear") for name in changed)
    assert not any("_embedding" in name or name.startswith(BIASED) for name in changed)


def test_something_has_to_train(parent):
    with pytest.raises(TrainingError, match="Every part of the parent is frozen"):
        prepare(derived_model(parent, {HEAD: E0S}), Freeze("freeze", "p", PARTS), seed=1)


def test_labels_that_are_missing_do_not_move_the_scale():
    from mace_ft_bench.finetune.config import ArchitectureConfig

    shape = ArchitectureConfig("4x0e", 3.5, 1, 1, mlp_irreps="4x0e")
    frames = [copper(seed) for seed in range(8)]
    for frame in frames:
        frame.info[ENERGY] += -1000.0 * len(frame)
    partial = [frame.copy() for frame in frames]
    for frame in partial[::2]:
        del frame.info[ENERGY]
    for frame in partial[1::2]:
        del frame.arrays[FORCES]
    e0s = {"Cu": -1000.0}
    whole, found = (random_model(shape, e0s, given, dtype="float64", seed=1) for given in (frames, partial))
    energies = [frame.info[ENERGY] / len(frame) + 1000.0 for frame in frames]
    forces = np.concatenate([frame.arrays[FORCES] for frame in frames])
    assert float(whole.scale_shift.shift) == pytest.approx(np.mean(energies), abs=1e-9)
    assert float(whole.scale_shift.scale) == pytest.approx(np.sqrt(np.mean(forces**2)), rel=1e-9)
    assert float(found.scale_shift.shift) == pytest.approx(np.mean(energies[1::2]), abs=1e-9)
    forces = np.concatenate([frame.arrays[FORCES] for frame in frames[::2]])
    assert float(found.scale_shift.scale) == pytest.approx(np.sqrt(np.mean(forces**2)), rel=1e-9)


def test_a_slab_is_trained_on_the_stress_that_is_served(parent):
    slab = copper(0)
    slab.set_cell(slab.cell @ np.diag([1.0, 1.0, 3.0]))
    slab.pbc = (True, True, False)
    model = single_head(parent, "", name="p")
    (graph,) = to_graphs([slab], model, head=next(iter(model.heads)))
    from mace_ft_bench.finetune.graphs import batches

    (batch,) = batches([graph], 1)
    trained = model(batch.to_dict(), compute_stress=True)["stress"].detach().numpy()[0]
    served = results(parent, slab)["stress"]
    np.testing.assert_allclose(trained[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], served, rtol=0, atol=1e-12)
    assert np.abs(served).max() > 1e-5


def test_a_stress_needs_a_volume(parent):
    molecule = copper(0)
    molecule.cell, molecule.pbc = np.zeros((3, 3)), False
    with pytest.raises(DataError, match="a stress, but no volume"):
        to_graphs([molecule], parent, head=next(iter(parent.heads)))


def test_a_part_that_the_parent_lacks(parent):
    model = derived_model(parent, {HEAD: E0S})
    del model.interactions[1]
    with pytest.raises(TrainingError, match='no part "interaction-2"'):
        prepare(model, Freeze("freeze", "p", ("interaction-2",)), seed=1)


def test_seeds_make_models_and_leave_torch_alone():
    from mace_ft_bench.finetune.config import ArchitectureConfig

    shape = ArchitectureConfig("4x0e", 3.5, 1, 1, mlp_irreps="4x0e")
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, same, other = (
        random_model(shape, {"Cu": 0.0}, [copper(0)], dtype="float32", seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first.node_embedding.linear.weight, same.node_embedding.linear.weight)
    assert not torch.equal(first.node_embedding.linear.weight, other.node_embedding.linear.weight)
