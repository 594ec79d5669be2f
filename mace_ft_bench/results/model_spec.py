"""A model of a run, by name or path: what its records and their keys say it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path

from mace_ft_bench.calculators.factory import is_path
from mace_ft_bench.calculators.heads import choose_head
from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.errors import UnknownNameError
from mace_ft_bench.results import machine
from mace_ft_bench.zoo.environments import installation
from mace_ft_bench.zoo.registry import find_model


@dataclass(frozen=True)
class ModelSpec:
    """A model as the runner calls it."""

    name: str
    """Name in the tables."""
    source: str
    """Name or path for get_calculator."""
    sha256: str
    """Checksum of the weights, or the version of the package that ships them, or both."""
    fixed_dtype: bool = False
    """Whether the model has one dtype of its own."""
    head: str | None = None
    trust: bool = False
    packages: tuple[tuple[str, str], ...] = ()
    """Packages of an environment of its own, with their versions."""


def model_spec(source: str, *, head: str | None = None, trust: bool = False) -> ModelSpec:
    """Describe a model given by name or path, without loading it.

    Raises
    ------
    UnknownNameError
        If there is no such model or file.
    MissingWeightsError
        If a foundation model has not been fetched.
    ChecksumError
        If weights differ from their card.
    MissingDependencyError
        If the environment of an isolated model has not been made.
    """
    if is_path(source):
        path = Path(source)
        if not path.is_file():
            raise UnknownNameError(f"{path} does not exist.", fix="check the path; names are listed by `mfb models`.")
        # The path is the name: a file called mo-ft.safetensors is not the embedded mo-ft.
        return ModelSpec(path.as_posix(), source, sha256_of(path), head=_head_of_file(path, head), trust=trust)
    card = find_model(source)
    if card.kind == "isolated":
        installed = installation(card)
        chosen = choose_head(card.heads, head, model=card.name)
        packages = tuple(installed.pinned().items())
        return ModelSpec(card.name, source, installed.identity(), fixed_dtype=True, head=chosen, packages=packages)
    if card.kind == "factory":
        chosen = choose_head(card.heads, head, model=card.name)
        return ModelSpec(card.name, source, _shipped_version(card.factory), fixed_dtype=True, head=chosen)
    weights = card.verified_path()  # before the head: the heads of a foundation model are known from its weights
    return ModelSpec(card.name, source, sha256_of(weights), head=choose_head(card.heads, head, model=card.name))


def _head_of_file(path: Path, head: str | None) -> str | None:
    if path.suffix != ".safetensors":
        return head
    from mace_ft_bench.zoo.checkpoint import read_config  # noqa: PLC0415 - imports torch and mace

    return choose_head(read_config(path)["heads"], head, model=path.as_posix())


def _shipped_version(factory: str) -> str:
    """Return the factory with the versions of the distribution that provides it and of the peers it may wrap."""
    distributions = packages_distributions().get(factory.partition(".")[0].partition(":")[0], [])
    versions = {name: version(name) for name in distributions} | machine.package_versions()
    return f"{factory}@{json.dumps(versions, sort_keys=True)}"
