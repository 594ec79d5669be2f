"""The page of a validation, from fabricated numbers: what it says, what it draws, what it refuses to overwrite."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from mace_ft_bench.errors import DataError
from mace_ft_bench.leaderboard import validation_figures as figures
from mace_ft_bench.leaderboard import validation_page
from mace_ft_bench.leaderboard import validation_wording as words
from mace_ft_bench.leaderboard.validation_page import to_html, to_markdown, write_validation

QUANTITIES = ("energy", "energy_relative", "forces", "stress")
NASTY = "<script>alert(1)</script> & $x$ | _b_"


def errors(rmse, frames=20):
    return {"rmse": rmse, "mae": 0.8 * rmse, "relative_percent": 5.0, "frames": frames}


def row(mine, theirs, name=None, frames=20):
    change = theirs and {key: 100 * (mine[key] / theirs[key] - 1) for key in QUANTITIES}
    return {
        "config_type": name,
        "frames": frames,
        "fine_tuned": {key: errors(mine[key], frames) for key in QUANTITIES},
        "parent": theirs and {key: errors(theirs[key], frames) for key in QUANTITIES},
        "change_percent": change,
    }


def entry(name, role, mine, theirs, interval=None, **more):
    scaled = {key: 0.5 * value for key, value in mine.items()}
    return {
        "name": name,
        "role": role,
        "frames": 20,
        "left_out": {},
        "sha256": {f"{name}.xyz": "ab" * 32},
        "errors": [row(mine, theirs), row(scaled, theirs, NASTY, 7)],
        "change_interval_percent": theirs and dict.fromkeys(QUANTITIES, interval),
        "parent_energy_unshifted": theirs and errors(123.0),
    } | more


MINE = {"energy": 2.0, "energy_relative": 1.5, "forces": 50.0, "stress": 0.1}
THEIRS = {"energy": 4.0, "energy_relative": 3.0, "forces": 100.0, "stress": 0.2}


def validation(mine=MINE, theirs=THEIRS, interval=(-60.0, -40.0), **more):
    """Return a fabricated report of a run with two stages."""
    epochs = [
        {"epoch": epoch, "loss": 1.0, "energy_rmse_mev_per_atom": 9.0 - epoch, "force_rmse_mev_per_a": 90.0}
        for epoch in (-1, 0, 2, 4)
    ]
    gap = dict.fromkeys(QUANTITIES, 1.2)
    interval = interval and list(interval)
    return {
        "made_by": "mfb validate",
        "name": NASTY,
        "recipe": {
            "name": "r",
            "strategy": {"kind": "full", "parent": "old", "parent_head": "", "keep_elements": True},
            "e0s": {"policy": "least-squares"},
            "data": {"sources": ["a.xyz"]},
            "loss": "stress",
            "weights": {"energy": 1.0},
            "config_type_weights": {},
            "optimiser": {"max_epochs": 5, "batch_size": 2, "lr": 0.01},
            "stage_two": {"start_epoch": 2, "lr": 0.001, "weights": {"energy": 9.0}},
            "seed": 1,
            "dtype": "float32",
        },
        "model": {"name": "r", "file": "r.safetensors", "sha256": "cd" * 32, "dtype": "float64"},
        "parent": theirs and {"name": "models/old", "sha256": "", "zero": "fitted", "shift_ev": {"Cu": -0.25}},
        "training": {
            "stages": {
                stage: [item | {"stress_rmse_gpa": None} for item in part]
                for stage, part in (("one", epochs[:2]), ("two", epochs[2:]))
            },
            "best_epochs": {"one": 0, "two": 4},
            "chosen": "two",
            "best_epoch": 4,
        },
        "splits": [
            entry("train", "train", mine, theirs, interval),
            entry("valid", "valid", mine, theirs, interval),
            entry("new", "test", mine, theirs, interval, left_out={"repeats": 1}),
        ],
        "gap": {"fine_tuned": gap, "parent": theirs and gap},
        "forgetting": [],
        "versions": {"torch": "2"},
    } | more


@pytest.fixture
def samples():
    """Return labels, predictions of the model and of the parent by split and quantity."""
    generator = np.random.default_rng(0)
    labels = generator.normal(size=400)
    rows = np.array([labels, labels + 0.1 * generator.normal(size=400), labels + 0.3 * generator.normal(size=400)])
    return {name: dict.fromkeys(QUANTITIES, rows) for name in ("train", "valid", "new")}


def test_a_better_model():
    report = validation()
    assert words.headline(report).text == "This model is better than the parent (old) in energy, forces and stress."
    assert words.headline(report).kind == "better"
    energy, forces, stress = words.verdicts(report)
    assert energy.text.replace("\N{NO-BREAK SPACE}", " ") == (
        "Energy: 2.00 meV/atom (RMSE, 20 frames of new): better than the parent (4.00 meV/atom) by 50 %; "
        "95 % interval −60 % to −40 %."
    )
    assert "50.0 meV/Å" in forces.text
    assert "0.100 GPa" in stress.text
    assert words.warnings(report) == []


def test_a_worse_model_is_called_so():
    report = validation(THEIRS, MINE, (80.0, 120.0))
    said = words.headline(report)
    assert said.kind == "worse"
    assert "parent (old) is better in everything" in said.text
    assert {sentence.kind for sentence in words.verdicts(report)} == {"worse"}
    assert "this model worse by 100" in words.verdicts(report)[0].text


def test_mixed_and_unclear_models():
    report = validation()
    report["splits"][2]["change_interval_percent"] |= {"forces": [5.0, 9.0], "stress": [-3.0, 4.0]}
    said = words.headline(report)
    assert said.text == (
        "This model is better than the parent (old) in energy; worse in forces; not to be told from it in stress."
    )
    assert said.kind == "mixed"
    few = validation(interval=None)
    assert "show no difference from the parent (old) in energy, forces and stress" in words.headline(few).text
    assert words.verdicts(few)[0].text.endswith("That is too little to compare.")


@pytest.mark.parametrize(("kind", "word"), [("full", "parent"), ("scratch", "start")])
def test_a_run_that_never_beat_its_parent_says_it_first(kind, word):
    report = validation()
    report["training"] |= {"best_epoch": -1, "chosen": "one"}
    report["recipe"]["strategy"]["kind"] = kind
    assert words.headline(report).text.startswith(f"This run never beat its {word}: no epoch")
    assert words.headline(report).kind == "worse"
    report["gap"]["fine_tuned"] = dict.fromkeys(QUANTITIES, 9.0)
    assert words.gap_sentence(report).kind == "plain", "weights that were not trained do not overfit"


def test_overfitting_is_a_gap_beyond_the_parents():
    report = validation()
    assert words.gap_sentence(report).text.endswith("No sign of overfitting.")
    report["gap"]["fine_tuned"] = {"energy": 1.0, "energy_relative": 1.0, "forces": 2.0, "stress": 2.0}
    report["gap"]["parent"] = {"energy": 1.0, "energy_relative": 1.0, "forces": 1.0, "stress": 1.9}
    assert words.gap_sentence(report).text.endswith("too closely in forces: overfitting.")
    for errors_of in report["splits"][1]["errors"][0]["fine_tuned"].values():
        errors_of["frames"] = 3
    assert "Too few validation frames" in words.gap_sentence(report).text
    report["gap"]["fine_tuned"] = dict.fromkeys(QUANTITIES)
    assert words.gap_sentence(report) is None


def test_warnings_come_with_the_verdict():
    report = validation(forgetting=[entry("old", "forgetting", MINE, THEIRS, warnings=["few frames"])])
    report["splits"].pop()
    report["training"]["best_epochs"]["one"] = -1
    found = words.warnings(report)
    assert "which chose the epoch" in found[0]
    assert found[1] == "Stage one never beat the start; its weights were not exported."
    assert found[2] == "Forgetting on old: few frames"


def test_the_zero_of_the_parent():
    report = validation()
    assert "Cu −0.2500" in words.zero_note(report)
    assert "Without it its energy RMSE on valid is 123 meV/atom" in words.zero_note(report)
    report["parent"]["shift_ev"] = {}
    assert words.zero_note(report).endswith("are compared as they are.")
    assert words.zero_note(validation(theirs=None)) == ""


def test_absent_labels_are_dashes_everywhere(samples):
    report = validation()
    for split in report["splits"]:
        for item in split["errors"]:
            for table in ("fine_tuned", "parent", "change_percent"):
                item[table]["stress"] = None
        split["change_interval_percent"]["stress"] = None
    report["gap"] = dict.fromkeys(report["gap"], report["gap"]["parent"] | {"stress": None})
    samples = {key: {} for key in samples} | {"train": {"forces": samples["train"]["forces"]}}
    stress = words.quantity_rows(report["splits"][0])[3]
    assert (stress.frames, *stress.mine, *stress.theirs, stress.change, stress.interval) == ("—",) * 9
    assert words.group_rows(report["splits"][0])[0].cells[3] == ("—", "", "")
    assert len(words.verdicts(report)) == 2
    page = to_html(report, samples)
    assert "stress component" not in page
    assert "| stress [GPa] | — |" in to_markdown(report)


def test_the_page_holds_every_part_and_escapes_names(samples):
    forgotten = entry(
        "old <i>", "forgetting", MINE, THEIRS, (-60.0, -40.0), warnings=["few"], e0s="the parent's", head="old <head>"
    )
    lost = {"name": "lost", "role": "forgetting", "frames": 0, "left_out": {"lost elements": 3}}
    lost |= {"errors": [], "sha256": {}, "warnings": []}
    page = to_html(validation(forgetting=[forgotten, lost]), samples)
    assert "<script" not in page
    assert "old &lt;i&gt;" in page
    assert page.count("<svg") == 1 + 3 * (3 + 3 + 1) + 1
    assert not re.search(r'(src|href)="(?!#)', page.replace("http://www.w3.org/2000/svg", "")), "loads nothing"
    assert "3 frames (lost elements)" in page
    assert "1 frame (repeats)" in page
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers)), "figures share identifiers"
    assert "var(--m1" in page
    assert "currentColor" in page


def test_a_run_without_a_parent_shows_one_model(samples):
    samples = {key: {} for key in samples} | {"train": {"forces": samples["train"]["forces"][:2]}}
    report = validation(theirs=None, interval=None)
    assert words.headline(report).text == "There is no parent to compare with."
    assert {sentence.kind for sentence in words.verdicts(report)} == {"plain"}
    page = to_html(report, samples)
    assert "95 % interval</th>" not in page
    assert 'class="key parent"' not in page


def test_a_model_without_its_run_shows_its_card(samples):
    report = validation(recipe=None, training=None, gap=None, card={"model": "small <b>", "licence": ""})
    report["splits"] = report["splits"][2:]
    page, text = to_html(report, samples), to_markdown(report)
    assert 'id="recipe">Model<' in page
    assert "small &lt;b&gt;" in page
    assert "Learning curve" not in page
    assert "| model | small <b> |" in text
    assert "licence" not in text
    assert words.gap_sentence(report) is None
    assert words.warnings(report) == []
    assert words.headline(report).kind == "better"


def test_every_figure_is_well_formed(samples):
    report = validation()
    sample = samples["train"]["forces"]
    few = sample[:, :1]
    drawn = [
        figures.learning_curve(report),
        figures.group_bars(report["splits"][0]),
        *(figures.parity("s", name, sample) for name in ("energy", "forces", "stress")),
        figures.parity("s", "energy", few),
        figures.histogram("s", "forces", sample),
        figures.histogram("s", "forces", np.zeros((3, 4))),
    ]
    for svg in drawn:
        assert ET.fromstring(svg).tag.endswith("svg")  # noqa: S314 - our own figure


def test_parity_colours_follow_the_density():
    """Nine points in one place and one elsewhere: two hexagons, the first in full colour."""
    labels = np.array([*[0.0] * 9, 1.0])
    svg = figures.parity("s", "stress", np.array([labels, labels]))
    opacity = [float(value) for value in re.findall(r"fill: var\(--m1, #0072b2\); (?:fill-)?opacity: ([\d.]+)", svg)]
    assert sorted(opacity) == pytest.approx([0.47], abs=0.01), svg[-3000:]


@pytest.fixture
def plain_page(monkeypatch):
    """Draw nothing: what is tested is the writing."""
    monkeypatch.setattr(validation_page, "to_html", lambda *_: "page")


@pytest.mark.usefixtures("plain_page")
def test_writing_replaces_its_own_files_only(samples, tmp_path):
    report = validation()
    page = write_validation(report, samples, tmp_path / "out")
    assert page == tmp_path / "out" / "validation.html"
    assert {path.name for path in page.parent.iterdir()} == {"validation.html", "validation.md", "validation.json"}
    stored = json.loads((tmp_path / "out" / "validation.json").read_text(encoding="utf-8"))
    assert stored["splits"] == report["splits"]
    assert stored["verdict"]["headline"].startswith("This model is better")
    write_validation(report, samples, tmp_path / "out")
    (tmp_path / "out" / "validation.json").write_text('{"chosen": "stage one"}', encoding="utf-8")
    with pytest.raises(DataError, match="was not made by `mfb validate`") as caught:
        write_validation(report, samples, tmp_path / "out")
    assert "--overwrite" in caught.value.fix
    write_validation(report, samples, tmp_path / "out", overwrite=True)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "validation.md").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match=r"validation\.md exists"):
        write_validation(report, samples, tmp_path / "foreign")
    (tmp_path / "foreign" / "run.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="is a run folder"):
        write_validation(report, samples, tmp_path / "foreign", overwrite=True)


def test_a_figure_that_fails_leaves_the_earlier_page(samples, tmp_path, monkeypatch):
    report = validation()
    page = tmp_path / "validation.html"
    page.write_text("earlier", encoding="utf-8")
    for name in ("validation.md", "validation.json"):
        (tmp_path / name).write_text('{"made_by": "mfb validate"}', encoding="utf-8")

    def broken(*_):
        raise ValueError("no figure")

    monkeypatch.setattr(figures, "learning_curve", broken)
    with pytest.raises(ValueError, match="no figure"):
        write_validation(report, samples, tmp_path)
    assert page.read_text(encoding="utf-8") == "earlier"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.usefixtures("plain_page")
def test_numbers_that_are_no_json_are_refused(samples, tmp_path):
    report = validation()
    report["splits"][0]["errors"][0]["fine_tuned"]["forces"]["rmse"] = float("nan")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_validation(report, samples, tmp_path / "out")
    assert not (tmp_path / "out").exists()
