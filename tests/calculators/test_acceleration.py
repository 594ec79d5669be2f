"""The fast path proves itself: parity before use, times once, errors where a way was asked for by name."""

from __future__ import annotations

import json
import logging
import pickle
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mace_ft_bench import get_calculator
from mace_ft_bench.calculators import acceleration, backends
from mace_ft_bench.calculators.acceleration import TOLERANCES, difference, size_class
from mace_ft_bench.calculators.backends import BUILDERS, Output
from mace_ft_bench.calculators.graph import join, search_pairs
from mace_ft_bench.calculators.timings import Timings
from mace_ft_bench.errors import AccelerationError, CardError, UnknownNameError

from ..conftest import FOUNDATION_LIKE, build


def crystal(repeat=1):
    atoms = bulk("Mo", cubic=True) * (repeat, repeat, repeat)
    atoms.rattle(0.1, seed=1)
    return atoms


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MFB_CACHE", str(tmp_path))
    return tmp_path / "acceleration" / "timings.json"


class Wrong:
    """A way that is off in the forces of one atom."""

    name = "fused"

    def __init__(self, plain):
        self.plain = plain

    def evaluate(self, graph):
        output = self.plain.evaluate(graph)
        forces = output.forces.copy()
        forces[0, 1] += 2e-6
        return replace(output, forces=forces)


@pytest.fixture
def wrong_fused(monkeypatch):
    monkeypatch.setitem(BUILDERS, "fused", lambda model, head: Wrong(BUILDERS["e3nn"](model, head)))


def energy_and_name(tiny_file, atoms, **options):
    atoms = atoms.copy()
    atoms.calc = get_calculator(tiny_file, **options)
    return atoms.get_potential_energy(), atoms.calc.accelerator


@pytest.mark.usefixtures("fresh_cache")
@pytest.mark.parametrize("name", ["off", "e3nn", "fused", "cueq"])
def test_every_way_gives_the_same_energy(tiny_file, name):
    energy, used = energy_and_name(tiny_file, crystal(), accelerate=name)
    assert used == ("e3nn" if name == "off" else name)
    assert energy == pytest.approx(energy_and_name(tiny_file, crystal(), accelerate="off")[0], abs=1e-8)


def test_auto_takes_the_fastest_and_remembers(tiny_file, fresh_cache, monkeypatch):
    times = {"e3nn": 2.0, "fused": 1.0, "cueq": 3.0}
    measured = []

    def fake(backend, _graph):
        measured.append(backend.name)
        return times[backend.name]

    monkeypatch.setattr(acceleration, "_median_ms", fake)
    monkeypatch.setattr(acceleration, "_ENOUGH_MS", float("inf"))
    assert energy_and_name(tiny_file, crystal())[1] == "fused"
    assert measured == ["fused", "e3nn"]
    assert energy_and_name(tiny_file, crystal())[1] == "fused"
    assert measured == ["fused", "e3nn"], "the second process measured again"
    (stored,) = json.loads(fresh_cache.read_text()).values()
    assert stored == {"e3nn": 2.0, "fused": 1.0}


def test_what_takes_long_is_timed_once(tiny_file, fresh_cache, monkeypatch):
    calls = []

    def counted(self, graph, plain=backends.TorchBackend.evaluate):
        calls.append(self.name)
        return plain(self, graph)

    monkeypatch.setattr(backends.TorchBackend, "evaluate", counted)
    monkeypatch.setattr(acceleration, "_ENOUGH_MS", 0.0)
    assert energy_and_name(tiny_file, crystal())[1] == "fused"
    assert calls == ["e3nn"], "the plain path is evaluated for the comparison, and not again for its time"
    (stored,) = json.loads(fresh_cache.read_text()).values()
    assert stored["e3nn"] > stored["fused"]


@pytest.mark.usefixtures("fresh_cache")
def test_auto_takes_the_plain_way_when_it_is_faster(tiny_file, monkeypatch):
    monkeypatch.setattr(acceleration, "_ENOUGH_MS", float("inf"))
    monkeypatch.setattr(acceleration, "_median_ms", lambda backend, _: {"e3nn": 1.0, "fused": 1.5}[backend.name])
    assert energy_and_name(tiny_file, crystal())[1] == "e3nn"
    assert energy_and_name(tiny_file, crystal())[1] == "e3nn"


@pytest.mark.usefixtures("fresh_cache", "wrong_fused")
def test_auto_never_uses_a_way_that_differs(tiny_file, caplog):
    with caplog.at_level(logging.WARNING, "mace_ft_bench"):
        _, used = energy_and_name(tiny_file, crystal())
    assert used in {"e3nn", "cueq"}
    assert '"fused" is not used' in caplog.text
    assert "forces by 2e-06" in caplog.text


