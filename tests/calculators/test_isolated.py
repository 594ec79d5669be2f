"""A model in an environment of its own keeps the contract of every other model."""

from __future__ import annotations

import copy
import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT

from mace_ft_bench import get_calculator, testing
from mace_ft_bench.errors import (
    CardError,
    MissingDependencyError,
    UnknownNameError,
    UnsupportedElementError,
    WorkerError,
)
from mace_ft_bench.zoo.environments import install
from mace_ft_bench.zoo.registry import find_model
from mace_ft_bench.zoo.user import MODELS_VARIABLE

from ..peers import is_gone, isolated_card, odd_environment


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return odd_environment(tmp_path_factory.mktemp("odd") / "venv")


@pytest.fixture(autouse=True)
def bare_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("MFB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def peer(bare_machine, environment):
    """Return the name of an isolated model that is installed."""
    install(isolated_card(bare_machine, "peer"), environment=environment)
    return "peer"


def test_it_keeps_the_contract(peer):
    testing.check_calculator(
        get_calculator(peer), testing.sheared_crystal("Cu", "fcc", 3.6), tolerances=testing.FLOAT64
    )


def test_it_needs_its_environment_and_says_how_to_make_it(bare_machine):
    isolated_card(bare_machine, "peer")
    with pytest.raises(MissingDependencyError, match="mfb models install peer"):
        get_calculator("peer")
    with pytest.raises(MissingDependencyError, match="mfb models install sevennet-0"):
        get_calculator("sevennet-0")


def test_structures_are_checked_before_they_are_sent(peer):
    calculator = get_calculator(peer)
    with pytest.raises(UnsupportedElementError, match="peer was not trained on Mo"):
        calculator.get_potential_energy(bulk("Mo"))
    carbon_monoxide = molecule("CO")
    carbon_monoxide.calc = calculator
    with pytest.raises(PropertyNotImplementedError, match="Stress needs a cell"):
        carbon_monoxide.get_stress()
    reference = molecule("CO")
    reference.calc = EMT()
    assert carbon_monoxide.get_potential_energy() == pytest.approx(reference.get_potential_energy(), abs=1e-12)


def test_options_it_cannot_have_are_refused(peer, bare_machine, environment):
    with pytest.raises(CardError, match="no MACE model"):
        get_calculator(peer, accelerate="fused")
    with pytest.raises(CardError, match="runs in float64, not float32"):
        get_calculator(peer, dtype="float32")
    with pytest.raises(UnknownNameError, match='no head "pbe"'):
        get_calculator(peer, head="pbe")
    install(
        isolated_card(bare_machine, "fixed", calculator="ase.calculators.emt:EMT", device=""), environment=environment
    )
    assert get_calculator("fixed", device="cpu", dtype="float64").get_potential_energy(bulk("Cu")) < 0.1


def test_a_copy_has_a_worker_of_its_own(peer):
    calculator, atoms = get_calculator(peer), testing.sheared_crystal("Au", "fcc", 4.1)
    forces = calculator.get_forces(atoms)
    pickled = pickle.loads(pickle.dumps(calculator))  # noqa: S301 - our own bytes
    for other in (pickled, copy.deepcopy(calculator), copy.copy(calculator)):
        other.results.clear()
        assert np.array_equal(other.get_forces(atoms), forces)
        assert other.start().pid != calculator.start().pid
        other.close()
    assert calculator.start().alive


def test_a_lost_worker_is_an_error_once(peer):
    calculator, atoms = get_calculator(peer), bulk("Cu")
    energy, pid = calculator.get_potential_energy(atoms), calculator.start().pid
    os.kill(pid, signal.SIGKILL)
    other = bulk("Cu", cubic=True)
    with pytest.raises(WorkerError, match="signal 9"):
        calculator.get_potential_energy(other)
    assert calculator.results == {}
    assert is_gone(pid)
    assert calculator.get_potential_energy(other) == pytest.approx(4 * energy, abs=1e-10)
    pid = calculator.start().pid
    calculator.close()
    assert is_gone(pid)


def test_an_environment_that_was_changed_does_not_serve(peer, environment):
    (module,) = Path(environment).glob("lib/python*/site-packages/odd_peer.py")
    hidden = module.rename(module.with_suffix(".hidden"))
    try:
        with pytest.raises(WorkerError, match="No module named 'odd_peer'.*mfb models install peer --force"):
            get_calculator(peer)
    finally:
        hidden.rename(module)


def test_emt_is_a_model_and_a_poor_one():
    card = find_model("emt")
    assert "not for accuracy" in card.description
    calculator = get_calculator("emt")
    reference = bulk("Cu", cubic=True)
    reference.calc = EMT()
    assert calculator.get_potential_energy(bulk("Cu", cubic=True)) == reference.get_potential_energy()
    with pytest.raises(UnsupportedElementError, match="emt was not trained on Mo"):
        calculator.get_potential_energy(bulk("Mo"))
    with pytest.raises(CardError, match="float64 only"):
        get_calculator("emt", dtype="float32")


def test_results_of_emt_are_not_overwritten_by_the_next_structure():
    calculator, atoms = get_calculator("emt"), testing.sheared_crystal("Cu", "fcc", 3.6)
    calculator.calculate(atoms)
    kept = calculator.results["forces"]
    before = kept.copy()
    atoms.rattle(0.1, seed=4)
    calculator.calculate(atoms)
    assert np.array_equal(kept, before)
