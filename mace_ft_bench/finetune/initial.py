"""The model that training starts from: random weights, or a parent cut to the elements and given the heads it needs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols

from mace_ft_bench.calculators.heads import DEFAULT_HEAD, choose_head
from mace_ft_bench.finetune.graphs import batches, to_graphs
from mace_ft_bench.torch_env import default_dtype, mace_environment
from mace_ft_bench.zoo.checkpoint import build_model, describe_model

with mace_environment():
    from e3nn import o3
    from mace import modules
    from mace.tools import AtomicNumberTable
    from mace.tools.finetuning_utils import load_foundations_elements
    from mace.tools.scripts_utils import remove_pt_head

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms

    from mace_ft_bench.finetune.config import ArchitectureConfig

HEAD = DEFAULT_HEAD
"""Head of the frames that are trained on."""
PARENT_HEAD = "parent"
"""Head that keeps the parent's level of theory."""

_FIXED: dict[str, Any] = {
    "interaction_cls": "RealAgnosticResidualInteractionBlock",
    "interaction_cls_first": "RealAgnosticResidualInteractionBlock",
    "gate": "silu",
    "num_polynomial_cutoff": 5,
    "radial_MLP": [64, 64, 64],
    "radial_type": "bessel",
    "pair_repulsion": False,
    "distance_transform": None,
    "edge_irreps": None,
    "apply_cutoff": True,
    "readout_cls": "NonLinearReadoutBlock",
    "use_agnostic_product": False,
    "use_edge_irreps_first": False,
    "use_embedding_readout": False,
    "use_last_readout_only": False,
    "use_reduced_cg": False,
    "use_so3": False,
}
"""What no recipe chooses: the defaults of mace-torch."""


def random_model(
    architecture: ArchitectureConfig, e0s: Mapping[str, float], frames: Sequence[Atoms], *, dtype: str, seed: int
) -> Any:  # noqa: ANN401 - a ScaleShiftMACE
    """Return a model with random weights, scaled to the frames as mace does.

    Parameters
    ----------
    architecture
        Size and shape.
    e0s
        Energy per element [eV]; names the elements.
    frames
        Training frames: the root mean square of their forces, the mean of their atomisation energies and their mean
        number of neighbours normalise the model.
    dtype
        ``float32`` or ``float64``.
    seed
        Seed of the weights; torch's own generator is left as it was.
    """
    config = _FIXED | _architecture(architecture) | _elements(e0s, [HEAD], [e0s]) | {"dtype": dtype}
    unscaled = {"avg_num_neighbors": 1.0, "atomic_inter_scale": [1.0], "atomic_inter_shift": [0.0]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = build_model(config | unscaled)
        graphs = to_graphs(frames, probe, head=HEAD)
        with default_dtype(getattr(torch, dtype)):
            mean, rms = _shift_and_scale(graphs, np.array(config["atomic_energies"]))
            neighbours = modules.compute_avg_num_neighbors(batches(graphs, 32))  # type: ignore[arg-type]  # any iterable does
        torch.manual_seed(seed)
        return build_model(
            config
            | {
                "avg_num_neighbors": float(neighbours),
                "atomic_inter_scale": np.atleast_1d(rms).tolist(),
                "atomic_inter_shift": np.atleast_1d(mean).tolist(),
            }
        )


def _shift_and_scale(graphs: Sequence[Any], e0s: np.ndarray) -> tuple[Any, Any]:
    """Return the mean atomisation energy of the frames with energies, and the rms force of those with forces.

    A label that a frame lacks stands as zero in its graph, which mace would average in.
    """
    with_energy = [graph for graph in graphs if bool(graph.energy_weight > 0)]
    with_forces = [graph for graph in graphs if bool(graph.forces_weight > 0)]
    scaling = modules.scaling_classes["rms_forces_scaling"]
    mean = scaling(list(batches(with_energy, 32)), e0s)[0] if with_energy else 0.0
    return mean, scaling(list(batches(with_forces, 32)), e0s)[1] if with_forces else 1.0


def single_head(parent: Any, head: str, *, name: str) -> Any:  # noqa: ANN401 - a ScaleShiftMACE
    """Return the parent with one head.

    Raises
    ------
    UnknownNameError
        If the head does not exist, or none is named although there are several.
    """
    heads = list(parent.heads)
    chosen = choose_head(heads, head or None, model=name, option="[strategy] parent_head")
    if len(heads) == 1:
        return parent
    with mace_environment(), default_dtype(next(parent.parameters()).dtype):
        return remove_pt_head(parent, head_to_keep=chosen)


def derived_model(parent: Any, e0s_by_head: Mapping[str, Mapping[str, float]]) -> Any:  # noqa: ANN401 - a ScaleShiftMACE
    """Return the parent cut to the elements of the E0s, with a copy of its readout for every head.

    Every head gives the parent's interaction energies; total energies differ by the E0s.

    Parameters
    ----------
    parent
        A model of one head.
    e0s_by_head
        For every head the energy per element [eV]; all name the same elements.
    """
    heads = list(e0s_by_head)
    config = describe_model(parent)
    scale, shift = (float(np.ravel(config[f"atomic_inter_{name}"])[0]) for name in ("scale", "shift"))
    config |= _elements(next(iter(e0s_by_head.values())), heads, list(e0s_by_head.values()))
    config |= {"atomic_inter_scale": [scale] * len(heads), "atomic_inter_shift": [shift] * len(heads)}
    model: Any = build_model(config)
    table = AtomicNumberTable(config["atomic_numbers"])
    degree = o3.Irreps(model.interactions[0].hidden_irreps).lmax  # a string in models of one layer
    with torch.no_grad(), default_dtype(next(parent.parameters()).dtype):
        energies = model.atomic_energies_fn.atomic_energies.clone()
        load_foundations_elements(model, parent, table, load_readout=True, max_L=degree)
        model.atomic_energies_fn.atomic_energies.copy_(energies)
    return model


def e0s_of(model: Any, head: int = 0) -> dict[str, float]:  # noqa: ANN401 - a ScaleShiftMACE
    """Return the energy per element [eV] of a head."""
    values = np.atleast_2d(model.atomic_energies_fn.atomic_energies.cpu().numpy())[head].tolist()
    return {chemical_symbols[z]: value for z, value in zip(model.atomic_numbers.tolist(), values, strict=True)}


def _architecture(architecture: ArchitectureConfig) -> dict[str, Any]:
    options = asdict(architecture)
    return {"MLP_irreps": options.pop("mlp_irreps"), "num_bessel": options.pop("num_radial_basis"), **options}


def _elements(names: Mapping[str, float], heads: Sequence[str], e0s: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    symbols = sorted(names, key=atomic_numbers.__getitem__)
    return {
        "atomic_numbers": [atomic_numbers[symbol] for symbol in symbols],
        "num_elements": len(symbols),
        "atomic_energies": [[values[symbol] for symbol in symbols] for values in e0s],
        "heads": list(heads),
    }
