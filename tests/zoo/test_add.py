"""Models of the user: added with a card, served by name, replaced and removed at once."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_ft_bench import get_calculator, list_models
from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.errors import CardError, CheckpointError, UnknownNameError, UntrustedFileError
from mace_ft_bench.zoo import add as adding
from mace_ft_bench.zoo.add import add_model, remove_model
from mace_ft_bench.zoo.registry import find_model, whereabouts
from mace_ft_bench.zoo.user import user_folder

from .conftest import rattled

FIELDS = {"name": "mo-mine", "functional": 'PBE "hard"', "dispersion": "none", "licence": "MIT"}


def names():
    return {card.name for card in list_models()}


def leftovers():
    return sorted(path.name for path in user_folder().iterdir() if path.name not in (".lock", "mo-mine"))


def test_a_model_is_added_served_and_removed(tiny_file):
    card = add_model(tiny_file, FIELDS)
    assert whereabouts(card) == "user"
    assert find_model("mo-mine") == card
    assert (card.elements, card.heads, card.functional) == (("Si", "Mo"), ("Default",), 'PBE "hard"')
    assert card.e0s_ev == {"Si": -1.25, "Mo": -2.5}
    assert card.description == "added from tiny.safetensors"
    atoms, same = rattled(), rattled()
    atoms.calc, same.calc = get_calculator("mo-mine", accelerate="off"), get_calculator(tiny_file, accelerate="off")
    assert np.array_equal(atoms.get_forces(), same.get_forces())
    assert remove_model("mo-mine") == card.folder
    assert "mo-mine" not in names()
    assert not card.folder.exists()
    assert leftovers() == []


def test_a_pickle_needs_trust_and_is_converted_in_a_process_of_its_own(tiny_pickle, quick):
    with pytest.raises(UntrustedFileError, match="--trust"):
        add_model(tiny_pickle, FIELDS)
    assert (quick, leftovers(), names() & {"mo-mine"}) == ([], [], set())
    assert add_model(tiny_pickle, FIELDS, trust=True).parameters == 7
    assert quick == [tiny_pickle]


def test_a_failed_conversion_leaves_nothing(tmp_path, tiny_file):
    for name in ("bad.safetensors", "bad.txt"):
        (tmp_path / name).write_bytes(tiny_file.read_bytes()[:1000])
        with pytest.raises(CheckpointError, match="damaged|no model"):
            add_model(tmp_path / name, FIELDS)
    assert leftovers() == []
    assert "mo-mine" not in names()


def test_names_are_not_taken_twice(tiny_file):
    for taken in ("mo-ft", "mace-mp-0b3", "chgnet"):
        with pytest.raises(CardError, match="not yours"):
            add_model(tiny_file, {**FIELDS, "name": taken}, replace=True)
    first = add_model(tiny_file, FIELDS)
    with pytest.raises(CardError, match="--force"):
        add_model(tiny_file, FIELDS)
    second = add_model(tiny_file, {**FIELDS, "licence": "CC-BY-4.0"}, replace=True)
    assert (first.folder, second.licence) == (second.folder, "CC-BY-4.0")
    assert leftovers() == []


def test_a_replacement_that_fails_keeps_the_old_model(tiny_file, tmp_path, monkeypatch):
    card = add_model(tiny_file, FIELDS)
    (tmp_path / "bad.safetensors").write_bytes(b"bad")
    with pytest.raises(CheckpointError):
        add_model(tmp_path / "bad.safetensors", FIELDS, replace=True)

    rename = Path.rename

    def full(source, target):
        if (source.name, target) == ("mo-mine", card.folder):
            raise OSError(28, "No space left on device")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        add_model(tiny_file, FIELDS, replace=True)
    assert find_model("mo-mine") == card
    assert leftovers() == []


@pytest.mark.parametrize("name", ["", "Mo", "../up", "a/b", ".hidden", "a--b", "a b", "x.model", "x.safetensors", "é"])
def test_bad_names(tiny_file, name):
    with pytest.raises(CardError, match="cannot be the name|lacks name"):
        add_model(tiny_file, {**FIELDS, "name": name})
    with pytest.raises(UnknownNameError):
        remove_model(name)


@pytest.mark.parametrize("field", ["functional", "dispersion", "licence"])
def test_what_only_the_author_knows_is_required(tiny_file, field):
    with pytest.raises(CardError, match=f"lacks {field}.*--{field}"):
        add_model(tiny_file, {key: value for key, value in FIELDS.items() if key != field})


def test_dispersion_may_be_said_to_be_unknown(tiny_file):
    assert add_model(tiny_file, {**FIELDS, "dispersion": "unknown"}).dispersion == "unknown"


def test_fields_are_checked(tiny_file):
    with pytest.raises(CardError, match="the description of mo-mine.*dispersion"):
        add_model(tiny_file, {**FIELDS, "dispersion": "some"})
    assert leftovers() == []


def test_the_draft_card_of_a_training_run(tmp_path, tiny_file):
    """What `mfb finetune` writes: the card knows how the model was trained, and marks what it does not know."""
    shutil.copy(tiny_file, tmp_path / "run.safetensors")
    draft = tmp_path / "run.toml"
    draft.write_text(
        'name = "run"\nkind = "mace"\nfile = "run.safetensors"\n'
        f'sha256 = "{sha256_of(tiny_file)}"\n'
        'description = "TODO: one line for tables"\nelements = ["Si", "Mo"]\nheads = ["Default"]\n'
        'functional = "TODO: functional"\ndispersion = "unknown"\nlicence = "TODO"\ncitation = "TODO: how to cite"\n'
        '[e0s_ev]\nSi = -1.25\nMo = -2.5\n[training]\nstrategy = "scratch"\nsources = ["a:train"]\n'
        '[[training.recipes_tried]]\nrecipe = "r"\nenergy_rmse_mev_per_atom = 1e-05\nforce_rmse_mev_per_a = 1.0\n'
        "stress_rmse_mev_per_a3 = 2\nchosen = true\n"
    )
    with pytest.raises(CardError, match="lacks dispersion, description, functional, licence, citation"):
        add_model(draft, {})
    known = {"description": "d", "functional": "PBE", "dispersion": "none", "licence": "MIT", "citation": "c"}
    card = add_model(draft, known)
    assert (card.name, card.training.sources) == ("run", ("a:train",))
    (tried,) = card.training.recipes_tried
    assert (tried.energy_rmse_mev_per_atom, tried.stress_rmse_mev_per_a3, tried.chosen) == (1e-5, 2.0, True)
    with pytest.raises(CardError, match="of kind factory"):
        add_model(find_model("chgnet").folder / "chgnet.toml", FIELDS)


def test_only_models_of_the_user_are_removed(tiny_file):
    add_model(tiny_file, FIELDS)
    for name in ("mo-ft", "mace-mp-0b3", "mo-min"):
        with pytest.raises(UnknownNameError, match="mo-mine"):
            remove_model(name)
    assert names() >= {"mo-ft", "mo-mine"}


def test_a_card_of_the_user_carries_the_name_of_its_folder(tiny_file):
    card = add_model(tiny_file, FIELDS)
    card.folder.rename(card.folder.with_name("other"))
    with pytest.raises(CardError, match='is named "mo-mine"'):
        list_models()
    assert find_model("mo-ft").name == "mo-ft"


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z_]+", fullmatch=True),
        st.recursive(
            st.text(st.characters(exclude_categories=["Cs"]))
            | st.booleans()
            | st.integers(-(2**60), 2**60)
            | st.floats(allow_nan=False, allow_infinity=False),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.from_regex(r"[A-Za-z_]+", fullmatch=True), inner, max_size=3)
            ),
            max_leaves=6,
        ),
        max_size=4,
    )
)
def test_what_is_written_as_toml_is_read_as_the_same(table):
    assert tomllib.loads("".join(adding._toml_lines(table))) == json.loads(json.dumps(table))
