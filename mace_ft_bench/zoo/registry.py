"""All models that can be named: embedded and foundation cards, the user's own, and those of installed packages."""

from __future__ import annotations

import logging
from importlib.metadata import entry_points

from mace_ft_bench import paths
from mace_ft_bench.errors import CardError, UnknownNameError, suggestion
from mace_ft_bench.zoo.card import ModelCard, load_card
from mace_ft_bench.zoo.environments import find_installation
from mace_ft_bench.zoo.user import user_cards, user_folder
from mace_ft_bench.zoo.weights import on_this_machine

_log = logging.getLogger("mace_ft_bench")

ENTRY_POINT_GROUP = "mace_ft_bench.models"
"""A package offers models by an entry point of this group: a callable that returns an iterable of ModelCard."""


def list_models() -> list[ModelCard]:
    """Return the cards of all models, sorted by name.

    Raises
    ------
    CardError
        If a card is malformed or two carry one name.
    """
    cards: dict[str, ModelCard] = {}
    for card in [*_embedded(), *user_cards(), *_third_party()]:
        if card.name in cards:
            raise CardError(
                f'Two models are called "{card.name}" ({cards[card.name].folder} and {card.folder}).',
                fix="uninstall one of the packages, or rename or remove one of the models.",
            )
        cards[card.name] = card
    return [cards[name] for name in sorted(cards)]


def find_model(name: str) -> ModelCard:
    """Return the card of that name.

    Raises
    ------
    UnknownNameError
        With the nearest known name.
    """
    for card in _embedded():  # an embedded model never waits for, nor breaks with, somebody else's package
        if card.name == name:
            return card
    cards = {card.name: card for card in list_models()}
    if name not in cards:
        raise UnknownNameError(f'No model is called "{name}".', fix=suggestion(name, cards))
    return cards[name]


def whereabouts(card: ModelCard) -> str:
    """Return where the weights are, or whether the environment of an isolated model has been made.

    ``embedded``, ``downloaded``, ``not downloaded``, ``installed``, ``not installed``, ``user`` or ``package``.
    """
    if card.kind == "foundation":
        return "downloaded" if card.file else "not downloaded"
    if card.kind == "isolated":
        return "installed" if _is_installed(card) else "not installed"
    if card.kind == "mace" and card.folder == paths.model_cards():
        return "embedded"
    return "user" if is_of_user(card) else "package"


def _is_installed(card: ModelCard) -> bool:
    try:
        return find_installation(card) is not None
    except CardError as error:  # the list of models must not break; using the model says it
        _log.warning("%s", error)
        return False


def is_of_user(card: ModelCard) -> bool:
    """Whether the user added the model."""
    return card.folder.parent == user_folder()


def _embedded() -> list[ModelCard]:
    return [on_this_machine(load_card(path)) for path in sorted(paths.model_cards().rglob("*.toml"))]


def _third_party() -> list[ModelCard]:
    cards: list[ModelCard] = []
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            offered = list(entry.load()())
        except Exception:  # noqa: BLE001 - somebody else's package must not take our models away
            _log.warning(
                "The models of the entry point %s (%s) cannot be loaded.", entry.name, entry.value, exc_info=True
            )
            continue
        wrong = [card for card in offered if not isinstance(card, ModelCard)]
        if wrong:
            raise CardError(
                f'The entry point "{entry.name}" ({entry.value}) yields {type(wrong[0]).__name__} objects.',
                fix="let it yield mace_ft_bench.zoo.card.ModelCard objects, for example from load_card().",
            )
        cards += offered
    return cards
