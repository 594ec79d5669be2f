"""Model cards: what a model is, what it was trained on, and under which licence, as TOML."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.errors import CardError, ChecksumError, MissingWeightsError
from mace_ft_bench.toml_schema import StrictTable, parse, read_toml


@dataclass(frozen=True)
class TriedRecipe(StrictTable):
    """One recipe that was tried on the way, with its errors on the validation frames."""

    recipe: str
    """What distinguished it."""
    energy_rmse_mev_per_atom: float
    force_rmse_mev_per_a: float
    stress_rmse_mev_per_a3: float | None = None
    """Left out where no frame has stresses."""
    chosen: bool = False


@dataclass(frozen=True)
class Training(StrictTable):
    """How the model was made."""

    strategy: str
    """``scratch``, or the fine-tuning strategy."""
    sources: tuple[str, ...]
    """Dataset splits, ``<dataset>:<split>``."""
    frames_train: int = 0
    frames_valid: int = 0
    recipe: str = ""
    """Recipe file that repeats the training."""
    selection: str = ""
    """What the recipe was chosen by."""
    recipes_tried: tuple[TriedRecipe, ...] = ()


@dataclass(frozen=True)
class Environment(StrictTable):
    """The Python environment of an isolated model, and how its calculator is made there."""

    calculator: str
    """``module:callable`` that returns an ASE calculator."""
    requirements: tuple[str, ...]
    """``name==version`` of every package that can change a result; torch, where it is one, is installed first."""
    arguments: dict[str, str | int | float | bool] = field(default_factory=dict)
    """Keyword arguments of the callable."""
    device_argument: str = "device"
    """Keyword argument that takes ``cpu`` or ``cuda``; empty where there is none, and the model runs on processors."""
    dtype: Literal["float32", "float64", ""] = ""
    """What it computes in, if that is known."""
    weights: str = ""
    """File of weights that a package ships, ``package/path``."""
    weights_sha256: str = ""
    """Checksum of that file."""

    def __post_init__(self) -> None:
        wrong = [text for text in self.requirements if not _PINNED.fullmatch(text)]
        if wrong or not self.requirements:
            raise CardError(
                f"requirements = {list(self.requirements)} are not all pinned.", fix='write them as "name==version".'
            )
        if not re.fullmatch(r"[\w.]+:\w+", self.calculator):
            raise CardError(f'calculator = "{self.calculator}" is not "module:callable".', fix="correct it.")
        if bool(self.weights) != bool(self.weights_sha256):
            raise CardError("weights and weights_sha256 belong together.", fix="give both or none.")

    def pinned(self) -> dict[str, str]:
        """Return the required version of every package by name."""
        return dict(text.split("==") for text in self.requirements)


_PINNED = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+")


@dataclass(frozen=True)
class ModelCard(StrictTable):
    """A model that :func:`mace_ft_bench.get_calculator` can serve."""

    name: str
    kind: Literal["mace", "foundation", "factory", "isolated"]
    """``mace`` is served from ``file``; ``foundation`` is downloaded from ``url`` first; ``factory`` is called;
    ``isolated`` is served by a worker process in an ``environment`` of its own."""
    description: str
    """One line for tables."""
    elements: tuple[str, ...]
    """Chemical symbols the model was trained on; a foundation card may leave them to the weights."""
    functional: str
    """Level of theory of the labels, for example ``PBE (VASP)``."""
    dispersion: Literal["none", "included", "unknown"]
    """Whether the labels already contain a dispersion correction. ``unknown``, as in drafts, refuses D3."""
    licence: str
    """SPDX identifier; ``LicenseRef-...`` for one that SPDX does not list."""
    citation: str
    """How to cite the model."""
    file: str = ""
    """Weights, relative to the card."""
    sha256: str = ""
    """Checksum of the weights."""
    url: str = ""
    """Where the pickled ``.model`` file of a foundation model lies."""
    url_sha256: str = ""
    """Checksum of the file at ``url``; when empty, that of the first download is recorded and enforced."""
    licence_terms: str = ""
    """Address of terms that must be accepted explicitly; empty where none must."""
    factory: str = ""
    """``module:function``, called with (card, device, dtype, head) of types (ModelCard, str, str or None, str)."""
    environment: Environment | None = None
    """Of an isolated model."""
    architecture: str = ""
    parameters: int = 0
    """Number of trainable parameters."""
    heads: tuple[str, ...] = ("default",)
    """Names of the heads, as the weights call them; a foundation card may leave them to the weights."""
    e0s_ev: dict[str, float] = field(default_factory=dict)
    """Reference energy per element [eV]."""
    e0s_meaning: str = ""
    """Where the reference energies come from; ``average`` ones are not isolated atoms."""
    parent: str = ""
    """Name of the model this one was fine-tuned from; empty for training from scratch."""
    training: Training | None = None
    folder: Path = Path()
    """Folder of the card; set on loading."""

    def __post_init__(self) -> None:
        if self.kind == "mace" and not (self.file and self.sha256):
            raise CardError(f'Model card "{self.name}" names no file and sha256.', fix="add both.")
        if self.kind == "mace" and not self.file.endswith(".safetensors"):
            raise CardError(
                f'Model card "{self.name}" names {self.file}, which is no .safetensors file.',
                fix="convert the weights once with `mfb models convert --trust` and name the result.",
            )
        if self.kind == "foundation" and not self.url:
            raise CardError(f'Model card "{self.name}" names no url.', fix="add it.")
        if self.kind == "factory" and ":" not in self.factory:
            raise CardError(f'Model card "{self.name}" needs factory = "module:function".', fix="add it.")
        if (self.kind == "isolated") != (self.environment is not None):
            raise CardError(
                f'Model card "{self.name}" is of kind {self.kind}.',
                fix="give isolated models, and no others, [environment].",
            )

    @property
    def is_mace(self) -> bool:
        """Whether it has weights that are served, trained and converted here."""
        return self.kind in {"mace", "foundation"}

    @property
    def path(self) -> Path:
        """The weights file."""
        return (self.folder / self.file).resolve()

    @property
    def _remedy(self) -> str:
        if self.kind == "foundation":
            return f"delete the folder {self.folder} and run `mfb models fetch {self.name} --trust`."
        return "restore the file, or correct the card if you replaced the weights on purpose."

    def verified_path(self) -> Path:
        """Return the weights file after comparing its checksum.

        Raises
        ------
        MissingWeightsError
            If a foundation model has not been downloaded and converted.
        ChecksumError
            If the file is missing or differs from the card.
        """
        if self.kind == "foundation" and not self.file:
            accept = " --accept-licence" if self.licence_terms else ""
            raise MissingWeightsError(
                f"The weights of {self.name} are not on this machine.",
                fix=f"run `mfb models fetch {self.name} --trust{accept}` once.",
            )
        if not self.path.is_file():
            raise ChecksumError(
                f"{self.path} of model {self.name} is missing.",
                fix=self._remedy,
            )
        found = sha256_of(self.path)
        if found != self.sha256:
            raise ChecksumError(
                f"{self.path} has sha256 {found}, its card names {self.sha256}.",
                fix=self._remedy,
            )
        return self.path


def load_card(path: Path) -> ModelCard:
    """Read a model card.

    Raises
    ------
    CardError
        If the card is malformed.
    """
    table: dict[str, Any] = read_toml(path)
    if "folder" in table:
        raise CardError(f'{path} sets "folder".', fix="remove it: file is relative to the card.")
    return replace(parse(table, ModelCard, where=str(path)), folder=path.parent)
