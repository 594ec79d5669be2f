"""A finished run beside its parent: the right frames, the right zero of energy, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.datasets.frames import write_extxyz
from mace_ft_bench.errors import DataError, TrainingError
from mace_ft_bench.finetune import compared_models
from mace_ft_bench.finetune.compared_models import ComparedModel, fine_tuned_model
from mace_ft_bench.finetune.export import export
from mace_ft_bench.finetune.finished_run import read_run
from mace_ft_bench.finetune.forgetting import forgetting_entry
from mace_ft_bench.finetune.initial import HEAD, PARENT_HEAD, derived_model, e0s_of
from mace_ft_bench.finetune.train import train
from mace_ft_bench.finetune.validate import Options, validate
from mace_ft_bench.finetune.validation_split import Split, new_split, split_entry
from mace_ft_bench.properties.base import Evaluation
from mace_ft_bench.zoo.checkpoint import save_checkpoint

from .conftest import copper
from .fabricated_run import E0S, HISTORY, cut, lines_of, metal, tiny_parent, write_run


@pytest.fixture(scope="module")
def parent():
    return tiny_parent()


@pytest.fixture(scope="module")
def made(parent, tmp_path_factory):
    """Return a run whose model is the parent, with other E0s; nobody changes it."""
    return write_run(tmp_path_factory.mktemp("made") / "run", cut(parent, {"Cu": 7.0}), parent)


@pytest.fixture
def run(made, tmp_path):
    """Return a copy of that run, to be spoiled."""
    return shutil.copytree(made, tmp_path / "run")


ALONE = Options(parent="none")


@pytest.fixture(scope="module")
def untouched(made):
    """Return the validation of a model that is its parent."""
    fresh = made.parent / "test.xyz"
    repeated = metal(0, "hot")
    write_extxyz([metal(30), metal(31), repeated, metal(31), metal(32, symbol="Ag")], fresh)
    return validate(made, Options(tests=(str(fresh),)))


def errors(report, role, model="fine_tuned", group=None):
    split = next(split for split in report["splits"] if split["role"] == role)
    return next(row for row in split["errors"] if row["config_type"] == group)[model]


@pytest.fixture(scope="module")
def trained(parent, tmp_path_factory):
    """Return the history of a real run, and its validation."""
    from mace_ft_bench.finetune.config import FinetuneConfig
    from mace_ft_bench.toml_schema import parse

    from .conftest import TABLE, merged

    folder = tmp_path_factory.mktemp("trained")
    save_checkpoint(parent, folder / "parent.safetensors")
    write_extxyz([copper(seed) for seed in range(12)], folder / "frames.xyz")
    changes = {
        "data": {"sources": [str(folder / "frames.xyz")], "exclude": []},
        "strategy": {"kind": "full", "parent": str(folder / "parent.safetensors"), "architecture": None},
        "optimiser": {"max_epochs": 3},
        "dtype": "float64",
    }
    config = parse(merged(TABLE, changes), FinetuneConfig, where="recipe")
    found = train(config, folder / "run")
    export(config, found, folder / "run")
    return found.history, validate(folder / "run", Options()).report


def test_the_parent_is_where_the_run_began(trained):
    """E0s fitted on top of the parent's interaction energy are the parent with one shift per element."""
    history, report = trained
    assert history[0].epoch == -1
    found = errors(report, "valid", "parent")
    assert found["energy"]["rmse"] == pytest.approx(history[0].energy_rmse_mev_per_atom, rel=1e-9)
    assert found["forces"]["rmse"] == pytest.approx(history[0].force_rmse_mev_per_a, rel=1e-9)


def test_the_fine_tuned_model_is_that_of_the_best_epoch(trained):
    history, report = trained
    best = next(item for item in history if item.epoch == report["training"]["best_epoch"])
    assert best.epoch >= 0
    found = errors(report, "valid")  # radial tables of training are coarser than those of serving
    assert found["energy"]["rmse"] == pytest.approx(best.energy_rmse_mev_per_atom, rel=1e-6)
    assert found["forces"]["rmse"] == pytest.approx(best.force_rmse_mev_per_a, rel=1e-6)
    gap = report["gap"]["fine_tuned"]["forces"]
    assert gap == pytest.approx(found["forces"]["rmse"] / errors(report, "train")["forces"]["rmse"])


