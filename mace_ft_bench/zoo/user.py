"""The user's own models: a folder with one subfolder each, of a card and its weights."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from mace_ft_bench.errors import CardError
from mace_ft_bench.zoo.card import ModelCard, load_card

MODELS_VARIABLE = "MFB_MODELS"
CARD_NAME = "card.toml"


def user_folder() -> Path:
    """Return where the user's models are kept; the variable ``MFB_MODELS`` overrides the platform's choice."""
    return Path(os.environ.get(MODELS_VARIABLE) or Path(platformdirs.user_data_dir("mace_ft_bench")) / "models")


def user_cards() -> list[ModelCard]:
    """Return the cards of the user's models.

    Raises
    ------
    CardError
        If a card is malformed or does not carry the name of its folder.
    """
    # Folders with a dot are being written or removed.
    found = [path for path in sorted(user_folder().glob(f"*/{CARD_NAME}")) if not path.parent.name.startswith(".")]
    cards = [load_card(path) for path in found]
    for card in cards:
        if card.name != card.folder.name:
            raise CardError(f'{card.folder / CARD_NAME} is named "{card.name}".', fix="give card and folder one name.")
    return cards
