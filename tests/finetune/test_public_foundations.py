"""Every strategy from the files that users have: pickled models of 89 elements, with one head or two."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from ase.data import chemical_symbols
from typer.testing import CliRunner

from mace_ft_bench import get_calculator
from mace_ft_bench.calculators.mace import MaceCalculator
from mace_ft_bench.cli.main import app
from mace_ft_bench.datasets.frames import ENERGY, write_extxyz
from mace_ft_bench.errors import UnknownNameError, UntrustedFileError
from mace_ft_bench.finetune import train as training
from mace_ft_bench.finetune.config import PARTS, FinetuneConfig
from mace_ft_bench.finetune.export import export
from mace_ft_bench.finetune.graphs import to_graphs
from mace_ft_bench.finetune.initial import HEAD, PARENT_HEAD, derived_model, e0s_of, single_head
from mace_ft_bench.finetune.parent import load_parent
from mace_ft_bench.finetune.strategies import part_of
from mace_ft_bench.toml_schema import parse
from mace_ft_bench.zoo.card import load_card
from mace_ft_bench.zoo.checkpoint import copy_model, save_mace_model

from ..zoo.test_convert import aged
from .conftest import TABLE, merged
from .public_foundations import E0S, MP_0B3, SYMBOLS, TWO_HEADS, alloy, foundation, isolated, relabelled

if TYPE_CHECKING:
    from pathlib import Path

GIVEN = {"Al": -3.25, "Cu": -3.5}
ISOLATED = {"Al": 0.75, "Cu": 0.5}
HEADS = {"mp-0b3": "", "two-heads": "matpes_r2scan"}
FREEZE = {"kind": "freeze", "parts": ["embedding", "interaction-1"]}
LORA = {"kind": "lora", "rank": 2, "alpha": 4.0}
REPLAY = {"kind": "multihead-replay", "frames": 2}
KEEP = {"keep_elements": True}
RUNS = [
    ("mp-0b3", {"kind": "full"} | KEEP, "least-squares"),
    ("mp-0b3", FREEZE, "parent"),
    ("mp-0b3", LORA | KEEP, "isolated-atoms"),
    ("mp-0b3", REPLAY, "parent"),
    ("two-heads", {"kind": "full"}, "given"),
    ("two-heads", FREEZE | KEEP, "least-squares"),
    ("two-heads", LORA, "parent"),
    ("two-heads", REPLAY | KEEP, "least-squares"),
]


def named(value):
    return "-".join([value["kind"], *(["keep"] if "keep_elements" in value else [])]) if "kind" in value else None


@pytest.fixture(scope="session")
def foundations(tmp_path_factory):
    """Return the folder of the pickled models."""
    folder = tmp_path_factory.mktemp("foundations")
    for name, config in {"mp-0b3": MP_0B3, "two-heads": TWO_HEADS}.items():
        save_mace_model(foundation(config), folder / f"{name}.model")
    return folder


@dataclass(frozen=True)
class Run:
    """A run, and what it started from."""

    folder: Path
    parent: str
    strategy: dict[str, Any]
    policy: str
    trained: Any
    weights: Path
    start: Any
    """The parent as it was prepared."""
    graphs: dict[str, list[tuple[str, Any]]]
    """By the head that frames were meant for, the head each graph names, and the graph."""

    @property
    def model(self):
        return self.trained.models["one"]

    @property
    def own_head(self):
        """The model without the parent's head, which replay keeps."""
        return single_head(copy_model(self.model), HEAD, name="this run")

    @property
    def card(self):
        return load_card(self.weights.with_suffix(".toml"))


