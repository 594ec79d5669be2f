"""A starting recipe parses, fits the frames, and earns no warning."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mace_ft_bench.datasets.frames import labelled, write_extxyz
from mace_ft_bench.errors import DataError, UnknownNameError, UnsupportedElementError
from mace_ft_bench.finetune.advice import advise
from mace_ft_bench.finetune.config import FinetuneConfig, load_recipe
from mace_ft_bench.finetune.frames_summary import summarise_frames
from mace_ft_bench.finetune.starting_recipe import Start, choose_sources, starting_recipe, write_starting_recipe
from mace_ft_bench.toml_schema import parse

from .test_advice import FRAMES

START = Start("mine", ("a.xyz",), ("b:test",), "mo-ft", "", 5.6, {"Cu": -1.0, "Mo": -2.0, "Si": -3.0})


def silicon(seed, config_type="rattled", *, stress=True, size=1):
    atoms = bulk("Si", cubic=True) * size
    generator = np.random.default_rng(seed)
    atoms.rattle(0.05, rng=generator)
    return labelled(
        atoms,
        energy=-5.4 * len(atoms) + generator.normal(),
        forces=generator.normal(size=(len(atoms), 3)),
        stress=generator.normal(size=6) * 0.01 if stress else None,
        config_type=config_type,
    )


def recipe_for(summary, start=START):
    return parse(tomllib.loads(starting_recipe(start, summary)), FinetuneConfig, where="mine.toml")


@pytest.mark.parametrize("frames", [10, 40, 150, 400, 5000])
@pytest.mark.parametrize("atoms", [1, 32, 400, 3000])
@pytest.mark.parametrize("stress", [0, 1])
@pytest.mark.parametrize("in_time", [{}, {"hot": 200}])
def test_starting_recipes_earn_no_warning(frames, atoms, stress, in_time):
    labels = {"REF_energy": frames, "REF_forces": frames, "REF_stress": frames * stress}
    summary = replace(FRAMES, frames=frames, median_atoms=atoms, labels=labels, in_time=in_time)
    recipe = recipe_for(summary)
    assert [text for text in advise(recipe, summary) if "validate" not in text] == []  # of ten frames few validate
    assert bool(recipe.weights.stress) == bool(stress)
    assert recipe.optimiser.batch_size * atoms <= max(1000, atoms)
    assert recipe.data.split_by == ("block" if in_time else "frame")
    assert recipe.data.exclude == ("b:test",)


def test_e0s_follow_the_frames():
    assert recipe_for(FRAMES).e0s.policy == "least-squares"
    assert recipe_for(replace(FRAMES, isolated=("Cu",))).e0s.policy == "isolated-atoms"
    partial = replace(FRAMES, elements=("Cu", "Mo"), isolated=("Cu",))
    assert recipe_for(partial).e0s.policy == "least-squares"
    assert "1 independent compositions for 2 elements" in starting_recipe(START, partial)


def test_large_energies_take_double_precision():
    assert recipe_for(FRAMES).dtype == "float32"
    assert recipe_for(replace(FRAMES, largest_energy_ev_per_atom=13000.0)).dtype == "float64"


def test_names_that_toml_would_stumble_over():
    start = replace(START, sources=('my "best" frames.xyz',), parent_head="pbe")
    recipe = recipe_for(replace(FRAMES, groups={"slab/fcc 111": 400, "": 3}), start)
    assert recipe.data.sources == ('my "best" frames.xyz',)
    assert recipe.strategy.parent_head == "pbe"
    assert '# "slab/fcc 111" = 1.0' in starting_recipe(start, replace(FRAMES, groups={"slab/fcc 111": 400}))


def test_what_cannot_be_trained_on():
    with pytest.raises(DataError, match="hold 400 frames, 0 with REF_energy"):
        starting_recipe(START, replace(FRAMES, labels=dict.fromkeys(FRAMES.labels, 0)))
    with pytest.raises(UnsupportedElementError, match="have Xe, which mo-ft does not know"):
        starting_recipe(START, replace(FRAMES, elements=("Cu", "Xe")))


def test_datasets_keep_their_test_split():
    assert choose_sources(["mlearn-mo", "mine.xyz", "snap-mo:all"]) == (
        ("mlearn-mo:train", "mine.xyz", "snap-mo:all"),
        ("mlearn-mo:test",),
    )
    with pytest.raises(UnknownNameError, match='did you mean "mlearn-mo"'):
        choose_sources(["mlearn-mu"])


def test_frames_are_counted():
    atom = labelled(
        Atoms("Si", cell=[12] * 3, pbc=True), energy=-0.8, forces=np.zeros((1, 3)), stress=None, config_type="isolated"
    )
    frames = [silicon(seed) for seed in range(5)] + [silicon(9, "large", stress=False, size=(2, 1, 1)), atom]
    summary = summarise_frames(frames)
    assert summary.frames == 6
    assert summary.median_atoms == 8
    assert summary.groups == {"large": 1, "rattled": 5}
    assert summary.labels == {"REF_energy": 6, "REF_forces": 6, "REF_stress": 5}
    assert summary.isolated == summary.elements == ("Si",)
    assert summary.independent_compositions == 1
    assert 4 < summary.largest_energy_ev_per_atom < 7
    assert summarise_frames([]).frames == 0


def test_weights_in_comment_lines_are_counted():
    frames = [silicon(seed) for seed in range(3)]
    frames[0].info["config_weight"] = 0.5
    frames[1].info["config_weight"] = 1.0
    frames[2].info["config_forces_weight"] = 0.0
    assert summarise_frames(frames).weighted == {"config_forces_weight": 1, "config_weight": 1}


def test_order_in_time_is_told_from_the_distances():
    generator = np.random.default_rng(0)
    away = np.zeros((8, 3))
    walk = []
    for seed in range(60):
        away = 0.97 * away + generator.normal(scale=0.02, size=(8, 3))
        frame = silicon(seed, "md")
        frame.positions = bulk("Si", cubic=True).positions + away
        walk.append(frame)
    assert summarise_frames(walk).in_time == {"md": 60}
    assert summarise_frames([walk[index] for index in generator.permutation(60)]).in_time == {}
    assert summarise_frames([silicon(seed) for seed in range(30)]).in_time == {}


def test_a_written_recipe_loads(tmp_path, tiny_file):
    write_extxyz([silicon(seed) for seed in range(100)], tmp_path / "mine.xyz")
    out = tmp_path / "my-si.toml"
    assert write_starting_recipe(out, [str(tmp_path / "mine.xyz")], (str(tiny_file), "")) == []
    recipe = load_recipe(out)
    assert recipe.name == "my-si"
    assert recipe.strategy.parent == str(tiny_file)
    assert "cutoff 4.5 Å" in out.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