def test_an_untouched_parent_has_its_own_errors(untouched):
    report = untouched.report
    for role in ("train", "valid", "test"):
        mine, theirs = errors(report, role), errors(report, role, "parent")
        for name in ("energy_relative", "forces", "stress"):
            assert mine[name]["rmse"] == pytest.approx(theirs[name]["rmse"], rel=1e-9)
            assert errors(report, role, "change_percent")[name] == pytest.approx(0.0, abs=1e-6)
    assert report["parent"]["zero"].startswith("fitted to the training frames")
    # The shift moves 0.2 eV/atom onto the labels' zero; the model has E0s of 7 eV, which are errors of its own.
    assert errors(report, "train")["energy"]["rmse"] > 1000.0
    assert errors(report, "train", "parent")["energy"]["rmse"] < 500.0
    assert abs(report["parent"]["shift_ev"]["Cu"]) > 1e-3
    assert report["splits"][0]["parent_energy_unshifted"]["rmse"] > errors(report, "train", "parent")["energy"]["rmse"]


def test_frames_of_the_run_and_of_unknown_elements_are_left_out_and_counted(untouched):
    split = untouched.report["splits"][2]
    assert split["frames"] == 2
    assert split["left_out"] == {
        "repeats of frames of the run or of one another": 2,
        "elements that the fine-tuned model does not know": 1,
    }
    assert [row["config_type"] for row in untouched.report["splits"][0]["errors"]] == [None, "cold", "hot"]
    assert [row["frames"] for row in untouched.report["splits"][1]["errors"]] == [4, 2, 2]


@pytest.mark.usefixtures("untouched")  # writes the test frames
def test_a_model_has_the_same_errors_without_its_run(made):
    fresh, parent = made.parent / "test.xyz", made.parent / "parent.safetensors"
    found = validate(str(made / "mine.safetensors"), Options(tests=(str(fresh),), parent=str(parent))).report
    assert (found["recipe"], found["training"], found["gap"], found["card"]) == (None, None, None, {})
    assert found["splits"][0]["frames"] == 3, "without the run nothing is known of what it has seen"
    alone = validate(made, Options(tests=(str(fresh),))).report["splits"][2]
    few = metal(30), metal(31)
    write_extxyz(few, made.parent / "few.xyz")
    few = Options(tests=(str(made.parent / "few.xyz"),), parent=str(parent))
    again = validate(str(made / "mine.safetensors"), few).report
    assert again["splits"][0]["errors"][0]["fine_tuned"] == alone["errors"][0]["fine_tuned"]
    assert again["parent"]["zero"] == f"fitted to {made.parent / 'few.xyz'}, one shift per element"
    theirs = errors(again, "test", "parent")  # two frames, one shift: what is left is their difference
    assert theirs["energy"]["rmse"] == pytest.approx(theirs["energy_relative"]["rmse"], rel=1e-6)


def test_the_parent_of_a_card_is_compared(tmp_path):
    frame = bulk("Si", cubic=True)
    frame.info |= {"REF_energy": 0.0, "config_type": "crystal"}
    write_extxyz([frame], tmp_path / "test.xyz")
    report = validate("si-ft", Options(tests=(str(tmp_path / "test.xyz"),))).report
    assert report["parent"]["name"] == "mace-nano"
    assert report["card"]["strategy"] == "full"
    assert validate("mace-nano", Options(tests=(str(tmp_path / "test.xyz"),))).report["parent"] is None


