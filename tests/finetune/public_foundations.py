"""Small random models that are built as the public foundation models are, and alloys to fine-tune them on."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.data import atomic_numbers

from mace_ft_bench.datasets.frames import labelled
from mace_ft_bench.zoo.registry import find_model

from ..conftest import FOUNDATION_LIKE, build

SYMBOLS = tuple(sorted(find_model("mace-mp-0b3").elements, key=atomic_numbers.__getitem__))
"""The 89 elements of the Materials Project."""
E0S = {
    "default": {symbol: -1.0 - 0.05 * index for index, symbol in enumerate(SYMBOLS)},
    "omat_pbe": {symbol: -2.0 - 0.05 * index for index, symbol in enumerate(SYMBOLS)},
    "matpes_r2scan": {symbol: -40.0 - 0.75 * index for index, symbol in enumerate(SYMBOLS)},
}
"""By head the energy per element [eV]."""

MP_0B3 = {
    **FOUNDATION_LIKE,
    "hidden_irreps": "16x0e+16x1o",
    "MLP_irreps": "16x0e",
    "r_max": 6.0,
    "num_bessel": 10,
    "max_ell": 3,
    "correlation": 3,
    "distance_transform": "Agnesi",
    "atomic_numbers": [atomic_numbers[symbol] for symbol in SYMBOLS],
    "num_elements": len(SYMBOLS),
    "radial_MLP": [64, 64, 64],
    "heads": ["default"],
    "atomic_energies": [list(E0S["default"].values())],
}
"""MACE-MP-0b3 medium with 16 channels instead of 128: density-normalised blocks, Agnesi transform and ZBL repulsion."""
TWO_HEADS = {
    **MP_0B3,
    "heads": ["omat_pbe", "matpes_r2scan"],
    "atomic_energies": [list(E0S[head].values()) for head in ("omat_pbe", "matpes_r2scan")],
    "atomic_inter_scale": [0.8, 0.5],
    "atomic_inter_shift": [0.1, -0.2],
}
"""MACE-MP-0b3 with two heads, as mace-torch's own multihead fine-tuning leaves it."""


def foundation(config):
    """Return a model of a configuration, its weights far from those that initialisation leaves at zero."""
    model = build(**config)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "bessel" not in name:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def alloy(seed):
    """Return hot Cu3Al, or CuAl for every second seed, with the labels of EMT."""
    atoms = bulk("Cu", "fcc", a=3.75, cubic=True)
    atoms.symbols[: 1 + seed % 2] = "Al"
    atoms.rattle(0.1, seed=seed)
    return relabelled(atoms, EMT())


def isolated(symbol, energy):
    """Return an atom alone, which gives an E0."""
    atom = Atoms(symbol, cell=[20.0] * 3, pbc=True)
    return labelled(atom, energy=energy, forces=np.zeros((1, 3)), stress=None, config_type="isolated")


def relabelled(atoms, calculator):
    """Return a copy with the labels of a calculator."""
    atoms = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=True, calculator=calculator)
    labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
    return labelled(atoms, **labels, config_type="alloy")
