"""The training loop: epochs, stages, averages of weights, validation, and a state from which it continues exactly.

It is mace's loop (Adam with AMSGrad, clipped gradients, exponential moving average of the weights, a second stage with
other weights of the loss) written anew, because a killed run of mace's own starts again from averaged weights, without
the state of the average and of the order of frames. Here the order of an epoch follows from the seed and its number,
the learning rate from the epoch alone, and everything else is in :class:`State`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from mace_ft_bench.errors import TrainingError
from mace_ft_bench.finetune.engines import make_engine
from mace_ft_bench.finetune.graphs import batches, label_counts, shuffled_batches
from mace_ft_bench.finetune.objective import EpochErrors, make_loss, validation_errors
from mace_ft_bench.finetune.strategies import parameter_groups
from mace_ft_bench.torch_env import default_dtype, mace_environment

with mace_environment():
    from torch_ema import ExponentialMovingAverage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mace_ft_bench.finetune.config import FinetuneConfig, LossWeights
    from mace_ft_bench.finetune.objective import Loss

STAGES = ("one", "two")
_DIVERGED = 100.0
"""A validation loss this many times that of the first validation of a stage is no noise."""


@dataclass
class State:
    """Everything that training changes, so that a stored copy continues as if nothing had happened."""

    model: Any
    optimiser: torch.optim.Optimizer
    average: Any
    """Exponential moving average of the weights."""
    epoch: int = 0
    """Next epoch."""
    stage: str = "one"
    history: list[EpochErrors] = field(default_factory=list)
    first_of_stage: int = 0
    """Where the stage starts in the history."""
    best: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    """Averaged weights of the best validation of every stage."""

    def pack(self) -> dict[str, Any]:
        """Return plain data and tensors."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state_dict(),
            "epoch": self.epoch,
            "stage": self.stage,
            "history": [asdict(errors) for errors in self.history],
            "first_of_stage": self.first_of_stage,
            "best": self.best,
        }

    def unpack(self, packed: dict[str, Any]) -> None:
        """Take over what :meth:`pack` returned."""
        self.model.load_state_dict(packed["model"])
        self.optimiser.load_state_dict(packed["optimiser"])
        self.average.load_state_dict(packed["average"])
        self.epoch, self.stage = packed["epoch"], packed["stage"]
        self.history = [EpochErrors(**errors) for errors in packed["history"]]
        self.first_of_stage, self.best = packed["first_of_stage"], packed["best"]


