"""The loop against mace's own, exact continuation, stages, patience and divergence."""

from __future__ import annotations

import copy

import pytest
import torch

from mace_ft_bench.calculators.mace import MaceCalculator
from mace_ft_bench.datasets.frames import ENERGY, FORCES, STRESS
from mace_ft_bench.errors import TrainingError
from mace_ft_bench.finetune.graphs import batches, shuffled_batches, to_graphs
from mace_ft_bench.finetune.initial import HEAD, random_model
from mace_ft_bench.finetune.loop import Trainer
from mace_ft_bench.finetune.objective import EpochErrors, make_loss, validation_errors
from mace_ft_bench.finetune.strategies import parameter_groups, prepare
from mace_ft_bench.torch_env import default_dtype, mace_environment
from mace_ft_bench.zoo.checkpoint import copy_model

from .conftest import STAGE_TWO, copper

E0S = {"Cu": -0.1}


@pytest.fixture
def trainer(recipe, frames):
    """Return a function that makes a trainer of a tiny model, always the same one."""

    def make(**changes):
        config = recipe(dtype="float64", **changes)
        model = random_model(config.strategy.architecture, E0S, frames[0], dtype="float64", seed=config.seed)
        prepared = prepare(model, config.strategy, seed=config.seed)
        training, validation = (to_graphs(part, prepared, head=HEAD) for part in frames)
        return Trainer(config, prepared, training, validation)

    return make