def test_checksums_versions_and_samples(untouched, made):
    report, samples = untouched.report, untouched.samples
    assert report["model"]["sha256"] == sha256_of(made / "mine.safetensors")
    assert report["parent"]["sha256"] == sha256_of(made.parent / "parent.safetensors")
    assert report["splits"][0]["sha256"] == {"train.xyz": sha256_of(made / "train.xyz")}
    assert report["splits"][2]["sha256"] == {"test.xyz": sha256_of(made.parent / "test.xyz")}
    assert report["versions"]["mace-torch"]
    assert {name: values.shape for name, values in samples["train"].items()} == {
        "energy": (3, 8),
        "energy_relative": (3, 8),
        "forces": (3, 96),
        "stress": (3, 48),
    }
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_stages_and_their_best_epochs(untouched):
    training = untouched.report["training"]
    assert training["best_epochs"] == {"one": 0, "two": 4}
    assert (training["chosen"], training["best_epoch"]) == ("two", 4)
    assert [item["epoch"] for item in training["stages"]["two"]] == [3, 4]


def test_patience_may_have_ended_stage_one_early(parent, tmp_path):
    model = cut(parent, {"Cu": 0.0})
    patient = write_run(
        tmp_path / "run",
        model,
        parent,
        optimiser={"max_epochs": 50, "patience": 2},
        stage_two={"start_epoch": 40, "lr": 0.1, "weights": {"energy": 1, "forces": 1, "stress": 1}},
    )
    assert [item.epoch for item in read_run(patient).stages["two"]] == [3, 4]
    (patient / "state.pt").unlink()
    with pytest.raises(TrainingError, match="says when patience ended stage one"):
        read_run(patient)


def test_without_a_parent_there_is_nothing_to_compare(run):
    report = validate(run, ALONE).report
    assert report["parent"] is report["gap"]["parent"] is report["splits"][0]["change_interval_percent"] is None
    assert errors(report, "valid", "parent") is None
    with pytest.raises(TrainingError, match="Without a parent"):
        validate(run, Options(parent="none", forgetting=(str(run / "valid.xyz"),)))


def test_labels_of_the_parents_zero_need_no_shift(parent, tmp_path):
    same = write_run(tmp_path / "run", cut(parent, {"Cu": E0S["Cu"]}), parent, e0s={"policy": "parent"})
    report = validate(same, Options()).report
    assert report["parent"]["zero"] == "the parent's own"
    assert report["parent"]["shift_ev"] == {}
    mine, theirs = errors(report, "train"), errors(report, "train", "parent")
    assert mine["energy"]["rmse"] == pytest.approx(theirs["energy"]["rmse"], rel=1e-9)


def test_any_model_may_be_the_parent(run, monkeypatch):
    """EMT made the labels: it has no error, wherever its zero is."""
    mine = compared_models.get_calculator
    card = type("Card", (), {"elements": ("Cu", "Au")})
    monkeypatch.setattr(compared_models, "find_model", lambda _: card)
    monkeypatch.setattr(
        compared_models, "get_calculator", lambda name, **options: EMT() if name == "emt" else mine(name, **options)
    )
    report = validate(run, Options(parent="emt")).report
    for name, limit in (("energy", 1e-4), ("forces", 1e-4), ("stress", 1e-5)):
        assert errors(report, "valid", "parent")[name]["rmse"] < limit, "eight digits of the file"
    assert report["parent"]["sha256"] == ""
    assert report["parent"]["shift_ev"]["Cu"] == pytest.approx(0.0, abs=1e-6)
    monkeypatch.setattr(card, "elements", ("Au",))
    with pytest.raises(DataError, match="emt does not know Cu of the training frames"):
        validate(run, Options(parent="emt"))


def loaded(model, name):
    from mace_ft_bench.calculators.mace import MaceCalculator
    from mace_ft_bench.zoo.checkpoint import copy_model

    torch = pytest.importorskip("torch")
    calculator = MaceCalculator(copy_model(model), name=name, device="cpu", dtype=torch.float64)
    return ComparedModel(name, calculator, "", frozenset(e0s_of(model)), e0s_of(model))


@pytest.fixture
def domain(tmp_path):
    """Return frames of the parent's domain: copper, silver, and one that was trained on."""
    frames = [metal(seed, "new") for seed in range(40, 46)] + [metal(seed, symbol="Ag") for seed in range(46, 50)]
    write_extxyz([*frames, metal(0)], tmp_path / "domain.xyz")
    return new_split(str(tmp_path / "domain.xyz"), "forgetting", [metal(0)], None)


