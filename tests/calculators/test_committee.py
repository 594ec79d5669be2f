"""Committees: mean, members and variance as ordinary results."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.optimize import BFGS

from mace_ft_bench import get_calculator
from mace_ft_bench.calculators.committee import CommitteeCalculator, combine
from mace_ft_bench.errors import CardError
from mace_ft_bench.testing import FLOAT64, check_calculator, sheared_crystal

SIGMA = 2.3


def members():
    return [EMT(), LennardJones(sigma=SIGMA, rc=6), LennardJones(sigma=SIGMA, epsilon=0.5, rc=6)]


def crystal():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.mark.parametrize("name", ["energy", "forces", "stress"])
def test_mean_members_and_variance(name):
    atoms = crystal()
    expected = []
    for member in members():
        atoms.calc = member
        expected.append(np.array(member.get_property(name, atoms)))
    atoms.calc = CommitteeCalculator(members())
    np.testing.assert_allclose(atoms.calc.get_property(name, atoms), np.mean(expected, axis=0), atol=1e-12)
    np.testing.assert_allclose(atoms.calc.get_property(f"{name}_members", atoms), expected, atol=1e-12)
    variance = atoms.calc.get_property(f"{name}_variance", atoms)
    np.testing.assert_allclose(variance, np.var(expected, axis=0, ddof=1), atol=1e-12)
    assert np.max(variance) > 0


def test_one_evaluation_per_geometry(monkeypatch):
    calls = []
    original = EMT.calculate
    monkeypatch.setattr(EMT, "calculate", lambda self, *a, **k: calls.append(1) or original(self, *a, **k))
    atoms = crystal()
    atoms.calc = CommitteeCalculator(members())
    atoms.get_potential_energy()
    atoms.get_forces()
    atoms.get_stress()
    atoms.calc.get_property("forces_variance", atoms)
    assert len(calls) == 1
    atoms.rattle(0.01, seed=2)
    atoms.get_forces()
    assert len(calls) == 2


def test_many_structures():
    frames = [crystal(), crystal() * (2, 1, 1)]
    frames[1].rattle(0.02, seed=3)
    committee = CommitteeCalculator(members())
    for found, atoms in zip(committee.evaluate(frames), frames, strict=True):
        atoms.calc = committee
        for name in ("energy", "forces_variance", "stress_members"):
            np.testing.assert_allclose(found[name], committee.get_property(name, atoms), atol=1e-12)


def test_models_by_name_or_path(tmp_path, tiny_file):
    import torch

    from mace_ft_bench.zoo.checkpoint import load_checkpoint, save_checkpoint

    other = load_checkpoint(tiny_file)
    with torch.no_grad():
        other.readouts[0].linear.weight *= 1.1
    save_checkpoint(other, tmp_path / "other.safetensors")
    committee = get_calculator([tiny_file, tmp_path / "other.safetensors"])
    check_calculator(committee, sheared_crystal("Mo", "bcc", 3.16), tolerances=FLOAT64)
    atoms = bulk("Mo")
    atoms.calc = committee
    assert atoms.calc.get_property("energy_variance", atoms) > 0


def test_relaxes():
    atoms = crystal()
    atoms.calc = CommitteeCalculator(members())
    before = atoms.get_potential_energy()
    assert BFGS(atoms, logfile=None).run(fmax=0.01, steps=100)
    assert atoms.get_potential_energy() < before - 1e-3


def test_what_not_all_have_is_left_out():
    found = combine([{"energy": 1.0, "energies": np.ones(1)}, {"energy": 3.0}])
    assert set(found) == {"energy", "energy_members", "energy_variance"}
    assert (found["energy"], found["energy_variance"]) == (2.0, 2.0)


def test_stress_of_a_molecule(tiny_file):
    cluster = molecule("Si2H6")[[0, 1]]
    cluster.calc = get_calculator([tiny_file, tiny_file])
    assert "stress_variance" not in (cluster.get_potential_energy(), cluster.calc.results)[1]
    with pytest.raises(PropertyNotImplementedError):
        cluster.get_stress()


@pytest.mark.parametrize("few", [[], [EMT()], [EMT()] * 2])
def test_too_few_members(few):
    with pytest.raises(CardError, match="give two models or more"):
        CommitteeCalculator(few)


def test_a_refused_structure_stays_refused(tiny_file):
    """No member may answer with what it found for the structure before."""
    from mace_ft_bench.errors import StructureError

    committee = get_calculator([tiny_file, tiny_file])
    good = bulk("Mo", cubic=True)
    good.calc = committee
    good.get_potential_energy()
    bad = bulk("Mo", cubic=True)
    bad.positions[1] = [0.01, 0, 0]
    bad.calc = committee
    for _ in range(4):
        with pytest.raises(StructureError):
            bad.get_potential_energy()
        with pytest.raises(StructureError):
            committee.members[0].calculate(bad, ["energy"])
        with pytest.raises(StructureError):
            bad.get_forces()
