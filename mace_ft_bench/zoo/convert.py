"""``python -m mace_ft_bench.zoo.convert SOURCE TARGET FACTS``: the process in which a pickle becomes data.

The rebuilt model must agree with the original on a structure of all its elements, head by head, evaluated by
mace-torch's own calculator: options that a configuration does not show would show there.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from mace_ft_bench.errors import CheckpointError, MaceFtBenchError
from mace_ft_bench.torch_env import default_dtype, mace_environment
from mace_ft_bench.zoo import checkpoint
from mace_ft_bench.zoo.conversion import Facts

if TYPE_CHECKING:
    import torch

TOLERANCE = 1e-8
"""Largest difference in float64 of energy per atom [eV], force [eV/A] and stress [eV/A^3]: rounding, not physics."""

_FEWEST_ATOMS = 8
_SPACING_A = 3.0
_RATTLE_A = 0.2


def convert(source: Path, target: Path) -> Facts:
    """Unpickle a model, write it as safetensors, prove the copy, and return what the weights say.

    Raises
    ------
    CheckpointError
        If the file holds no MACE model or the copy differs from it; ``target`` is then not left behind.
    """
    model = checkpoint.load_mace_model(source, trust=True)
    checkpoint.save_checkpoint(model, target)
    try:
        rebuilt = checkpoint.load_checkpoint(target)
        found = facts_of(rebuilt)
        _refuse_difference(model, rebuilt, found)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return found


def facts_of(model: torch.nn.Module) -> Facts:
    """Return what a model card can learn from a model."""
    config = checkpoint.describe_model(model)
    symbols = [chemical_symbols[number] for number in config["atomic_numbers"]]
    energies = np.atleast_2d(np.array(config["atomic_energies"], dtype=float))
    single = dict(zip(symbols, energies[0].tolist(), strict=True)) if len(energies) == 1 else {}
    return Facts(
        elements=tuple(symbols),
        heads=tuple(config["heads"]),
        parameters=sum(item.numel() for item in model.parameters()),
        architecture=_architecture(config),
        e0s_ev=single,
    )


def _architecture(config: dict[str, Any]) -> str:
    return (
        "MACE, {num_interactions} layers, {hidden_irreps}, r_max {r_max:g} A, correlation {correlation}, "
        "max_ell {max_ell}, {num_bessel} radial functions, {dtype}"
    ).format_map(config)


def _refuse_difference(model: torch.nn.Module, rebuilt: torch.nn.Module, facts: Facts) -> None:
    for position, head in enumerate(facts.heads):
        # Heads differ in their last layer only: the first one is tried on all elements, the others on a few.
        structure = _probe(facts.elements[:_FEWEST_ATOMS] if position else facts.elements)
        chosen: dict[str, Any] = {"head": head} if len(facts.heads) > 1 else {}
        first, second = (_evaluate(item, structure, chosen) for item in (model, rebuilt))
        worst = max(float(np.abs(a - b).max()) for a, b in zip(first, second, strict=True))
        if not worst <= TOLERANCE:
            raise CheckpointError(
                f'The converted model differs from the original by {worst:.2g} (head "{head}").',
                fix="keep the .model file; this architecture is not supported yet.",
            )


def _probe(elements: tuple[str, ...]) -> Atoms:
    """Return a rattled, periodic crystal that holds every element."""
    count = max(len(elements), _FEWEST_ATOMS)
    edge = math.ceil(count ** (1 / 3))
    sites = _SPACING_A * np.indices((edge,) * 3).reshape(3, -1).T[:count]
    moved = sites + np.random.default_rng(0).uniform(-_RATTLE_A, _RATTLE_A, sites.shape)
    symbols = [elements[index % len(elements)] for index in range(count)]
    return Atoms(symbols, positions=moved, cell=[edge * _SPACING_A] * 3, pbc=True)


def _evaluate(model: torch.nn.Module, structure: Atoms, head: dict[str, Any]) -> tuple[np.ndarray, ...]:
    import torch  # noqa: PLC0415 - beside its use

    atoms = structure.copy()
    with mace_environment(), default_dtype(torch.float64):
        from mace.calculators import MACECalculator  # noqa: PLC0415 - mace's own, for this comparison only

        atoms.calc = MACECalculator(models=[model], device="cpu", default_dtype="float64", **head)
        energy = np.array(atoms.get_potential_energy() / len(atoms))
        return energy, atoms.get_forces(), atoms.get_stress()


def main(arguments: list[str]) -> int:
    """Convert; an error is the last line on standard error, and exit status 2."""
    source, target, facts = map(Path, arguments)
    try:
        found = convert(source, target)
    except MaceFtBenchError as error:
        sys.stderr.write(f"\n{' '.join(error.message.split()).rstrip('.')}\n")
        return 2
    facts.write_text(json.dumps(dataclasses.asdict(found)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