def recipe_of(file, folder, strategy, policy, head):
    """Return a recipe for alloys, whose files are written to the folder."""
    write_extxyz([alloy(seed) for seed in range(4)], folder / "frames.xyz")
    sources = [str(folder / "frames.xyz")]
    if policy == "isolated-atoms":
        write_extxyz([isolated(*item) for item in ISOLATED.items()], folder / "isolated.xyz")
        sources.append(str(folder / "isolated.xyz"))
    if strategy["kind"] == "multihead-replay":
        parents = get_calculator(file, head=head or None, device="cpu", trust=True)
        write_extxyz([relabelled(alloy(seed), parents) for seed in range(10, 13)], folder / "replay.xyz")
        strategy = strategy | {"replay": [str(folder / "replay.xyz")]}
    changes = {
        "data": {"sources": sources, "exclude": [], "valid_fraction": 0.25},
        "strategy": strategy | {"architecture": None, "parent": str(file), "parent_head": head},
        "e0s": {"policy": policy} | ({"values_ev": GIVEN} if policy == "given" else {}),
        "optimiser": {"max_epochs": 2, "batch_size": 2, "lr": 0.003, "ema_decay": 0.5},
    }
    return parse(merged(TABLE, changes), FinetuneConfig, where="recipe.toml")


@pytest.fixture(scope="module", params=RUNS, ids=lambda run: "-".join([run[0], named(run[1]), run[2]]))
def run(request, foundations, tmp_path_factory):
    """Train and export as `mfb finetune` does, and note which frames go to which head."""
    name, strategy, policy = request.param
    file, folder, head = foundations / f"{name}.model", tmp_path_factory.mktemp("run"), HEADS[name]
    graphs: dict[str, list[tuple[str, Any]]] = {}

    def noted(frames, model, *, head, **options):
        made = to_graphs(frames, model, head=head, **options)
        graphs.setdefault(head, []).extend((list(model.heads)[int(graph.head)], graph) for graph in made)
        return made

    config = recipe_of(file, folder, strategy, policy, head)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "to_graphs", noted)
        trained = training.train(config, folder / "run", trust=True)
    exported = export(config, trained, folder / "run")
    parent = load_parent(str(file), head, dtype=torch.float32, trust=True)
    start = derived_model(parent.model, {HEAD: trained.e0s})
    return Run(folder / "run", name, strategy, policy, trained, exported.weights, start, graphs)


def evaluated(calculator, frame):
    found = calculator.evaluate([frame])[0]
    return found["energy"], found["forces"], found["stress"]


def served(model):
    return MaceCalculator(copy_model(model), name="m", device="cpu", dtype=torch.float64)


def test_training_runs_and_the_export_is_what_was_trained(run):
    assert all(np.isfinite(errors.loss) for errors in run.trained.history)
    assert run.trained.best_epochs["one"] >= 0, "no epoch was better: nothing would be tested"
    assert list(run.model.heads) == ([PARENT_HEAD, HEAD] if run.strategy["kind"] == "multihead-replay" else [HEAD])
    exported, trained = get_calculator(run.weights, device="cpu"), served(run.model)
    for first, second in zip(evaluated(exported, alloy(7)), evaluated(trained, alloy(7)), strict=True):
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-10)


def test_elements_are_cut_or_kept(run):
    wanted = SYMBOLS if run.strategy.get("keep_elements") else ("Al", "Cu")
    assert [chemical_symbols[z] for z in run.model.atomic_numbers.tolist()] == list(wanted)
    assert run.card.elements == wanted
    assert run.card.training.strategy == run.strategy["kind"]
    assert run.card.parent.endswith(f"{run.parent}.model")


def test_e0s_are_those_of_the_policy_and_of_the_head(run):
    parents = E0S[HEADS[run.parent] or "default"]
    found = e0s_of(run.own_head)
    assert found == pytest.approx(run.card.e0s_ev, rel=1e-6)
    assert {symbol: found[symbol] for symbol in set(found) - {"Al", "Cu"}} == pytest.approx(
        {symbol: parents[symbol] for symbol in set(found) - {"Al", "Cu"}}, rel=1e-6
    )
    own = {symbol: found[symbol] for symbol in ("Al", "Cu")}
    if run.policy != "least-squares":
        known = {"parent": parents, "given": GIVEN, "isolated-atoms": ISOLATED}[run.policy]
        assert own == pytest.approx({symbol: known[symbol] for symbol in own}, rel=1e-6)
        return
    calculator = served(run.start)  # has the fitted E0s: what it misses is orthogonal to both compositions
    missed = [(frame.info[ENERGY] - evaluated(calculator, frame)[0]) / 4 for frame in run.trained.frames.training]
    shares = [[frame.symbols.count(symbol) / 4 for symbol in own] for frame in run.trained.frames.training]
    np.testing.assert_allclose(np.array(missed) @ np.array(shares), 0.0, atol=1e-4)


