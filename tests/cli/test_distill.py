"""``mfb distill``, with EMT as the teacher."""

from __future__ import annotations

import json
import sys
import types

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read
from typer.testing import CliRunner

from mace_ft_bench.cli.main import app
from mace_ft_bench.datasets.frames import labelled
from mace_ft_bench.errors import DataError
from mace_ft_bench.learning import distill as distilling
from mace_ft_bench.zoo import registry
from mace_ft_bench.zoo.card import ModelCard

RECIPE = """
teacher = "emt"
elements = ["Al", "Au"]
energies = "as-they-are"
valid_fraction = 0.2
test_fraction = 0.3

[family.elements]
volumes = [0.9, 1.1]
frames = 1
least_atoms = 4

[[dynamics]]
parents = ["fcc-*"]
temperatures_k = [300]
steps = 4
every = 2
"""
REAL = 'real = ["public:all"]\n'


@pytest.fixture(autouse=True)
def emt(monkeypatch, tmp_path):
    """Offer a model ``emt``; it is labelled with itself less a tenth of an electronvolt per atom."""
    module = types.ModuleType("fake_teacher")
    module.build = lambda *_arguments: EMT()
    monkeypatch.setitem(sys.modules, "fake_teacher", module)
    card = ModelCard("emt", "factory", "EMT", ("Al", "Au"), "EMT", "none", "MIT", "c", factory="fake_teacher:build")
    embedded = registry._embedded
    monkeypatch.setattr(registry, "_embedded", lambda: [*(other for other in embedded() if other.name != "emt"), card])
    monkeypatch.setattr(distilling, "load_frames", lambda *_names, **_mirror: [real_frame()])
    monkeypatch.chdir(tmp_path)


def real_frame():
    atoms = bulk("Al", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = EMT()
    energy = atoms.get_potential_energy() - 0.1 * len(atoms)
    return labelled(atoms, energy=energy, forces=atoms.get_forces(), stress=atoms.get_stress(), config_type="")


def invoke(tmp_path, *options, recipe=RECIPE):
    path = tmp_path / "tiny.distill.toml"
    path.write_text(recipe, encoding="utf-8")
    arguments = ["distill", str(path), "--out", str(tmp_path / "out"), *options]
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})


def test_frames_a_table_and_a_figure(tmp_path):
    result = invoke(tmp_path)
    assert result.exit_code == 0, result.output
    assert "elements-md" in result.output
    assert "real frames" not in result.output
    frames = [f for name in ("train", "valid", "test") for f in read(tmp_path / "out" / f"{name}.xyz", ":")]
    assert len(frames) == 2 * 5 * 3 + 2 * 2
    assert (tmp_path / "out" / "overview.png").stat().st_size > 10_000


def test_the_teacher_is_compared_with_real_frames(tmp_path):
    result = invoke(tmp_path, recipe=REAL + RECIPE)
    assert result.exit_code == 0, result.output
    assert "energies differ by 100 meV/atom in the mean" in result.output
    assert "dft-public" in result.output


def test_json_holds_it_all(tmp_path):
    plain = json.loads(invoke(tmp_path, "--json", recipe=REAL + RECIPE).stdout)
    assert sum(plain["frames"].values()) == 35
    assert plain["real"]["per_element_ev"] == {"Al": pytest.approx(0.1)}
    assert [one["family"] for one in plain["families"]] == ["dft-public", "elements", "elements-md"]
    assert plain["violent"] == {"elements": 0, "elements-md": 0}


def test_dynamics_that_explode_are_told(tmp_path):
    result = invoke(tmp_path, recipe=RECIPE.replace("[300]", "[1000000]").replace("steps = 4", "steps = 40"))
    assert result.exit_code == 0, result.output
    assert "ended early: 2 of elements-md" in result.output


def test_the_comparison_can_be_left_out(tmp_path):
    plain = json.loads(invoke(tmp_path, "--json", "--no-check", recipe=REAL + RECIPE).stdout)
    assert plain["real"] is None


def test_another_recipe_in_the_folder_is_refused(tmp_path):
    assert invoke(tmp_path).exit_code == 0
    result = invoke(tmp_path, recipe=RECIPE.replace("steps = 4", "steps = 6"))
    assert isinstance(result.exception, DataError)
    assert "another recipe" in result.exception.message


def test_a_missing_recipe_is_a_wrong_argument(tmp_path):
    result = CliRunner().invoke(app, ["distill", "none.toml", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "does not exist" in result.output
