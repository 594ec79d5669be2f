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
from mace_ft_bench.errors import CardError, ChecksumError, MissingWeightsError, UnknownNameError
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
    for path in paths.model_cards().rglob("*.toml"):
        assert "TODO" not in path.read_text(encoding="utf-8")
        card = load_card(path)
        assert card.name == path.stem
        if card.kind == "mace":
            assert card.training is not None
            assert (paths.PACKAGE.parent / card.training.recipe).is_file()
            assert sum(recipe.chosen for recipe in card.training.recipes_tried) == 1
            assert "mlearn-mo:test" not in card.training.sources


def foundation_cards():
    return [card for card in list_models() if card.kind == "foundation"]


def test_foundation_cards_name_the_files_of_mace_torch():
    from mace_ft_bench.torch_env import mace_environment

    with mace_environment():
        from mace.calculators.foundations_models import mace_mp_urls

    assert {card.url for card in foundation_cards()} == set(mace_mp_urls.values())


def test_foundation_cards_state_elements_and_licence():
    every = set(registry.find_model("chgnet").elements)  # the 89 elements of MPtrj
    for card in foundation_cards():
        assert card.path == card.folder.resolve(), "the weights are not here"
        assert set(card.elements) in (every, set())
        assert (card.licence, bool(card.licence_terms)) in {("MIT", False), ("LicenseRef-ASL", True)}
        assert card.citation
    by_name = {card.name: card for card in foundation_cards()}
    assert set(by_name["mace-mp-0b3"].elements) == every
    academic = {name for name, card in by_name.items() if card.licence_terms}
    assert academic == {name for name in by_name if any(part in name for part in ("omat", "matpes", "-mh-"))}


def test_a_card_is_as_strict_for_a_foundation_model(tmp_path):
    text = CARD.replace('kind = "mace"', 'kind = "foundation"').replace('file = "x.safetensors"\nsha256 = "00"\n', "")
    with pytest.raises(CardError, match="names no url"):
        load_card(written(tmp_path, text))
    card = load_card(written(tmp_path, text + 'url = "https://host.example/x.model"\n'))
    with pytest.raises(MissingWeightsError, match="not on this machine.*mfb models fetch x --trust"):
        card.verified_path()
    with pytest.raises(MissingWeightsError, match="--accept-licence"):
        replace(card, licence_terms="https://host.example/terms").verified_path()


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