def test_only_what_the_strategy_trains_has_changed(run):
    before, after = (dict(model.named_parameters()) for model in (run.start, run.own_head))
    assert {name for name in before if part_of(name)} == {name for name in after if part_of(name)}
    moved = {name: float((after[name] - before[name]).detach().abs().max()) for name in before.keys() & after.keys()}
    frozen = set(run.strategy.get("parts", ["embedding"] if run.strategy["kind"] == "lora" else []))
    assert {part_of(name) for name, change in moved.items() if change > 1e-5} == set(PARTS) - frozen
    still = {name for name in moved if part_of(name) in {None, *frozen}}
    if run.strategy["kind"] == "lora":
        still |= {name for name in moved if ".symmetric_contractions." in name}
    assert {moved[name] for name in still} <= {0.0}
    counted = json.loads((run.folder / "effective.json").read_text(encoding="utf-8"))["trained_parameters"]
    assert {part for part, count in counted.items() if count == 0} == frozen


def test_low_rank_updates_are_of_low_rank(run):
    if run.strategy["kind"] != "lora":
        pytest.skip("no low-rank updates")
    before, after = (model.products[0].linear.weight.detach().reshape(-1, 16, 16) for model in (run.start, run.model))
    for change in (after - before).double():
        values = torch.linalg.svdvals(change)
        assert values[1] > 1e-7
        assert values[2] < 1e-3 * values[0]


def test_elements_without_frames_keep_their_own_weights(run):
    if not run.strategy.get("keep_elements"):
        pytest.skip("no such elements")
    unseen = [index for index, symbol in enumerate(SYMBOLS) if symbol not in {"Al", "Cu"}]
    before, after = (own_weights(model) for model in (run.start, run.model))
    assert before
    for name, weights in before.items():
        assert torch.equal(weights[unseen], after[name][unseen]), name


def own_weights(model):
    """Return the weights that have a row for every element."""
    found = {}
    for name, parameter in model.named_parameters():
        if "embedding" in name and "radial" not in name:
            found[name] = parameter.detach().reshape(len(SYMBOLS), -1)
        elif ".symmetric_contractions." in name and len(parameter) == len(SYMBOLS):
            found[name] = parameter.detach()
    return found


def test_frames_train_the_head_they_are_for(run):
    replayed = run.strategy["kind"] == "multihead-replay"
    assert set(run.graphs) == ({HEAD, PARENT_HEAD} if replayed else {HEAD})
    for wanted, made in run.graphs.items():
        assert {head for head, _ in made} == {wanted}
    own = [frame.info[ENERGY] for frame in [*run.trained.frames.training, *run.trained.frames.validation]]
    assert [float(graph.energy) for _, graph in run.graphs[HEAD]] == pytest.approx(own, rel=1e-6)
    if replayed:
        parents = [frame.info[ENERGY] for frame in run.trained.frames.replay]
        assert len(parents) == 2
        assert [float(graph.energy) for _, graph in run.graphs[PARENT_HEAD]] == pytest.approx(parents, rel=1e-6)