def test_stored_times_do_not_spare_the_comparison(tiny_file, fresh_cache, monkeypatch):
    assert energy_and_name(tiny_file, crystal())[1] in {"fused", "e3nn"}
    (key,) = json.loads(fresh_cache.read_text())
    fresh_cache.write_text(json.dumps({key: {"e3nn": 2.0, "fused": 1.0}}))
    monkeypatch.setitem(BUILDERS, "fused", lambda model, head: Wrong(BUILDERS["e3nn"](model, head)))
    assert energy_and_name(tiny_file, crystal())[1] == "e3nn"


@pytest.mark.usefixtures("fresh_cache", "wrong_fused")
def test_a_way_asked_for_by_name_must_agree(tiny_file):
    with pytest.raises(AccelerationError, match=r'"fused" is not used.*forces.*To fix: use accelerate="auto"'):
        energy_and_name(tiny_file, crystal(), accelerate="fused")


@pytest.mark.usefixtures("fresh_cache")
def test_every_size_class_is_compared(tiny_file, monkeypatch):
    calls = []
    original = acceleration.difference
    monkeypatch.setattr(acceleration, "difference", lambda *a: calls.append(len(a[0].energies)) or original(*a))
    calculator = get_calculator(tiny_file, accelerate="fused")
    for repeat in (1, 1, 2, 2):
        atoms = crystal(repeat)
        atoms.calc = calculator
        atoms.get_forces()
    assert calls == [2, 16]


@pytest.mark.parametrize("broken", ["", "[1]", '{"a": 1'])
def test_a_damaged_table_of_times_is_replaced(tiny_file, fresh_cache, broken):
    fresh_cache.parent.mkdir()
    fresh_cache.write_text(broken)
    energy_and_name(tiny_file, crystal())
    assert len(json.loads(fresh_cache.read_text())) == 1


