"""Add a model to the user's own, and remove one."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.errors import CardError, CheckpointError, UnknownNameError, UntrustedFileError, suggestion
from mace_ft_bench.toml_schema import parse
from mace_ft_bench.zoo import conversion
from mace_ft_bench.zoo.card import ModelCard, load_card
from mace_ft_bench.zoo.registry import is_of_user, list_models
from mace_ft_bench.zoo.user import CARD_NAME, user_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mace_ft_bench.zoo.conversion import Facts

REQUIRED = ("name", "functional", "dispersion", "licence")
"""What only the author of a model knows."""
_NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")


def add_model(source: Path, given: Mapping[str, str], *, trust: bool = False, replace: bool = False) -> ModelCard:
    """Copy a model into the user's folder, with a card; it is then known by name.

    Parameters
    ----------
    source
        A ``.model`` file (a pickle, converted in a process of its own), a ``.safetensors`` file of ours, a model card
        such as ``mfb finetune`` drafts, or the card of an isolated model.
    given
        Fields of the card; those of :data:`REQUIRED` must be here or in the card at ``source``.
    trust
        Allow unpickling a ``.model`` file.
    replace
        Replace a model of the user of that name.

    Raises
    ------
    CardError
        If the name is taken or malformed, or a field is missing.
    UntrustedFileError
        If a ``.model`` file is given without ``trust=True``.
    CheckpointError
        If the file cannot be read or converted.
    """
    from filelock import FileLock  # noqa: PLC0415 - beside its only use

    table, weights = _draft(source, given)
    name, root = table["name"], user_folder()
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock"):
        _refuse_taken(name, replace=replace)
        with tempfile.TemporaryDirectory(dir=root, prefix=".add-") as scratch:
            folder = Path(scratch) / name
            folder.mkdir()
            complete = table | (_weights(weights, folder / f"{name}.safetensors", trust=trust) if weights else {})
            (folder / CARD_NAME).write_text(_card_text(complete), encoding="utf-8")
            card = load_card(folder / CARD_NAME)
            if card.is_mace:
                card.verified_path()
            _put(folder, root / name, Path(scratch) / "before")
    return load_card(root / name / CARD_NAME)


def remove_model(name: str) -> Path:
    """Remove a model of the user and return the folder that is gone.

    Raises
    ------
    UnknownNameError
        If the user has no model of that name.
    """
    folder = removable(name)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".remove-") as scratch:
        folder.rename(Path(scratch) / name)  # at once: nobody sees half a model
    return folder


def removable(name: str) -> Path:
    """Return the folder of a model of the user.

    Raises
    ------
    UnknownNameError
        If the user has no model of that name.
    """
    folder = user_folder() / name
    if not _NAME.fullmatch(name) or not (folder / CARD_NAME).is_file():
        yours = [path.parent.name for path in user_folder().glob(f"*/{CARD_NAME}")]
        raise UnknownNameError(f'None of your models is called "{name}".', fix=suggestion(name, yours))
    return folder


def _draft(source: Path, given: Mapping[str, str]) -> tuple[dict[str, Any], Path | None]:
    """Return the table of the card, as far as it is known without the weights, and the path of the weights, if any."""
    table: dict[str, Any] = {"kind": "mace", "description": f"added from {source.name}", "citation": "unpublished"}
    weights: Path | None = source
    if source.suffix == ".toml":
        card = load_card(source)
        if card.kind not in {"mace", "isolated"}:
            raise CardError(
                f"{source} is of kind {card.kind}.", fix="give a card that names a weights file, or an [environment]."
            )
        table, weights = _plain(card), card.verified_path() if card.kind == "mace" else None
    table |= given
    _refuse_incomplete(table, given)
    return table, weights


def _plain(card: ModelCard) -> dict[str, Any]:
    table = json.loads(json.dumps(asdict(card), default=str))
    return {key: value for key, value in table.items() if value not in (None, "", [], {}) and key != "folder"}


def _refuse_incomplete(table: Mapping[str, Any], given: Mapping[str, str]) -> None:
    drafted = {field: value for field, value in table.items() if value != "unknown" or field in given}
    missing = [field for field in REQUIRED if not drafted.get(field)]
    missing += [field for field, value in table.items() if str(value).startswith("TODO") and field not in missing]
    if missing:
        raise CardError(
            f"The card lacks {', '.join(missing)}.", fix=f"give {', '.join(f'--{field}' for field in missing)}."
        )
    name = table["name"]
    if not _NAME.fullmatch(name) or name.endswith((".model", ".safetensors")):
        raise CardError(
            f'"{name}" cannot be the name of a model.',
            fix='use small letters, digits and single "-", "_" or "." between them, and not the name of a file.',
        )


def _refuse_taken(name: str, *, replace: bool) -> None:
    taken = next((card for card in list_models() if card.name == name), None)
    if taken is None:
        return
    if not is_of_user(taken):
        raise CardError(f'"{name}" is the name of a model that is not yours.', fix="choose another name.")
    if not replace:
        raise CardError(f'You have a model called "{name}".', fix="choose another name, or pass --force to replace it.")


def _copy_weights(source: Path, target: Path, *, trust: bool) -> Facts:
    if source.suffix == ".model":
        if not trust:
            raise UntrustedFileError(
                f"{source} is a pickle: reading it runs whatever code its author put in, with your rights.",
                fix="pass trust=True (--trust) if you know where the file comes from.",
            )
        return conversion.convert(source, target)
    if source.suffix != ".safetensors":
        raise CheckpointError(f"{source} is no model.", fix="give a .model, a .safetensors or a card (.toml) file.")
    from mace_ft_bench.zoo.checkpoint import load_checkpoint  # noqa: PLC0415 - imports torch and mace
    from mace_ft_bench.zoo.convert import facts_of  # noqa: PLC0415 - imports torch and mace

    shutil.copyfile(source, target)
    return facts_of(load_checkpoint(target))


def _weights(source: Path, target: Path, *, trust: bool) -> dict[str, Any]:
    """Copy weights, and return the fields of a card that are read from them."""
    facts = asdict(_copy_weights(source, target, trust=trust))
    read = {key: value for key, value in json.loads(json.dumps(facts)).items() if value}
    return {**read, "file": target.name, "sha256": sha256_of(target)}


def _card_text(table: Mapping[str, Any]) -> str:
    """Return the card as TOML."""
    parse(dict(table), ModelCard, where=f"the description of {table['name']}")
    return "".join(_toml_lines(table))


def _toml_lines(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        yield f"{key} = {_toml_value(value)}\n"


def _toml_value(value: Any) -> str:  # noqa: ANN401 - plain data
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    # JSON writes strings, numbers and booleans as TOML does, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _put(folder: Path, target: Path, aside: Path) -> None:
    """Move a complete folder to its place; what was there is kept until the new one is."""
    if target.exists():
        target.rename(aside)
    try:
        folder.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