@pytest.mark.parametrize(("name", "head"), [("mp-0b3", ""), ("two-heads", "omat_pbe")])
def test_a_parent_cut_to_two_elements_is_the_head_asked_for(foundations, name, head):
    file = foundations / f"{name}.model"
    parent = load_parent(str(file), head, dtype=torch.float64, trust=True)
    assert parent.e0s == pytest.approx(E0S[head or "default"], rel=1e-6)
    cut = derived_model(parent.model, {HEAD: {symbol: parent.e0s[symbol] for symbol in ("Al", "Cu")}})
    original = get_calculator(file, head=head or None, device="cpu", trust=True, accelerate="off")
    for found, wanted in zip(evaluated(served(cut), alloy(3)), evaluated(original, alloy(3)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)
        assert np.abs(wanted).max() > 1e-5


def test_a_pickle_needs_trust(foundations, tmp_path):
    config = recipe_of(foundations / "mp-0b3.model", tmp_path, {"kind": "full"}, "parent", "")
    with pytest.raises(UntrustedFileError, match=r"mp-0b3\.model is a pickle") as caught:
        training.train(config, tmp_path / "run")
    assert "--trust" in caught.value.fix
    assert not (tmp_path / "run" / "run.json").exists()


def test_heads_are_chosen_never_guessed(foundations, tmp_path):
    for head, message, fix in (
        ("", r"two-heads\.model has several heads", "parent_head to one of omat_pbe, matpes_r2scan"),
        ("matpes_r2scam", r'two-heads\.model has no head "matpes_r2scam"', "matpes_r2scan"),
    ):
        config = recipe_of(foundations / "two-heads.model", tmp_path, {"kind": "full"}, "parent", head)
        with pytest.raises(UnknownNameError, match=message) as caught:
            training.train(config, tmp_path / "run", trust=True)
        assert re.search(fix, caught.value.fix)
    config = recipe_of(foundations / "mp-0b3.model", tmp_path, {"kind": "full"}, "parent", "matpes_r2scan")
    with pytest.raises(UnknownNameError, match=r'mp-0b3\.model has no head "matpes_r2scan"'):
        training.train(config, tmp_path / "run", trust=True)


@pytest.mark.parametrize("strategy", [{"kind": "full"}, REPLAY | {"selection": "farthest-point"}], ids=named)
def test_models_of_before_there_were_heads(tmp_path, strategy):
    """MACE-MP-0a was pickled by a mace-torch whose models had neither heads nor other options of today."""
    save_mace_model(aged(foundation({**MP_0B3, "use_reduced_cg": False})), tmp_path / "old.model")
    config = recipe_of(tmp_path / "old.model", tmp_path, strategy, "parent", "")
    trained = training.train(config, tmp_path / "run", trust=True)
    assert trained.e0s == pytest.approx({symbol: E0S["default"][symbol] for symbol in ("Al", "Cu")}, rel=1e-6)
    weights = export(config, trained, tmp_path / "run").weights
    first, second = (
        evaluated(get_calculator(weights, device="cpu"), alloy(7)),
        evaluated(served(trained.models["one"]), alloy(7)),
    )
    np.testing.assert_allclose(first[1], second[1], rtol=0, atol=1e-10)


RECIPE = """
name = "own"
[data]
sources = ["frames.xyz"]
valid_fraction = 0.25
[strategy]
kind = "full"
parent = "{parent}"
parent_head = "omat_pbe"
[e0s]
policy = "parent"
[weights]
energy = 10.0
forces = 10.0
stress = 10.0
[optimiser]
max_epochs = 1
batch_size = 2
"""


def test_the_command_line_passes_trust_on(foundations, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_extxyz([alloy(seed) for seed in range(4)], tmp_path / "frames.xyz")
    (tmp_path / "own.toml").write_text(RECIPE.format(parent=foundations / "two-heads.model"), encoding="utf-8")
    refused = CliRunner().invoke(app, ["finetune", "own.toml"])
    assert isinstance(refused.exception, UntrustedFileError)
    trained = CliRunner().invoke(app, ["finetune", "own.toml", "--trust"])
    assert trained.exit_code == 0, trained.output
    card = load_card(tmp_path / "runs" / "own" / "own.toml")
    assert card.e0s_ev == pytest.approx({symbol: E0S["omat_pbe"][symbol] for symbol in ("Al", "Cu")}, rel=1e-6)