def test_times_that_cannot_be_kept_still_serve(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MFB_CACHE", str(tmp_path / "file"))
    timings = Timings({})
    timings.store({"b": 2.0, "a": 1.0})
    assert timings.fastest_first() == ["a", "b"]


@pytest.mark.usefixtures("fresh_cache")
def test_auto_serves_models_that_the_fused_kernel_refuses(tmp_path):
    from mace_ft_bench.zoo.checkpoint import save_checkpoint

    path = tmp_path / "refused.safetensors"
    save_checkpoint(build(hidden_irreps="4x0e+4x0o+4x1o+4x1e"), path)
    assert energy_and_name(path, crystal())[1] in {"e3nn", "cueq"}
    with pytest.raises(AccelerationError, match="does not know irreps"):
        get_calculator(path, accelerate="fused")


@pytest.mark.usefixtures("fresh_cache")
def test_pickled_calculators_of_foundation_models_keep_the_fused_kernel(tmp_path):
    from mace_ft_bench.zoo.checkpoint import save_checkpoint

    path = tmp_path / "foundation.safetensors"
    save_checkpoint(build(**FOUNDATION_LIKE), path)
    first, atoms, again = crystal(), crystal(2), crystal(2)
    atoms.calc = first.calc = get_calculator(path, accelerate="fused")
    first.get_forces()
    again.calc = pickle.loads(pickle.dumps(first.calc))  # noqa: S301 - our own bytes
    assert (again.get_forces() == atoms.get_forces()).all()
    assert again.calc.accelerator == "fused"


def test_unknown_name(tiny_file):
    with pytest.raises(UnknownNameError, match='accelerate="fuse" does not exist.*did you mean "fused"'):
        get_calculator(tiny_file, accelerate="fuse")


def test_other_calculators_have_no_accelerators():
    with pytest.raises(CardError, match="chgnet is no MACE model"):
        get_calculator("chgnet", accelerate="fused")


@pytest.mark.usefixtures("fresh_cache")
def test_pickled_calculators_keep_their_way(tiny_file):
    calculator = get_calculator(tiny_file, accelerate="fused")
    atoms = crystal()
    atoms.calc = calculator
    copied = pickle.loads(pickle.dumps(calculator))  # noqa: S301 - our own bytes
    expected = atoms.get_forces()
    again = crystal()
    again.calc = copied
    assert (again.get_forces() == expected).all()
    assert again.calc.accelerator == "fused"


def output(**changes):
    rng = np.random.default_rng(0)
    values = {"energies": rng.normal(size=4), "forces": rng.normal(size=(4, 3)), "virials": rng.normal(size=(1, 3, 3))}
    return Output(**(values | changes))


@pytest.mark.parametrize("field", ["energies", "forces", "virials"])
@pytest.mark.parametrize("size", [1e-4, -1e-4, np.nan])
def test_difference_sees_one_wrong_entry(field, size):
    right = output()
    values = getattr(right, field).copy()
    values.flat[2] += size
    sizes = np.array([4])
    assert difference(right, right, TOLERANCES["float64"], sizes) is None
    assert difference(output(**{field: values}), right, TOLERANCES["float64"], sizes) is not None


def test_virials_of_many_structures_are_compared_one_by_one():
    many = {"energies": np.zeros(1000), "forces": np.zeros((1000, 3))}
    right, wrong = np.zeros((500, 3, 3)), np.zeros((500, 3, 3))
    wrong[7, 0, 1] = 1e-6
    sizes = np.full(500, 2)
    found = difference(Output(**many, virials=wrong), Output(**many, virials=right), TOLERANCES["float64"], sizes)
    assert found.startswith("virial per atom by 5e-07")


@pytest.mark.usefixtures("fresh_cache", "wrong_fused")
def test_a_structure_without_pairs_proves_nothing(tiny_file):
    calculator = get_calculator(tiny_file)
    lone = bulk("Mo", cubic=True)
    lone.set_cell(9 * np.eye(3))
    lone.positions[1] = 4.5
    for atoms in (lone, crystal()):
        atoms.calc = calculator
        atoms.get_forces()
        assert calculator.accelerator != "fused"


@pytest.mark.usefixtures("wrong_fused")
def test_a_failure_is_not_kept_on_disk(tiny_file, fresh_cache):
    energy_and_name(tiny_file, crystal())
    assert not fresh_cache.exists()


@pytest.mark.usefixtures("fresh_cache")
def test_other_elements_are_compared_again(tiny_file, monkeypatch):
    calls = []
    original = acceleration.difference
    monkeypatch.setattr(acceleration, "difference", lambda *a: calls.append(1) or original(*a))
    calculator = get_calculator(tiny_file, accelerate="fused")
    for symbols in (["Mo", "Mo"], ["Mo", "Si"], ["Si", "Mo"]):
        atoms = crystal()
        atoms.symbols[:] = symbols
        atoms.calc = calculator
        atoms.get_forces()
    assert len(calls) == 2


@pytest.mark.usefixtures("fresh_cache")
def test_pairs_of_elements_are_compared_once(tiny_file, monkeypatch):
    """Of many compositions most have only pairs that another one had: comparing each would cost the plain path."""
    calls = []
    original = acceleration.difference
    monkeypatch.setattr(acceleration, "difference", lambda *a: calls.append(1) or original(*a))
    calculator = get_calculator(tiny_file, accelerate="fused")
    compound = crystal()
    compound.symbols[:] = ["Mo", "Si"]
    apart = crystal() * (1, 1, 8)
    apart.symbols[:] = ["Mo"] * 8 + ["Si"] * 8
    for atoms, comparisons in ((compound, 1), (crystal(), 1), (apart, 2), (apart[:8] * (1, 1, 2), 2)):
        calculator.evaluate([atoms])
        assert len(calls) == comparisons
        assert calculator.accelerator == "fused"


@pytest.mark.usefixtures("fresh_cache")
def test_of_a_batch_only_what_is_new_is_compared(tiny_file, monkeypatch):
    sizes = []
    original = backends.TorchBackend.evaluate
    monkeypatch.setattr(
        backends.TorchBackend,
        "evaluate",
        lambda self, graph: sizes.append(graph.sizes.tolist()) or original(self, graph),
    )
    calculator = get_calculator(tiny_file, accelerate="fused")
    metals = [crystal() for _ in range(8)]
    compound = crystal() * (1, 1, 2)
    compound.symbols[:] = ["Mo", "Si"] * 2
    calculator.evaluate(metals)
    found = calculator.evaluate([*metals[:6], compound])
    assert sizes == [[2] * 8, [4]]
    alone = get_calculator(tiny_file, accelerate="off").evaluate([compound])[0]
    assert found[-1]["energy"] == pytest.approx(alone["energy"], abs=1e-8)


@pytest.mark.usefixtures("fresh_cache")
def test_atoms_too_near_do_not_cost_the_fast_way():
    """One pair of atoms, whose energy is large, must not slow down all that comes after it."""
    calculator = get_calculator("mo-ft", device="cpu")
    pairs = [Atoms("Mo2", [(0, 0, 0), (r, 0, 0)], cell=[20] * 3, pbc=True) for r in np.linspace(1.23, 5.5, 20)]
    energies = [found["energy"] for found in calculator.evaluate(pairs)]
    assert calculator.accelerator == "fused"
    plain = [found["energy"] for found in get_calculator("mo-ft", device="cpu", accelerate="off").evaluate(pairs)]
    assert energies == pytest.approx(plain, rel=1e-8)


@pytest.mark.usefixtures("fresh_cache", "wrong_fused")
def test_a_difference_on_new_pairs_is_found(tiny_file, monkeypatch):
    """What is wrong for silicon only shows as soon as there is silicon."""
    with monkeypatch.context() as patch:
        patch.setattr(acceleration, "difference", lambda *_: None)
        calculator = get_calculator(tiny_file, accelerate="fused")
        calculator.evaluate([crystal()])
    compound = crystal()
    compound.symbols[:] = ["Mo", "Si"]
    with pytest.raises(AccelerationError, match="differs from the plain path"):
        calculator.evaluate([compound])


def test_a_part_of_a_graph_is_that_of_its_structures():
    rng = np.random.default_rng(0)
    structures = [bulk("Mo", cubic=True) * (1, 1, number) for number in (1, 2, 3)]
    for atoms in structures:
        atoms.rattle(0.1, rng=rng)
    structures[1].symbols[:] = "Si"
    species = np.zeros(100, dtype=np.int64)
    species[14] = 1
    whole = join(structures, search_pairs(structures, 4.0), species)
    few = [structures[0], structures[2]]
    expected = join(few, search_pairs(few, 4.0), species)
    part = whole.part(np.array([0, 2]))
    for field in fields(part):
        np.testing.assert_array_equal(getattr(part, field.name), getattr(expected, field.name), err_msg=field.name)
    assert whole.showing({(1, 1)}).sizes.tolist() == [4]
    assert whole.showing({(0, 0)}).sizes.tolist() == [2], "the smallest that has the pair"
    assert whole.showing({(0, 0), (1, 1)}).sizes.tolist() == [2, 4]


def test_a_sample_of_a_batch_is_small_and_has_every_pair_of_elements():
    structures = [bulk("Mo", cubic=True) * (1, 1, number) for number in (1, 2, 3, 1)]
    structures[2].symbols[:] = "Si"
    species = np.zeros(100, dtype=np.int64)
    species[14] = 1
    tables = search_pairs(structures, 4.0)
    each = len(tables[0].sender) // 2
    whole = join(structures, tables, species)
    assert whole.sample(1).sizes.tolist() == [2, 6], "what the elements need is not left out"
    assert whole.sample(10 * each).sizes.tolist() == [2, 6]
    assert whole.sample(12 * each).sizes.tolist() == [2, 4, 6]
    assert whole.sample(100 * each).sizes.tolist() == [2, 4, 6, 2]
    alone = join(structures[:1], tables[:1], species)
    assert alone.sample(1) is alone
    apart = [Atoms("Mo"), Atoms("Si")]
    assert join(apart, search_pairs(apart, 4.0), species).sample(1).sizes.tolist() == [1, 1]


@pytest.mark.usefixtures("fresh_cache")
def test_a_large_batch_is_not_evaluated_by_the_plain_path(tiny_file, monkeypatch):
    seen = []

    class Watched(Wrong):
        name = "e3nn"

        def evaluate(self, graph):
            seen.append(len(graph.sender))
            return self.plain.evaluate(graph)

    plain = BUILDERS["e3nn"]
    monkeypatch.setitem(BUILDERS, "e3nn", lambda model, head: Watched(plain(model, head)))
    get_calculator(tiny_file).evaluate([crystal()] * 400)
    assert seen
    assert max(seen) < 6000


@pytest.mark.usefixtures("fresh_cache")
def test_a_way_that_crashes_is_not_used(tiny_file, monkeypatch, caplog):
    class Crashing(Wrong):
        def evaluate(self, _graph):
            raise RuntimeError("no kernel image")

    monkeypatch.setitem(BUILDERS, "fused", lambda model, head: Crashing(BUILDERS["e3nn"](model, head)))
    with caplog.at_level(logging.WARNING, "mace_ft_bench"):
        assert energy_and_name(tiny_file, crystal())[1] in {"e3nn", "cueq"}
    assert "no kernel image" in caplog.text


def test_size_classes_span_a_factor_of_four():
    assert [size_class(atoms) for atoms in (1, 3, 4, 15, 16, 63, 64, 2900)] == [0, 0, 1, 1, 2, 2, 3, 5]


def test_timings_live_in_the_cache(fresh_cache):
    Timings({"model": "a"}).store({"e3nn": 1.0})
    assert Path(fresh_cache).is_file()
    assert Timings({"model": "a"}).known
    assert not Timings({"model": "b"}).known
