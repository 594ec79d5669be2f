"""Draw weights of mace-nano anew that decay had brought to zero: python mace_nano_redraw.py IN OUT, two .safetensors.

Its training had a weight decay of 5e-7. In the last linear map most gradients of l = 1 to 4 began smaller than that, so
that Adam turned the decay into full steps, and these weights and the products that see them went to zero together,
where neither has a gradient. Here the former get random values again and the latter exactly zero: the same function of
the structure, to the last digit, and one that fine-tuning can use the whole of.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import torch

from mace_ft_bench.zoo.checkpoint import load_checkpoint, save_checkpoint

SEED = 1
DEAD = 1e-6
"""Root mean square of a channel below which it is taken for zero."""


def redraw(model: Any) -> None:  # noqa: ANN401 - a ScaleShiftMACE
    """Change the last layer of a model in place."""
    linear, generator = model.interactions[-1].linear, torch.Generator().manual_seed(SEED)
    blocks = linear.weight.split([math.prod(block.path_shape) for block in linear.instructions])
    silent = torch.ones(linear.irreps_out[0].mul, dtype=torch.bool)  # channels of which l = 0 is all that is left
    for weights, block in zip(blocks, linear.instructions, strict=True):
        columns = weights.view(*block.path_shape)
        dead = rms(columns) < DEAD
        columns[:, dead] = torch.randn(block.path_shape, generator=generator, dtype=weights.dtype)[:, dead]
        if linear.irreps_out[block.i_out].ir.l > 0:
            silent &= dead
    for weights in model.products[-1].symmetric_contractions.parameters():
        weights[:, rms(weights) < DEAD] = 0.0
        weights[:, 1:, silent] = 0.0  # the first product of every order is that of l = 0 alone


def rms(weights: torch.Tensor) -> torch.Tensor:
    """Return the root mean square over the first index."""
    return weights.square().mean(dim=0).sqrt()


if __name__ == "__main__":
    with torch.no_grad():
        loaded = load_checkpoint(Path(sys.argv[1]))
        redraw(loaded)
        save_checkpoint(loaded, Path(sys.argv[2]))
