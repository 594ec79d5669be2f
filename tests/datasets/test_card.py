"""Dataset cards."""

from __future__ import annotations

import re

import pytest

from mace_ft_bench import paths
from mace_ft_bench.datasets.card import find_dataset, list_datasets, load_dataset_card
from mace_ft_bench.datasets.readers import READERS
from mace_ft_bench.errors import CardError, UnknownNameError

CARDS = list_datasets()
TEXT = (paths.reference_data() / "datasets" / "mlearn-mo.toml").read_text(encoding="utf-8")


def test_every_card_is_listed():
    assert set(CARDS) == {path.stem for path in (paths.reference_data() / "datasets").glob("*.toml")}
    assert {"mlearn-mo", "snap-mo"} <= set(CARDS)


@pytest.mark.parametrize("card", CARDS.values(), ids=lambda card: card.name)
def test_every_card_says_what_a_user_must_know(card):
    assert all([card.title, card.functional, card.licence, card.citation, card.files])
    for file in card.files:
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert file.shipped or re.search(r"/[0-9a-f]{40}/", file.url), "the url is not pinned to a commit"
        assert file.bytes > 0
        assert file.reader in READERS


def test_the_stacking_fault_split_leaves_out_what_is_no_label():
    card = find_dataset("tutorial-mo")
    assert card.splits == ["gamma"]
    assert card.files[0].options["config_types"] == ["GammaDFT", "Gamma_additional_2/110/pure"]


def test_names_get_a_suggestion():
    with pytest.raises(UnknownNameError, match='did you mean "mlearn-mo"'):
        find_dataset("mlearn_mo")


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('name = "mlearn-mo"', 'name = "other"', 'is named "other"'),
        ("licence = ", "license = ", 'did you mean "licence"'),
        ("bytes = 250629", 'bytes = "250629"', r"files\.1\.bytes"),
        ("bytes = 250629", "size = 250629", "bytes"),
        ("[[files]]", "[files]", "TOML"),
        ("url = ", 'shipped = "frames/mo.xyz"\nurl = ', "a url or is shipped"),
    ],
)
def test_a_malformed_card_is_a_card_error(tmp_path, old, new, match):
    path = tmp_path / "mlearn-mo.toml"
    path.write_text(TEXT.replace(old, new), encoding="utf-8")
    with pytest.raises(CardError, match=match) as caught:
        load_dataset_card(path)
    assert caught.value.fix
