"""Warnings about recipes that parse, and still rarely train well; each says why.

The ranges are conservative: outside of them something usually goes wrong, inside nothing is promised. Those of learning
rate, moving average and batch span the defaults of mace-torch for training from scratch (lr 0.01, EMA 0.99, batches of
10) and for fine-tuning (lr 1e-4, EMA 0.99999), the EMA narrowed to runs on hundreds to thousands of frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_ft_bench.datasets.frames import ENERGY, FORCES, STRESS
from mace_ft_bench.finetune.config import MultiheadReplay, Scratch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mace_ft_bench.finetune.config import FinetuneConfig, LossWeights
    from mace_ft_bench.finetune.frames_summary import FramesSummary

_LR = (1e-4, 1e-2)
_EMA = (0.99, 0.9999)
_LARGEST_BATCH = 20
_SMALLEST_REPLAYED, _LR_REPLAYED = 8, 2e-3
"""Batch and learning rate with which replay was measured to keep what it replays (docs/tutorials/which-strategy.md)."""
_FEWEST_STEPS = 10
"""Steps per epoch."""
_MEMORY = 0.2
"""Share of all steps that the moving average may reach back over."""
_ENERGY_OVER_FORCES = 30.0
_VALIDATION = 5
"""Fewest validation frames."""
_SINGLE = 6e-8
"""Relative rounding of float32."""
_ROUNDING_EV = 1e-4
"""Rounding of an energy that shows in an error [eV/atom]."""
_R_MAX = (4.0, 7.0)


def advise(config: FinetuneConfig, frames: FramesSummary) -> list[str]:
    """Return warnings about a recipe, given the frames it trains on; none for a usual one.

    Parameters
    ----------
    config
        The recipe.
    frames
        The training frames in numbers.
    """
    return [
        *_of_weights(config, frames),
        *_of_optimiser(config, frames),
        *_of_stage_two(config),
        *_of_data(config, frames),
        *_of_model(config, frames),
    ]


def _of_weights(config: FinetuneConfig, frames: FramesSummary) -> Iterator[str]:
    weights = config.weights
    given = {ENERGY: weights.energy, FORCES: weights.forces, STRESS: weights.stress}
    stages = [weights, *([config.stage_two.weights] if config.stage_two else [])]
    for label, weight in given.items():
        kind = label.removeprefix("REF_")
        if frames.labels[label] and all(getattr(stage, kind) == 0 for stage in stages):
            yield f"{frames.labels[label]} frames have {label}, and weights.{kind} is 0: the labels are not learned."
        if weight and not frames.labels[label]:
            yield f"weights.{kind} is {weight:g}, and no frame has {label}: the weight does nothing."
    if weights.forces and weights.energy > _ENERGY_OVER_FORCES * weights.forces:
        yield (
            f"weights.energy is {weights.energy / weights.forces:g} times weights.forces in stage one: forces hold "
            "three numbers per atom and fix the shape of the potential; give energies that weight in stage two."
        )
    if config.loss == "stress" and frames.labels[STRESS] and 0 < weights.stress < weights.forces:
        yield (
            f"weights.stress ({weights.stress:g}) is below weights.forces ({weights.forces:g}): stress errors are of "
            "the order of 0.001 eV/Å³ and force errors of 0.05 eV/Å, squared, so the stress is not learned."
        )


def _of_optimiser(config: FinetuneConfig, frames: FramesSummary) -> Iterator[str]:
    optimiser = config.optimiser
    if not _LR[0] <= optimiser.lr <= _LR[1]:
        why = "nothing is learned" if optimiser.lr < _LR[0] else "what the parent knows is lost, or training diverges"
        yield f"optimiser.lr {optimiser.lr:g} is outside {_LR[0]:g} to {_LR[1]:g}: {why}."
    if optimiser.batch_size > _LARGEST_BATCH:
        yield (
            f"optimiser.batch_size {optimiser.batch_size} is above {_LARGEST_BATCH}: large batches of few frames make "
            "few, smooth steps, which generalise worse; 1 to 10 is usual."
        )
    replayed = isinstance(config.strategy, MultiheadReplay)
    if replayed and (optimiser.batch_size < _SMALLEST_REPLAYED or optimiser.lr > _LR_REPLAYED):
        yield (
            f"Replay with batches of {optimiser.batch_size} at optimiser.lr {optimiser.lr:g}: frames of a broad domain "
            "make noisy steps, which cost more of the parent's forces than replay keeps; batches of "
            f"{_SMALLEST_REPLAYED} at {_LR_REPLAYED:g} kept them."
        )
    steps = -(-frames.frames // optimiser.batch_size)
    if steps < _FEWEST_STEPS <= frames.frames:
        yield f"An epoch of {frames.frames} frames has {steps} steps: make optimiser.batch_size smaller."
    if not _EMA[0] <= optimiser.ema_decay <= _EMA[1]:
        why = "averages over few steps only" if optimiser.ema_decay < _EMA[0] else "lags behind the weights"
        limits = f"{_EMA[0]:g} to {_EMA[1]:g}"
        yield f"optimiser.ema_decay {optimiser.ema_decay:g} is outside {limits}: the average {why}."
    reach, total = 1 / (1 - optimiser.ema_decay), steps * optimiser.max_epochs
    if reach > _MEMORY * total:
        yield (
            f"The moving average (ema_decay {optimiser.ema_decay:g}) reaches back {reach:.0f} steps of {total}: what "
            "is validated and kept stays near the start; lower it, or train longer."
        )
    if config.eval_interval > optimiser.max_epochs / 5:
        yield f"eval_interval {config.eval_interval} of {optimiser.max_epochs} epochs: the best epoch is missed."


def _of_stage_two(config: FinetuneConfig) -> Iterator[str]:
    stage, optimiser = config.stage_two, config.optimiser
    if stage is None:
        return
    if stage.lr > optimiser.lr:
        yield f"stage_two.lr {stage.lr:g} is above optimiser.lr {optimiser.lr:g}: the stage is there to settle."
    if stage.lr < _LR[0] / 10:
        yield f"stage_two.lr {stage.lr:g} is below {_LR[0] / 10:g}: the stage changes nothing."
    if stage.start_epoch < optimiser.max_epochs / 2:
        yield (
            f"Stage two starts at epoch {stage.start_epoch} of {optimiser.max_epochs}: forces need most of a run; "
            "start it in the second half."
        )
    if _share(stage.weights) < _share(config.weights):
        yield "Stage two weighs energies less against forces than stage one: it is there to settle the energies."


def _share(weights: LossWeights) -> float:
    return weights.energy / weights.forces if weights.forces else float("inf")


def _of_data(config: FinetuneConfig, frames: FramesSummary) -> Iterator[str]:
    data = config.data
    unknown = sorted(set(config.config_type_weights) - set(frames.groups))
    if unknown:
        yield f"config_type_weights names {', '.join(unknown)}, which no training frame is called."
    if frames.weighted:
        named = ", ".join(f"{key} ({number} frames)" for key, number in frames.weighted.items())
        yield f"Comment lines of the frames have {named}: mace multiplies the loss by it, as by config_type_weights."
    held_out = frames.frames * data.valid_fraction / (1 - data.valid_fraction)
    if not data.valid and round(held_out) < _VALIDATION:
        yield f"About {round(held_out)} frames validate: the best epoch is chosen by chance; raise data.valid_fraction."
    if frames.in_time and data.split_by == "frame" and not data.valid:
        yield (
            f"Frames of {', '.join(map(str, frames.in_time))} follow one another in time, and data.split_by is "
            '"frame": validation frames were almost trained on; use split_by = "block".'
        )


def _of_model(config: FinetuneConfig, frames: FramesSummary) -> Iterator[str]:
    if set(frames.isolated) >= set(frames.elements) and config.e0s.policy != "isolated-atoms":
        yield (
            f'There are isolated atoms of all elements, and e0s.policy is "{config.e0s.policy}": take '
            '"isolated-atoms", which the binding energy of a crystal needs.'
        )
    unseen = sorted(set(config.e0s.values_ev) - set(frames.elements))
    if unseen:
        yield f"[e0s.values_ev] gives {', '.join(unseen)}, which no training frame has: not used."
    rounding = _SINGLE * frames.largest_energy_ev_per_atom
    if config.dtype == "float32" and rounding > _ROUNDING_EV:
        yield (
            f"Energies reach {frames.largest_energy_ev_per_atom:.0f} eV/atom, which float32 rounds to "
            f"{1000 * rounding:.1g} meV/atom: use dtype float64, or take the E0s out of the labels."
        )
    if isinstance(config.strategy, Scratch) and not _R_MAX[0] <= config.strategy.architecture.r_max <= _R_MAX[1]:
        yield (
            f"strategy.architecture.r_max {config.strategy.architecture.r_max:g} Å is outside {_R_MAX[0]:g} to "
            f"{_R_MAX[1]:g} Å: shorter misses second neighbours, longer costs its cube."
        )
    if isinstance(config.strategy, MultiheadReplay) and config.strategy.frames < frames.frames / 10:
        yield (
            f"{config.strategy.frames} replayed frames beside {frames.frames} of the new data: too few to hold what "
            "the parent knows."
        )