class Trainer:
    """Trains a prepared model on graphs.

    Parameters
    ----------
    config
        The recipe.
    model
        A model as :func:`mace_ft_bench.finetune.strategies.prepare` returns it.
    training, validation
        Graphs of :func:`mace_ft_bench.finetune.graphs.to_graphs`.
    engine
        Name of what computes the gradients, from :func:`mace_ft_bench.finetune.engines.choose_engine`.
    on_kept
        Called with the numbers of frames done and in all while the engine prepares them.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the last one reports
        self,
        config: FinetuneConfig,
        model: Any,  # noqa: ANN401 - a ScaleShiftMACE
        training: Sequence[Any],
        validation: Sequence[Any],
        engine: str = "torch",
        on_kept: Callable[[int, int], None] | None = None,
    ) -> None:
        self.config = config
        self.training, self.validation = training, validation
        self.stress = label_counts(training)["stress"] > 0
        options = config.optimiser
        model.to(config.device)
        self.engine = make_engine(engine, model, [*training, *validation], stress=self.stress, on_kept=on_kept)
        optimiser = torch.optim.Adam(
            parameter_groups(model, weight_decay=options.weight_decay), lr=options.lr, amsgrad=True
        )
        average = ExponentialMovingAverage(_trained(model), decay=options.ema_decay)
        self.state = State(model, optimiser, average)
        with default_dtype(next(model.parameters()).dtype):
            self._losses = {
                stage: make_loss(config.loss, weights, stress=self.stress)
                for stage, weights in zip(STAGES, self._weights(), strict=False)
            }

    def run(
        self,
        *,
        after_epoch: Callable[[State], None] | None = None,
        on_errors: Callable[[EpochErrors], None] | None = None,
    ) -> State:
        """Train to the end, from wherever the state is.

        Parameters
        ----------
        after_epoch
            Called with the state after every validated epoch; may store it.
        on_errors
            Called with the errors of every validation.

        Raises
        ------
        TrainingError
            If the loss is not finite or explodes.
        """
        state, options = self.state, self.config.optimiser
        if not state.history:
            self._validate(epoch=-1, on_errors=on_errors)
        while state.epoch < options.max_epochs and not self._finished():
            self._enter_stage()
            self._train_epoch()
            state.epoch += 1
            last = state.epoch == options.max_epochs
            if (state.epoch - 1) % self.config.eval_interval == 0 or last:
                self._validate(epoch=state.epoch - 1, on_errors=on_errors)
                if after_epoch:
                    after_epoch(state)
        return state

    def learning_rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch of the present stage."""
        if self.state.stage == "two" and self.config.stage_two is not None:
            return self.config.stage_two.lr
        return self.config.optimiser.lr * self.config.optimiser.lr_decay**epoch

    def _weights(self) -> list[LossWeights]:
        second = [] if self.config.stage_two is None else [self.config.stage_two.weights]
        return [self.config.weights, *second]

    def _enter_stage(self) -> None:
        state, second = self.state, self.config.stage_two
        if state.stage == "one" and second is not None and (state.epoch >= second.start_epoch or self._stalled()):
            state.stage, state.first_of_stage = "two", len(state.history)

    def _finished(self) -> bool:
        return self._stalled() and (self.state.stage == "two" or self.config.stage_two is None)

    def _stalled(self) -> bool:
        """Whether the best validation of the stage lies more than the patience back."""
        losses = [errors.loss for errors in self.state.history[self.state.first_of_stage :]]
        patience = self.config.optimiser.patience
        return patience > 0 and len(losses) > patience and min(losses[:-patience]) <= min(losses[-patience:])

    def _train_epoch(self) -> None:
        state, options = self.state, self.config.optimiser
        for group in state.optimiser.param_groups:
            group["lr"] = self.learning_rate(state.epoch)
        loss = self._losses[state.stage]
        for batch in shuffled_batches(self.training, options.batch_size, seed=self.config.seed, epoch=state.epoch):
            value = self._step(batch.to(self.config.device), loss)
            if not math.isfinite(value):
                raise self._diverged(f"the loss of a batch is {value}")

    def _step(self, batch: Any, loss: Loss) -> float:  # noqa: ANN401 - a mace batch
        state = self.state
        state.optimiser.zero_grad(set_to_none=True)
        value = self.engine.backward(batch, loss)
        torch.nn.utils.clip_grad_norm_(_trained(state.model), self.config.optimiser.clip_grad)
        state.optimiser.step()
        state.average.update()
        return value

    def _validate(self, *, epoch: int, on_errors: Callable[[EpochErrors], None] | None) -> None:
        state = self.state
        loss = self._losses[state.stage]
        found = (batch.to(self.config.device) for batch in batches(self.validation, self.config.optimiser.batch_size))
        with state.average.average_parameters():
            with self.engine.predicting() as predict:
                errors = validation_errors(predict, found, loss, stress=self.stress, epoch=epoch)
            earlier = [item.loss for item in state.history[state.first_of_stage :]]
            state.history.append(errors)
            if on_errors:
                on_errors(errors)
            if not math.isfinite(errors.loss) or (earlier and errors.loss > _DIVERGED * max(earlier[0], self._small())):
                raise self._diverged(f"the validation loss is {errors.loss:.3g}, after {min(earlier, default=0.0):.3g}")
            if errors.loss <= min(earlier, default=math.inf):
                state.best[state.stage] = {
                    key: value.detach().clone() for key, value in state.model.state_dict().items()
                }

    def _small(self) -> float:
        """Return the loss of errors of 1 meV: a start that is better than that may get a hundred times worse."""
        weights = self._weights()[STAGES.index(self.state.stage)]
        return 1e-6 * float(sum(asdict(weights).values()))

    def _diverged(self, what: str) -> TrainingError:
        rate = self.learning_rate(self.state.epoch)
        return TrainingError(
            f"Training diverged in epoch {self.state.epoch}: {what}.",
            fix=f"lower the learning rate (it was {rate:.2g}) to a third, and look at the largest forces "
            "and the shortest distances of the frames.",
        )


def _trained(model: Any) -> list[torch.nn.Parameter]:  # noqa: ANN401 - a ScaleShiftMACE
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
