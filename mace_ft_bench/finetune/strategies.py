"""What a strategy changes in a model before training, and puts back afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from mace_ft_bench.errors import TrainingError
from mace_ft_bench.finetune.config import PARTS, Freeze, LoRA
from mace_ft_bench.torch_env import default_dtype, mace_environment

with mace_environment():
    from mace.modules.lora import LoRAO3Linear, inject_LoRAs, merge_lora_weights

if TYPE_CHECKING:
    from mace_ft_bench.finetune.config import Strategy


def part_of(parameter: str) -> str | None:
    """Return the part (:data:`mace_ft_bench.finetune.config.PARTS`) of a MACE model that a parameter belongs to.

    None for what nobody trains, mace's own training neither: the radial basis, scales and repulsion.
    """
    first, _, rest = parameter.partition(".")
    if first == "interactions":
        return f"interaction-{int(rest.split('.')[0]) + 1}"
    return {"node_embedding": "embedding", "products": "products", "readouts": "readouts"}.get(first)


def prepare(model: Any, strategy: Strategy, *, seed: int) -> Any:  # noqa: ANN401 - a ScaleShiftMACE
    """Return the model with ``requires_grad`` set for exactly what the strategy trains.

    Parameters
    ----------
    model
        The model to train; it is changed.
    strategy
        The strategy.
    seed
        Seed of the random half of low-rank updates; torch's own generator is left as it was.
    """
    frozen = strategy.parts if isinstance(strategy, Freeze) else ()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) not in (None, *frozen))
    if isinstance(strategy, LoRA):
        with torch.random.fork_rng(devices=[]), default_dtype(next(model.parameters()).dtype), mace_environment():
            torch.manual_seed(seed)
            model = inject_LoRAs(model, rank=strategy.rank, alpha=strategy.alpha)  # type: ignore[arg-type]  # a float does
        return _without_harmful_updates(model)
    if isinstance(strategy, Freeze):
        _refuse_unknown_parts(model, strategy)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise TrainingError("Every part of the parent is frozen.", fix="name fewer in strategy.parts.")
    return model


def finish(model: Any, strategy: Strategy) -> Any:  # noqa: ANN401 - a ScaleShiftMACE
    """Return the model as it is served: low-rank updates merged; a replayed parent's head stays beside the new one."""
    if isinstance(strategy, LoRA):
        model = merge_lora_weights(model, inplace=True)
    return model.requires_grad_(requires_grad=True)


def parameter_groups(model: Any, *, weight_decay: float) -> list[dict[str, Any]]:  # noqa: ANN401 - a ScaleShiftMACE
    """Return what is trained, in groups: weight decay acts on linear maps of messages and on products, as in mace."""
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    decayed = [parameter for name, parameter in trained if _decays(name)]
    others = [parameter for name, parameter in trained if not _decays(name)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def trained_parts(model: Any) -> dict[str, int]:  # noqa: ANN401 - a ScaleShiftMACE
    """Return the number of trained parameters of every part of a model; low-rank updates count for their part."""
    counts = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        part = part_of(name)
        if part is not None and parameter.requires_grad:
            counts[part] = counts.get(part, 0) + parameter.numel()
    return counts


def _decays(name: str) -> bool:
    return name.startswith("products.") or (name.startswith("interactions.") and "linear.weight" in name)


def _without_harmful_updates(model: Any) -> Any:  # noqa: ANN401 - a ScaleShiftMACE
    """Take updates back where they do harm.

    On tables of elements they would change elements that no frame has; on maps with biases mace-torch cannot merge
    them.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, LoRAO3Linear) and ("_embedding" in name or module.base.bias_numel):
            model.set_submodule(name, module.base)
    return model


def _refuse_unknown_parts(model: Any, strategy: Freeze) -> None:  # noqa: ANN401 - a ScaleShiftMACE
    known = {part_of(name) for name, _ in model.named_parameters()} - {None}
    for part in strategy.parts:
        if part not in known:
            raise TrainingError(
                f'The parent has no part "{part}".', fix=f"choose among {', '.join(sorted(map(str, known)))}."
            )