def test_an_untouched_model_has_forgotten_nothing(parent, domain):
    tuned = loaded(cut(parent, {"Cu": 7.0, "Ag": -3.0}), "mine")
    entry = forgetting_entry(domain, tuned, loaded(parent, "parent"))
    assert entry["frames"] == 10
    assert entry["left_out"] == {"repeats of frames of the run or of one another": 1}
    change = entry["errors"][0]["change_percent"]
    assert change == pytest.approx(dict.fromkeys(change, 0.0), abs=1e-6), "the new E0s are no error"
    assert entry["shift_ev"] == {"Cu": pytest.approx(-7.1), "Ag": pytest.approx(3.2)}
    assert entry["warnings"] == ["10 frames are too few to say what is forgotten; give 200 or more."]


def test_a_model_that_was_cut_has_lost_elements(parent, domain):
    entry = forgetting_entry(domain, loaded(cut(parent, {"Cu": 7.0}), "mine"), loaded(parent, "parent"))
    assert entry["frames"] == 6
    assert entry["left_out"]["elements that the fine-tuned model does not know"] == 4
    assert "knows 1 of the parent's 2 elements" in entry["warnings"][1]
    assert "keep_elements = true" in entry["warnings"][1]


def test_frames_of_lost_elements_only_are_reported_and_no_error(parent, domain, run):
    entry = forgetting_entry(domain, loaded(cut(parent, {"Ag": 7.0}), "mine"), loaded(parent, "parent"))
    assert (entry["frames"], len(entry["errors"])) == (4, 2)
    write_extxyz([metal(60, symbol="Ag")], run / "silver.xyz")
    (entry,) = validate(run, Options(forgetting=(str(run / "silver.xyz"),))).report["forgetting"]
    assert (entry["frames"], entry["errors"]) == (0, [])
    with pytest.raises(DataError, match="no frame to validate on: 1 .elements that the fine-tuned model"):
        validate(run, Options(parent="none", tests=(str(run / "silver.xyz"),)))


def test_what_replay_kept_is_asked_of_the_parents_head(parent, run):
    """Of two heads the new one has changed, and the parent's has not."""
    two = derived_model(parent, {PARENT_HEAD: E0S, HEAD: {symbol: value + 7.0 for symbol, value in E0S.items()}})
    two.scale_shift.scale[list(two.heads).index(HEAD)] *= 2.0
    save_checkpoint(two, run / "mine.safetensors")
    frames = str(run / "frames.xyz")
    write_extxyz([metal(seed) for seed in range(40, 46)], run / "frames.xyz")
    other = str(run / "other.xyz")
    write_extxyz([metal(seed) for seed in range(50, 56)], run / "other.xyz")
    options = Options(tests=(other,), forgetting=(frames,), parent=str(run.parent / "parent.safetensors"))
    save_checkpoint(parent, run.parent / "parent.safetensors")
    for target in (run, str(run / "mine.safetensors")):
        report = validate(target, options).report
        (entry,) = report["forgetting"]
        assert entry["head"] == PARENT_HEAD
        assert entry["shift_ev"] == {"Ag": 0.0, "Cu": 0.0}
        assert entry["errors"][0]["change_percent"]["forces"] == pytest.approx(0.0, abs=1e-9)
        assert (
            abs(errors(report, "test")["forces"]["rmse"] / errors(report, "test", "parent")["forces"]["rmse"] - 1)
            > 0.01
        )


def test_a_parent_without_e0s_gets_a_fitted_shift(parent, domain):
    tuned = loaded(cut(parent, {"Cu": 7.0, "Ag": -3.0}), "mine")
    emt = ComparedModel("emt", EMT(), "", frozenset({"Cu", "Ag"}), None)
    entry = forgetting_entry(domain, tuned, emt)
    assert entry["e0s"] == "a shift per element fitted to these frames"
    assert entry["errors"][0]["fine_tuned"]["energy"]["rmse"] < 500.0


