"""Copper labelled by EMT, and a machine without a network and without our caches."""

from __future__ import annotations

import numpy as np
import pooch
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from mace_ft_bench.datasets.fetch import MIRROR_VARIABLE
from mace_ft_bench.datasets.frames import labelled
from mace_ft_bench.download import CACHE_VARIABLE


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Return the empty folder of the cache; a download fails the test."""

    def refuse(*_args, **_options):
        raise AssertionError("a test asked for the network")

    monkeypatch.setattr(pooch, "HTTPDownloader", refuse)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    return tmp_path / "cache"


def emt_frame(atoms, config_type="bulk"):
    """Return a frame with the labels of EMT."""
    atoms = atoms.copy()
    atoms.calc = EMT()
    return labelled(
        atoms,
        energy=atoms.get_potential_energy(),
        forces=atoms.get_forces(),
        stress=atoms.get_stress(),
        config_type=config_type,
    )


@pytest.fixture
def emt():
    return emt_frame


@pytest.fixture
def copper():
    return bulk("Cu", "fcc", a=3.6, cubic=True)


@pytest.fixture
def rattled(copper):
    """Return a function that makes different labelled frames from different seeds."""

    def make(seed, config_type="bulk"):
        atoms = copper.copy()
        atoms.rattle(0.1, seed=seed)
        atoms.set_cell(atoms.cell @ (np.eye(3) + 0.01 * np.random.default_rng(seed).normal(size=(3, 3))))
        return emt_frame(atoms, config_type)

    return make
