"""Whole recipes with EMT as the teacher: splits, resuming, processes, and what is refused."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from mace_ft_bench.datasets.frames import CONFIG_TYPE, ENERGY, FORCES, STRESS, labelled
from mace_ft_bench.errors import CardError, DataError
from mace_ft_bench.learning import distill as distilling
from mace_ft_bench.learning.distill import SPLITS, distill, jobs, parents, real_frames, split_of
from mace_ft_bench.learning.dynamics import DynamicsConfig
from mace_ft_bench.learning.recipe import FamilyConfig


class IdealGas(Calculator):
    """A driver without forces."""

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}


RUN = DynamicsConfig(("fcc-A*",), (300.0,), steps=4, every=2, relax_steps=0)


def same(first, second):
    return len(first) == len(second) and all(
        (one.positions == other.positions).all() and one.info[ENERGY] == other.info[ENERGY]
        for one, other in zip(first, second, strict=True)
    )


def test_every_frame_is_labelled_and_every_split_written(config, tmp_path):
    found = distill(config, tmp_path, EMT)
    for name in SPLITS:
        written = read(tmp_path / f"{name}.xyz", ":", format="extxyz")
        assert same(written, found.splits[name])
        for frame in written:
            assert frame.info[STRESS].shape == (6,)
            assert frame.arrays[FORCES].shape == (len(frame), 3)
            assert frame.info[CONFIG_TYPE] in config.family
    assert not any(path.name.startswith(".") for path in tmp_path.rglob("*"))


def test_a_parent_is_in_one_split(config, tmp_path):
    found = distill(dataclasses.replace(config, dynamics=(RUN,)), tmp_path, EMT)
    wanted = {parent.name: split_of(parent.name, config) for parent in parents(config)}
    assert set(wanted.values()) == set(SPLITS)
    for name, split in wanted.items():
        files = [tmp_path / "parents" / f"{name}.xyz", *tmp_path.glob(f"parents/md*-{name}.xyz")]
        of_parent = [f for path in files if path.stat().st_size for f in read(path, ":", format="extxyz")]
        energies = {frame.info[ENERGY] for frame in found.splits[split]}
        assert {frame.info[ENERGY] for frame in of_parent} <= energies


def test_splits_have_about_the_shares_asked_for(config):
    splits = [split_of(f"parent-{number}", config) for number in range(2000)]
    shares = [splits.count(name) / len(splits) for name in SPLITS]
    assert shares == pytest.approx([0.5, 0.2, 0.3], abs=0.03)


def test_another_seed_is_another_split(config):
    other = dataclasses.replace(config, seed=2)
    assert any(split_of(f"p{n}", config) != split_of(f"p{n}", other) for n in range(50))


def test_a_second_run_labels_nothing_again(config, tmp_path):
    first = distill(config, tmp_path, EMT)

    def unneeded():
        raise AssertionError("a teacher was built")

    assert all(same(first.splits[name], distill(config, tmp_path, unneeded).splits[name]) for name in SPLITS)


def test_a_run_that_was_cut_off_goes_on(config, tmp_path):
    whole = distill(config, tmp_path / "whole", EMT)
    done = []

    def cut(number, _total):
        done.append(number)
        if number == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(config, tmp_path / "cut", EMT, on_job=cut)
    assert not (tmp_path / "cut" / "train.xyz").exists()
    rest = distill(config, tmp_path / "cut", EMT, on_job=lambda number, _: done.append(number))
    assert done == list(range(1, len(jobs(config, parents(config))) + 1))
    assert all(same(whole.splits[name], rest.splits[name]) for name in SPLITS)


def test_processes_give_the_frames_of_one(config, tmp_path):
    alone, together = (distill(config, tmp_path / str(n), EMT, workers=n) for n in (1, 2))
    assert all(same(alone.splits[name], together.splits[name]) for name in SPLITS)


def test_a_folder_of_another_recipe_is_refused(config, tmp_path):
    distill(config, tmp_path, EMT)
    with pytest.raises(DataError, match="holds frames of another recipe"):
        distill(dataclasses.replace(config, max_force=1.0), tmp_path, EMT)


def test_a_folder_of_a_release_whose_recipes_had_fewer_keys_goes_on(config, tmp_path):
    first = distill(config, tmp_path, EMT)
    stored = json.loads((tmp_path / "recipe.json").read_text())
    del stored["structures"], stored["max_force"]
    (tmp_path / "recipe.json").write_text(json.dumps(stored))
    default = dataclasses.replace(config, max_force=30.0)
    again = distill(default, tmp_path, lambda: pytest.fail("a job was done again"))
    assert all(same(first.splits[name], again.splits[name]) for name in SPLITS)
    with pytest.raises(DataError, match="holds frames of another recipe"):
        distill(dataclasses.replace(default, seed=99), tmp_path, EMT)


def test_a_damaged_folder_is_refused(config, tmp_path):
    (tmp_path / "recipe.json").write_text('{"teacher": "emt", ')
    with pytest.raises(DataError, match="is damaged"):
        distill(config, tmp_path, EMT)


def test_structures_of_files_are_parents(config, tmp_path):
    own = bulk("Al", "fcc", a=4.1, cubic=True)
    own.calc = SinglePointCalculator(own, energy=-99.0)
    write(tmp_path / "own.xyz", [own, bulk("Au", "fcc", a=4.1)], format="extxyz")
    family = {"structures": FamilyConfig(volumes=(1.0,))}
    settings = dataclasses.replace(config, family=family, structures=(str(tmp_path / "own.xyz"),))
    found = parents(settings)
    assert [(one.name, len(one.atoms)) for one in found] == [("structure-0", 4), ("structure-1", 1)]
    distill(settings, tmp_path / "out", EMT)
    frame = read(tmp_path / "out" / "parents" / "structure-0.xyz")
    assert frame.cell.array == pytest.approx(own.cell.array)
    own.calc = EMT()
    assert frame.info[ENERGY] == pytest.approx(own.get_potential_energy(), abs=1e-9)
    write(tmp_path / "own.xyz", bulk("Au", "fcc", a=4.2), format="extxyz")
    with pytest.raises(DataError, match="holds frames of another recipe"):
        distill(settings, tmp_path / "out", EMT)


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (bulk("Cu"), "Structure 0 holds Cu"),
        (Atoms("Al"), "Structure 0 has no cell"),
        (bulk("MoO", "rocksalt", a=4.3), "Structure 0 is one that teachers learnt with GGA"),
    ],
)
def test_structures_that_cannot_be_used_are_named(config, tmp_path, atoms, message):
    write(tmp_path / "own.xyz", atoms, format="extxyz")
    family = {"structures": FamilyConfig(frames=1)}
    files = (str(tmp_path / "own.xyz"),)
    wrong = dataclasses.replace(config, elements=("Al", "Mo", "O"), family=family, structures=files)
    with pytest.raises(CardError, match=message):
        parents(wrong)


def test_dynamics_have_a_group_and_a_file_of_their_own(config, tmp_path):
    found = distill(dataclasses.replace(config, dynamics=(RUN,)), tmp_path, EMT)
    frames = [f for frames in found.splits.values() for f in frames if f.info[CONFIG_TYPE] == "elements-md"]
    assert len(frames) == 2 * 2  # two metals, two frames each
    assert {len(frame) for frame in frames} == {8}
    assert (tmp_path / "parents" / "md0-fcc-Al.xyz").is_file()


def test_a_driver_moves_the_atoms_and_the_teacher_labels_them(config, tmp_path):
    longer = dataclasses.replace(RUN, steps=40, every=40)
    driven = dataclasses.replace(config, dynamics=(dataclasses.replace(longer, driver="ideal-gas"),))
    distill(driven, tmp_path / "driven", EMT, make_driver={"ideal-gas": IdealGas()}.__getitem__)
    distill(dataclasses.replace(config, dynamics=(longer,)), tmp_path / "own", EMT)
    frame, own = (read(tmp_path / name / "parents" / "md0-fcc-Al.xyz", "-1") for name in ("driven", "own"))
    assert np.abs(frame.positions - own.positions).max() > 0.01
    bare = frame.copy()
    bare.calc = EMT()
    assert frame.info[ENERGY] == pytest.approx(bare.get_potential_energy(), abs=1e-9)


def test_a_driver_that_cannot_be_had_is_refused_before_any_work(config, tmp_path):
    driven = dataclasses.replace(config, dynamics=(dataclasses.replace(RUN, driver="ideal-gas"),))
    with pytest.raises(CardError, match='driven by "ideal-gas"'):
        distill(driven, tmp_path / "out", EMT)
    assert not (tmp_path / "out").exists()


def test_dynamics_of_an_unknown_parent_are_refused_before_any_work(config, tmp_path):
    wrong = dataclasses.replace(config, dynamics=(dataclasses.replace(RUN, parents=("fcc-Al", "fcc-Xy")),))
    with pytest.raises(CardError, match='asked for of "fcc-Xy"'):
        distill(wrong, tmp_path / "out", EMT)
    assert not (tmp_path / "out").exists()


def test_parents_hold_the_recipes_elements_and_have_unique_names(config):
    found = parents(config)
    assert {symbol for parent in found for symbol in parent.atoms.get_chemical_symbols()} == {"Al", "Au"}
    assert len({parent.name for parent in found}) == len(found)


def test_families_are_cut_at_their_largest_number(config):
    few = dataclasses.replace(config, family={"elements": FamilyConfig(frames=1, most_parents=3)})
    assert [parent.name for parent in parents(few)] == [parent.name for parent in parents(config)][:3]


def test_structures_that_need_plus_u_are_left_out(config):
    oxides = dataclasses.replace(config, elements=("Mo", "O", "S"))
    found = {frozenset(parent.atoms.get_chemical_symbols()) for parent in parents(oxides)}
    assert frozenset(("Mo", "S")) in found
    assert frozenset(("Mo", "O")) not in found


def test_real_frames_are_of_the_elements_and_of_no_plus_u(config, monkeypatch):
    def frame(formula):
        atoms = Atoms(formula, cell=np.eye(3) * 9, pbc=True, positions=np.arange(6).reshape(2, 3))
        return labelled(atoms, energy=-1.0, forces=np.zeros((2, 3)), stress=None, config_type="old")

    monkeypatch.setattr(distilling, "load_frames", lambda *_names, **_mirror: [frame(f) for f in ("AuO", "MoO", "AuN")])
    mixed = dataclasses.replace(config, elements=("Au", "Mo", "O"), real=("public:all",))
    assert [(str(f.symbols), f.info[CONFIG_TYPE]) for f in real_frames(mixed)] == [("AuO", "dft-public")]