def test_a_parent_without_stress_has_dashes_there(made):
    split = Split("valid", "valid", read_run(made).frames("valid"), {}, {})
    mine = [
        Evaluation(frame.info["REF_energy"], frame.arrays["REF_forces"], frame.info["REF_stress"])
        for frame in split.frames
    ]
    theirs = [replace(item, stress=None) for item in mine]
    entry, sample = split_entry(split, mine, theirs)
    assert entry["errors"][0]["parent"]["stress"] is entry["errors"][0]["change_percent"]["stress"] is None
    assert (sample["stress"].shape, sample["forces"].shape) == ((2, 24), (3, 48))


def spoiled(run, file, text):
    (run / file).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "run.json").unlink(), "is no run folder"),
        (lambda run: spoiled(run, "run.json", "{"), "run.json is damaged"),
        (lambda run: spoiled(run, "run.json", "[]"), "it holds no table"),
        (lambda run: spoiled(run, "run.json", '{"recipe": {"strategy": "scratch"}}'), "of an earlier version"),
        (lambda run: spoiled(run, "validation.json", '{"chosen": "stage three"}'), "names no stage of the history"),
        (lambda run: (run / "validation.json").unlink(), "has no exported model"),
        (lambda run: (run / "mine.safetensors").unlink(), "has no exported model"),
        (lambda run: (run / "history.jsonl").unlink(), "has no validated epoch"),
        (lambda run: (run / "train.xyz").write_text("", encoding="utf-8"), "is not the file that the run wrote"),
    ],
)
def test_folders_that_are_no_finished_run(run, spoil, message):
    spoil(run)
    with pytest.raises(TrainingError, match=message) as caught:
        validate(run, ALONE)
    assert caught.value.fix


def test_a_run_file_without_checksums(run):
    content = json.loads((run / "run.json").read_text(encoding="utf-8"))
    del content["parent_sha256"]
    spoiled(run, "run.json", json.dumps(content))
    with pytest.raises(TrainingError, match="has no parent_sha256"):
        read_run(run)


def test_a_parent_that_has_changed_is_not_compared_unasked(run):
    content = json.loads((run / "run.json").read_text(encoding="utf-8"))
    spoiled(run, "run.json", json.dumps(content | {"parent_sha256": "abc"}))
    with pytest.raises(TrainingError, match="is no longer the model that the run started from") as caught:
        validate(run, Options())
    assert "--parent" in caught.value.fix
    named = content["recipe"]["strategy"]["parent"]
    assert validate(run, Options(parent=named)).report["parent"]["name"] == named


def test_sources_are_named_once_and_must_be_there(run):
    twice = str(run / "valid.xyz")
    with pytest.raises(DataError, match="is named twice"):
        validate(run, Options(tests=(twice,), forgetting=(twice,)))
    with pytest.raises(DataError, match="does not exist"):
        validate(run, Options(parent="none", tests=(str(run / "nothing.xyz"),)))
    with pytest.raises(DataError, match="no frame to validate on: 4 .repeats of frames of the run"):
        validate(run, Options(parent="none", tests=(twice,)))


def test_isolated_atoms_are_energies_of_reference(parent, tmp_path):
    atom = metal(0)[:1]
    atom.info |= {"REF_energy": 0.0, "config_type": "isolated"}
    atom.set_cell([12.0] * 3)
    frames = {"train": [atom, *(metal(seed) for seed in range(4))], "valid": [metal(9), metal(10)]}
    run = write_run(tmp_path / "run", cut(parent, {"Cu": 0.0}), parent, frames)
    split = validate(run, ALONE).report["splits"][0]
    assert split["frames"] == 4
    assert split["left_out"] == {"isolated atoms, which are energies of reference": 1}


def test_history_lines_are_those_of_the_run(run):
    assert (run / "history.jsonl").read_text(encoding="utf-8") == lines_of(HISTORY)
    assert fine_tuned_model(read_run(run), device="cpu").e0s == {"Cu": 7.0}