def test_an_epoch_is_one_of_mace(trainer):
    """Same model, same batches: mace's own epoch gives the same weights and the same averages."""
    with mace_environment():
        from mace.tools.train import train_one_epoch
        from torch_ema import ExponentialMovingAverage

    ours = trainer(optimiser={"max_epochs": 1})
    options = ours.config.optimiser
    model = copy_model(ours.state.model)
    optimiser = torch.optim.Adam(
        parameter_groups(model, weight_decay=options.weight_decay), lr=options.lr, amsgrad=True
    )
    average = ExponentialMovingAverage(model.parameters(), decay=options.ema_decay)

    class Quiet:
        def log(self, _entry):
            pass

    with default_dtype(torch.float64):
        loss = make_loss(ours.config.loss, ours.config.weights, stress=True)
        train_one_epoch(
            model=model,
            loss_fn=lambda pred, ref: loss(ref, pred),
            data_loader=list(shuffled_batches(ours.training, options.batch_size, seed=ours.config.seed, epoch=0)),
            optimizer=optimiser,
            epoch=0,
            output_args={"forces": True, "virials": False, "stress": True},
            max_grad_norm=options.clip_grad,
            ema=average,
            logger=Quiet(),
            device=torch.device("cpu"),
            distributed=False,
        )
    before = copy.deepcopy(ours.state.model.state_dict())
    ours.run()
    after = ours.state.model.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in after)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(after[name], tensor, rtol=1e-10, atol=1e-12)
    with average.average_parameters(), ours.state.average.average_parameters():
        for mine, theirs in zip(ours.state.model.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("killed_after", [2, 5, 7])
def test_a_resumed_run_continues_exactly(trainer, tmp_path, killed_after):
    """In stage one, at its end, and in stage two."""
    changes = {"optimiser": {"max_epochs": 9}, "stage_two": STAGE_TWO | {"start_epoch": 6}}
    whole = trainer(**changes).run()
    packed = {}

    def store(state):
        if state.epoch == killed_after:
            torch.save(state.pack(), tmp_path / "state.pt")

    trainer(**changes).run(after_epoch=store)
    packed = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed = trainer(**changes)
    resumed.state.unpack(packed)
    assert resumed.state.epoch == killed_after
    state = resumed.run()
    assert state.history == whole.history
    for stage, weights in whole.best.items():
        assert all(torch.equal(weights[name], tensor) for name, tensor in state.best[stage].items())


def test_stages_have_their_own_loss_rate_and_best(trainer):
    changes = {"optimiser": {"max_epochs": 6, "lr_decay": 0.5}, "stage_two": STAGE_TWO | {"start_epoch": 4}}
    running = trainer(**changes)
    rates = []
    state = running.run(after_epoch=lambda state: rates.append(state.optimiser.param_groups[0]["lr"]))
    assert rates == pytest.approx([0.02, 0.01, 0.005, 0.0025, 0.003, 0.003])
    assert set(state.best) == {"one", "two"}
    assert [errors.epoch for errors in state.history] == [-1, 0, 1, 2, 3, 4, 5]
    assert state.first_of_stage == 5


def test_the_best_weights_are_those_of_the_best_validation(trainer):
    running = trainer(optimiser={"max_epochs": 5, "lr": 0.05})
    state = running.run()
    best = min(state.history, key=lambda errors: errors.loss)
    running.state.model.load_state_dict(state.best["one"])
    loss = running._losses["one"]
    with running.engine.predicting() as predict:
        again = validation_errors(predict, batches(running.validation, 6), loss, stress=True, epoch=best.epoch)
    assert again.loss == pytest.approx(best.loss, rel=1e-12)


def test_training_learns(trainer):
    history = trainer(optimiser={"max_epochs": 40}).run().history
    assert history[-1].force_rmse_mev_per_a < 0.5 * history[0].force_rmse_mev_per_a
    assert history[-1].stress_rmse_mev_per_a3 < 0.5 * history[0].stress_rmse_mev_per_a3


def test_a_stage_ends_when_nothing_improves(trainer):
    changes = {"optimiser": {"max_epochs": 60, "patience": 2, "lr": 1e-12, "weight_decay": 0.0}}
    running = trainer(**changes)
    history = iter([5.0, 4.0, 3.0, 3.5, 3.2, 9.0])
    running._validate = lambda epoch, **_: running.state.history.append(
        EpochErrors(epoch, next(history), None, None, None)
    )
    assert [errors.loss for errors in running.run().history] == [5.0, 4.0, 3.0, 3.5, 3.2]


def test_patience_ends_stage_one_early(trainer):
    changes = {"optimiser": {"max_epochs": 60, "patience": 1}, "stage_two": STAGE_TWO}
    running = trainer(**changes)
    history = iter([5.0, 6.0, 3.0, 4.0])
    running._validate = lambda epoch, **_: running.state.history.append(
        EpochErrors(epoch, next(history), None, None, None)
    )
    state = running.run()
    assert state.stage == "two"
    assert [errors.loss for errors in state.history] == [5.0, 6.0, 3.0, 4.0]


def test_divergence_is_found_and_named(trainer):
    with pytest.raises(TrainingError, match=r"diverged in epoch \d+: the (validation )?loss") as caught:
        trainer(optimiser={"max_epochs": 30, "lr": 1e6, "clip_grad": 1e9}).run()
    assert "lower the learning rate (it was 1e+06) to a third" in caught.value.fix


def test_a_start_without_errors_is_no_divergence(recipe, frames):
    """Frames labelled by the parent itself: the first step makes the loss many times larger, yet negligible."""
    config = recipe(dtype="float64", optimiser={"max_epochs": 2, "lr": 1e-5})
    model = prepare(
        random_model(config.strategy.architecture, E0S, frames[0], dtype="float64", seed=config.seed),
        config.strategy,
        seed=config.seed,
    )
    parent = MaceCalculator(copy_model(model), name="p", device="cpu", dtype=torch.float64)
    for frame, found in zip([*frames[0], *frames[1]], parent.evaluate([*frames[0], *frames[1]]), strict=True):
        frame.info[ENERGY], frame.info[STRESS], frame.arrays[FORCES] = found["energy"], found["stress"], found["forces"]
    ours = Trainer(config, model, *(to_graphs(part, model, head=HEAD) for part in frames))
    ours.run()
    losses = [errors.loss for errors in ours.state.history]
    assert losses[0] < 1e-16
    assert losses[-1] > 100 * losses[0]


def test_the_order_of_an_epoch_follows_from_seed_and_number():
    graphs = to_graphs([copper(seed) for seed in range(7)], Cheap(), head=HEAD)
    ids = {float(graph.energy): index for index, graph in enumerate(graphs)}

    def order(seed, epoch):
        return [ids[float(e)] for batch in shuffled_batches(graphs, 3, seed=seed, epoch=epoch) for e in batch.energy]

    assert order(1, 0) == order(1, 0)
    assert sorted(order(1, 0)) == list(range(7))
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


class Cheap:
    """What graphs need of a model."""

    atomic_numbers = torch.tensor([29])
    r_max = torch.tensor(3.5)
    heads = (HEAD,)

    def parameters(self):
        return iter([torch.zeros(1, dtype=torch.float64)])
