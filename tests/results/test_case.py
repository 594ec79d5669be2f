"""Case cards: every one in the repository is sound, and every unsound one is refused with a fix."""

from __future__ import annotations

import dataclasses

import pytest

from mace_ft_bench import paths
from mace_ft_bench.datasets.card import find_dataset
from mace_ft_bench.errors import CardError, UnknownNameError
from mace_ft_bench.properties.base import all_properties, get_property
from mace_ft_bench.results.case import MODES, DatasetStructure, load_case, load_cases, mode_named, select_cases
from mace_ft_bench.toml_schema import parse

CASES = load_cases()
GOOD = """
title = "t"
property = "eos"
structure = { element = "Cu", lattice = "fcc", a = 3.6 }

[metrics.b0_percent]
label = "B0"
unit = "%"
tolerance = 10.0

[[references]]
label = "one"
kind = "dft"
level_of_theory = "PBE"
source = "s"
scored = true
values = { b0_gpa = 140 }

[[references]]
label = "two"
kind = "published_model"
level_of_theory = "PBE"
source = "s"
values = { b0_gpa = 141 }
"""


def write(folder, text):
    path = folder / "copper" / "eos.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_every_file_is_a_case():
    files = {
        path.relative_to(paths.reference_data()).with_suffix("").as_posix()
        for path in paths.reference_data().rglob("*.toml")
        if path.parts[-2] not in {"datasets", "structures", "timings"}
    }
    assert set(CASES) == files
    assert CASES


def as_fields(values, fields):
    """Return values of a reference by result field: ``thz_at_X`` is the entry X of the table ``thz_at``.

    ``fields`` maps names to annotations; only a dictionary has entries.
    """
    found = {}
    for name, value in values.items():
        tables = (field for field, kind in fields.items() if kind.startswith("dict") and name.startswith(f"{field}_"))
        table = next(tables, "")
        if name in fields or not table:
            found[name] = value
        else:
            found.setdefault(table, {})[name.removeprefix(f"{table}_")] = value
    return found


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.id)
def test_every_case_names_things_that_exist(case):
    item = all_properties()[case.property]
    for mode in case.runs_in:
        parse(case.in_mode(mode).settings, item.settings, where=case.id)
    data = case.frames or (case.structure if isinstance(case.structure, DatasetStructure) else None)
    if data:
        assert data.split in find_dataset(data.dataset).splits
    fields = {field.name: field.type for field in dataclasses.fields(item.result)}
    for reference in case.references:
        assert set(as_fields(reference.values, fields)) <= set(fields)
        assert set(reference.errors) <= set(case.metrics)
        assert reference.source


@pytest.mark.parametrize("case", [case for case in CASES.values() if case.metrics], ids=lambda case: case.id)
def test_every_metric_is_one_that_its_property_returns(case):
    """Compare the reference with itself: what comes out are the metrics that a record can have."""
    item = get_property(case.property)
    if item.name == "frame_errors":
        return  # its metrics need frames: tests/properties/test_frame_errors.py
    fields = {field.name: field.type for field in dataclasses.fields(item.result)}
    values = case.scored_reference.values
    errors = item.compare(item.result(**{**dict.fromkeys(fields, 1.0), **as_fields(values, fields)}), values)
    assert set(case.metrics) <= set(errors)


def test_the_good_card_is_good(tmp_path):
    case = load_case(write(tmp_path, GOOD), root=tmp_path)
    assert (case.id, case.material, case.scored_reference.label) == ("copper/eos", "copper", "one")


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('label = "two"', 'label = "two"\nscored = true', r"2 references: \['one', 'two'\]"),
        ("scored = true", "", "no scored reference"),
        ('kind = "dft"', 'kind = "published_model"', "scores against a published model"),
        ("structure =", 'frames = { dataset = "d", split = "s" }\nstructure =', r"exactly one of \[structure\]"),
        ('structure = { element = "Cu", lattice = "fcc", a = 3.6 }', "", r"exactly one of \[structure\]"),
        ("tolerance = 10.0", "tolerance = -1.0", "tolerance of .*b0_percent.* is not positive"),
        ("tolerance = 10.0", "tolerance = 0", "tolerance of .*b0_percent.* is not positive"),
        ("tolerance = 10.0", "tolerance = nan", "tolerance"),
        ("tolerance = 10.0", "tolerance = inf", "tolerance"),
        ("tolerance = 10.0", 'tolerance = "10"', r'"metrics\.b0_percent\.tolerance": .*number'),
        ("tolerance = 10.0", "tolerence = 10.0", 'did you mean "tolerance"'),
        ('title = "t"', 'title = "t"\nid = "x/y"', 'sets "id"'),
        ('title = "t"', "", '"title" is missing'),
        ("lattice =", "latice =", 'did you mean "lattice"'),
        ("b0_gpa = 140", 'b0_gpa = "140"', r"references\.0\.values\.b0_gpa"),
        ("b0_gpa = 140", "b0_gpa = true", r"references\.0\.values\.b0_gpa"),
        ("scored = true", "scored = 1", r"references\.0\.scored"),
        ('kind = "dft"', 'kind = "DFT"', r"references\.0\.kind"),
    ],
)
def test_an_unsound_card_is_a_card_error_with_a_fix(tmp_path, old, new, match):
    assert GOOD.count(old)
    with pytest.raises(CardError, match=match) as caught:
        load_case(write(tmp_path, GOOD.replace(old, new, 1)), root=tmp_path)
    assert "eos.toml" in caught.value.message
    assert caught.value.fix


