"""Many structures at once: the same results as one by one, within a budget of memory."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from mace_ft_bench import get_calculator
from mace_ft_bench.calculators.batches import run_in_batches
from mace_ft_bench.errors import UnsupportedElementError
from mace_ft_bench.properties.base import evaluate
from mace_ft_bench.testing import FLOAT64


@pytest.fixture(scope="module", params=["off", "fused"])
def calculator(request, tiny_file):
    return get_calculator(tiny_file, accelerate=request.param)


def frames():
    found = []
    for seed in range(4):
        atoms = bulk("Mo", cubic=True) * (1 + seed % 2, 1, 1)
        atoms.rattle(0.1, seed=seed)
        found.append(atoms)
    cluster = molecule("Si2H6")[[0, 1]]
    slab = bulk("Mo", cubic=True)
    slab.center(vacuum=4, axis=2)
    return [*found, cluster, slab, Atoms("Si", positions=[[0, 0, 0]])]


@pytest.mark.parametrize("pairs_per_batch", [1, 300, 10**6])
def test_same_as_one_by_one(calculator, pairs_per_batch):
    together = calculator.evaluate(frames(), pairs_per_batch=pairs_per_batch)
    assert len(together) == len(frames())
    for found, atoms in zip(together, frames(), strict=True):
        atoms.calc = calculator
        assert found["energy"] == pytest.approx(atoms.get_potential_energy(), abs=len(atoms) * FLOAT64.energy)
        np.testing.assert_allclose(found["forces"], atoms.get_forces(), rtol=0, atol=FLOAT64.forces)
        assert ("stress" in found) == (atoms.cell.rank == 3)
        if "stress" in found:
            np.testing.assert_allclose(found["stress"], atoms.get_stress(), rtol=0, atol=FLOAT64.stress)
        assert found["energies"].sum() == pytest.approx(found["energy"], abs=1e-12)


def test_frames_are_left_alone(calculator):
    given = frames()
    before = [atoms.copy() for atoms in given]
    calculator.evaluate(iter(given))
    assert all((a.positions == b.positions).all() and a.calc is None for a, b in zip(given, before, strict=True))


def test_no_frames(calculator):
    assert calculator.evaluate([]) == []


def test_bad_frames_are_found_before_any_work(calculator, monkeypatch):
    monkeypatch.setattr(type(calculator), "_evaluate", lambda *_: pytest.fail("work was done"))
    with pytest.raises(UnsupportedElementError, match="W"):
        calculator.evaluate([*frames(), bulk("W")])


def test_properties_use_it(calculator, monkeypatch):
    calls = []
    original = type(calculator).evaluate
    monkeypatch.setattr(type(calculator), "evaluate", lambda self, given: calls.append(1) or original(self, given))
    found = evaluate(calculator, frames())
    assert calls == [1]
    assert [item.stress is None for item in found] == [atoms.cell.rank < 3 for atoms in frames()]
    assert all(item.stress is None for item in evaluate(calculator, frames(), stress=False))


def test_batches_respect_the_budget():
    seen = []
    run_in_batches([1, 2, 3, 9, 1, 1], [1, 2, 3, 9, 1, 1], 5, lambda batch: seen.append(list(batch)) or list(batch))
    assert seen == [[1, 2], [3], [9], [1, 1]]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory")])
def test_a_batch_that_memory_refuses_is_halved(error, caplog):
    def work(batch):
        if len(batch) > 2:
            raise error
        return [10 * item for item in batch]

    with caplog.at_level(logging.WARNING, "mace_ft_bench"):
        assert run_in_batches([1, 2, 3, 4, 5], [1] * 5, 100, work) == [10, 20, 30, 40, 50]
    assert "does not fit into memory" in caplog.text


@pytest.mark.parametrize("error", [MemoryError("one"), RuntimeError("a bug")])
def test_other_errors_and_single_structures_pass_through(error):
    def work(_batch):
        raise error

    with pytest.raises(type(error), match=str(error)):
        run_in_batches([1] if isinstance(error, MemoryError) else [1, 2], [1, 1], 100, work)
