"""Model cards and the registry."""

from __future__ import annotations

import importlib
import shutil
from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest
from ase.data import atomic_numbers

from mace_ft_bench import list_models, paths
from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.errors import CardError, ChecksumError, UnknownNameError
from mace_ft_bench.zoo import checkpoint, registry
from mace_ft_bench.zoo.card import load_card

CARD = """
name = "x"
kind = "mace"
file = "x.safetensors"
sha256 = "00"
description = "d"
elements = ["Mo"]
functional = "PBE"
dispersion = "none"
licence = "MIT"
citation = "c"
"""


def written(folder, text=CARD):
    path = folder / "x.toml"
    path.write_text(text)
    return path


def test_embedded_cards_agree_with_their_weights():
    cards = [card for card in list_models() if card.kind == "mace"]
    assert cards
    for card in cards:
        model = checkpoint.load_checkpoint(card.verified_path())
        described = checkpoint.describe_model(model)
        assert sorted(atomic_numbers[symbol] for symbol in card.elements) == described["atomic_numbers"]
        assert list(card.heads) == described["heads"]
        assert card.parameters == sum(item.numel() for item in model.parameters())
        assert set(card.e0s_ev) == set(card.elements)
        for symbol, energy in card.e0s_ev.items():
            position = described["atomic_numbers"].index(atomic_numbers[symbol])
            assert described["atomic_energies"][0][position] == pytest.approx(energy, abs=1e-4)


def test_every_weights_file_has_a_card():
    named = {card.path for card in list_models() if card.kind == "mace"}
    assert {path.resolve() for path in (paths.PACKAGE / "zoo" / "weights").glob("*")} == named


def test_embedded_cards_say_how_they_were_made():
    for card in list_models():
        assert "TODO" not in (paths.model_cards() / f"{card.name}.toml").read_text(encoding="utf-8")
        if card.kind == "mace":
            assert card.training is not None
            assert (paths.PACKAGE.parent / card.training.recipe).is_file()
            assert sum(recipe.chosen for recipe in card.training.recipes_tried) == 1
            assert "mlearn-mo:test" not in card.training.sources


def test_factories_exist():
    for card in list_models():
        if card.kind == "factory":
            module, _, function = card.factory.partition(":")
            assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("licence", "license"), 'unknown key "license", did you mean "licence"'),
        (('kind = "mace"', 'kind = "mase"'), "kind"),
        (('sha256 = "00"\n', ""), "names no file and sha256"),
        (('kind = "mace"', 'kind = "factory"'), 'factory = "module:function"'),
        (('dispersion = "none"', 'dispersion = "some"'), "dispersion"),
        (('name = "x"', 'name = "x"\nfolder = "/etc"'), "folder"),
        (('name = "x"', "name = "), "not valid TOML"),
    ],
)
def test_malformed_cards(tmp_path, change, message):
    with pytest.raises(CardError, match=message):
        load_card(written(tmp_path, CARD.replace(*change)))


def test_wrong_checksum(tmp_path, tiny_file):
    shutil.copy(tiny_file, tmp_path / "x.safetensors")
    card = load_card(written(tmp_path))
    with pytest.raises(ChecksumError, match="its card names 00"):
        card.verified_path()
    assert replace(card, sha256=sha256_of(tiny_file)).verified_path() == tmp_path / "x.safetensors"


def test_missing_weights(tmp_path):
    with pytest.raises(ChecksumError, match="is missing"):
        load_card(written(tmp_path)).verified_path()


def third_party(monkeypatch, offered):
    class Fake(EntryPoint):
        def load(self):
            return lambda: offered

    entry = Fake(name="theirs", value="theirs:models", group=registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == entry.group else [])


def test_third_parties_register_models(monkeypatch, tmp_path):
    third_party(monkeypatch, [load_card(written(tmp_path))])
    assert registry.find_model("x").folder == tmp_path
    assert "mo-ft" in {card.name for card in list_models()}


def test_third_parties_cannot_replace_a_model(monkeypatch):
    third_party(monkeypatch, [registry.find_model("mo-ft")])
    with pytest.raises(CardError, match='Two models are called "mo-ft"'):
        list_models()


def test_third_parties_must_offer_cards(monkeypatch):
    third_party(monkeypatch, ["mo-ft"])
    with pytest.raises(CardError, match="yields str objects"):
        list_models()


def test_unknown_name():
    with pytest.raises(UnknownNameError, match='did you mean "mo-ft"'):
        registry.find_model("mo-tf")