def test_no_reference_at_all_is_fine_only_without_metrics(tmp_path):
    with pytest.raises(CardError, match="no scored reference"):
        load_case(write(tmp_path, GOOD[: GOOD.index("[[references]]")]), root=tmp_path)
    shown = load_case(write(tmp_path, GOOD[: GOOD.index("[metrics")]), root=tmp_path)
    assert shown.scored_reference is None


def test_patterns_select_and_a_pattern_without_a_match_is_an_error():
    assert [case.id for case in select_cases(["molybdenum/eos", "*/gsfe-110"])] == [
        "molybdenum/eos",
        "molybdenum/gsfe-110",
    ]
    assert len(select_cases(["*", "molybdenum/eos"])) == len(CASES)
    with pytest.raises(UnknownNameError, match='did you mean "molybdenum/eos"'):
        select_cases(["*", "molybdenum/eso"])


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ('title = "t"', 'title = "u"', False),
        ("tolerance = 10.0", "tolerance = 5.0", False),
        ('unit = "%"', 'unit = "percent"', False),
        ("b0_gpa = 141", "b0_gpa = 142", False),
        ('source = "s"', 'source = "z"', False),
        ("b0_gpa = 140", "b0_gpa = 139", True),
        ("a = 3.6", "a = 3.61", True),
        ('title = "t"', 'title = "t"\nsettings = { points = 5 }', True),
        ('property = "eos"', 'property = "elastic"', True),
    ],
)
def test_the_hash_covers_what_determines_the_errors_and_nothing_else(tmp_path, old, new, changes):
    before = load_case(write(tmp_path, GOOD), root=tmp_path).content_hash()
    after = load_case(write(tmp_path, GOOD.replace(old, new, 1)), root=tmp_path).content_hash()
    assert (before != after) is changes


def test_cards_without_modes_keep_the_keys_of_their_records():
    assert CASES["molybdenum/eos"].content_hash() == "0647685f24ac11b6"


MODES_OF_A_CARD = """
settings = { points = 9, strain = 0.1, shape = { axis = "c", above = "C" } }
runs_in = ["quick", "full"]
TABLES
[modes.quick.settings]
points = 5
shape = { axis = "b" }
"""


def with_modes(folder, text=MODES_OF_A_CARD):
    return load_case(write(folder, text.replace("TABLES", GOOD)), root=folder)


def test_a_mode_changes_the_settings_it_names_and_the_hash(tmp_path):
    case = with_modes(tmp_path)
    quick, full = case.in_mode("quick"), case.in_mode("full")
    assert quick.settings == {"points": 5, "strain": 0.1, "shape": {"axis": "b", "above": "C"}}
    assert full.settings == {"points": 9, "strain": 0.1, "shape": {"axis": "c", "above": "C"}}
    assert (quick.mode, quick.title, full.mode, full.title) == ("quick", "t (quick)", "full", "t (full)")
    assert quick.content_hash() != full.content_hash() == case.content_hash()
    assert case.in_mode("standard") is None


def test_a_case_without_settings_of_modes_is_the_same_in_all(tmp_path):
    case = load_case(write(tmp_path, GOOD), root=tmp_path)
    assert all(case.in_mode(mode) == case for mode in MODES)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('["quick", "full"]', '["full"]', r"runs in \['full'\] and changes \['quick'\]"),
        ('["quick", "full"]', "[]", r"runs in \[\]"),
        ('"full"', '"slow"', r"runs_in\.1"),
        ("modes.quick", "modes.quik", "quik"),
        ("[modes.quick.settings]", "[modes.quick]", r"modes\.quick\.settings"),
        ("runs_in", 'mode = "quick"\nruns_in', 'sets "mode"'),
    ],
)
def test_unsound_modes_are_refused(tmp_path, old, new, match):
    assert old in MODES_OF_A_CARD
    with pytest.raises(CardError, match=match):
        with_modes(tmp_path, MODES_OF_A_CARD.replace(old, new))


def test_cases_are_selected_by_mode(tmp_path):
    with_modes(tmp_path)
    assert [case.mode for case in select_cases(["*"], tmp_path, mode="quick")] == ["quick"]
    assert [case.mode for case in select_cases(["*"], tmp_path)] == [""]
    with pytest.raises(UnknownNameError, match="runs in mode standard.*quick, full"):
        select_cases(["*"], tmp_path, mode="standard")
    with pytest.raises(UnknownNameError, match='did you mean "quick"'):
        mode_named("quik")
