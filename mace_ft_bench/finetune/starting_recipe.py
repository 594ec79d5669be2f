"""A commented recipe to start from, chosen by looking at the frames."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mace_ft_bench.atomic import write_whole
from mace_ft_bench.datasets.card import find_dataset
from mace_ft_bench.datasets.frames import ENERGY, FORCES, STRESS, without_duplicates
from mace_ft_bench.errors import DataError, UnsupportedElementError
from mace_ft_bench.finetune.advice import advise
from mace_ft_bench.finetune.config import FinetuneConfig
from mace_ft_bench.finetune.frames_summary import FramesSummary, summarise_frames
from mace_ft_bench.finetune.parent import load_parent
from mace_ft_bench.finetune.prepare import load_sources
from mace_ft_bench.toml_schema import parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_WEIGHTS = {ENERGY: (100.0, 1000.0), FORCES: (10.0, 10.0), STRESS: (500.0, 5000.0)}
"""Loss weights of the two stages: those that the molybdenum recipe was chosen with, rounded."""
_STEPS = 8000
"""Steps of a run."""
_STEPS_PER_EPOCH = 100
_ATOMS_PER_BATCH = 1000
_EPOCHS = (20, 300)
_BLOCKS = 20
_VALID_FRACTION = 0.1
_FEW = 60
"""Frames below which a larger share has to validate."""


@dataclass(frozen=True)
class Start:
    """What the user names."""

    name: str
    """Of the model that comes out."""
    sources: tuple[str, ...]
    """Files, or ``<dataset>:<split>``."""
    exclude: tuple[str, ...]
    """Splits that are kept for tests."""
    parent: str
    parent_head: str
    r_max: float
    """Cutoff of the parent [Angstrom]."""
    parent_e0s: Mapping[str, float]
    """Energies per element of the parent [eV]."""


def choose_sources(texts: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return sources and excluded splits: of a dataset without a named split all are trained on but its test split.

    Raises
    ------
    UnknownNameError
        If a dataset does not exist.
    """
    sources: list[str] = []
    exclude: list[str] = []
    for text in texts:
        if text.endswith((".xyz", ".extxyz")) or ":" in text:
            sources.append(text)
            continue
        for split in find_dataset(text).splits:
            (exclude if split == "test" else sources).append(f"{text}:{split}")
    return tuple(sources), tuple(exclude)


def write_starting_recipe(
    path: Path, texts: Sequence[str], parent: tuple[str, str], *, mirror: Path | None = None, trust: bool = False
) -> list[str]:
    """Write a recipe for some sources, and return what is to be said about it.

    Parameters
    ----------
    path
        File to write; its stem is the name of the model.
    texts
        Extended XYZ files, ``<dataset>`` or ``<dataset>:<split>``.
    parent
        Name or path of the parent, and its head.
    mirror
        Folder of dataset copies.
    trust
        Allow a parent that must be unpickled.

    Raises
    ------
    CardError
        If the name cannot name a model.
    DataError
        If the sources cannot be trained on.
    UnsupportedElementError
        If the parent does not know an element.
    """
    sources, exclude = choose_sources(texts)
    loaded = load_parent(*parent, dtype=torch.float32, trust=trust)
    start = Start(path.stem, sources, exclude, *parent, float(loaded.model.r_max), loaded.e0s)
    frames = without_duplicates(load_sources(sources, mirror=mirror), of=load_sources(exclude, mirror=mirror))
    summary = summarise_frames(frames)
    text = starting_recipe(start, summary)
    recipe = parse(tomllib.loads(text), FinetuneConfig, where=str(path))
    write_whole(path, text)
    return advise(recipe, summary)


def starting_recipe(start: Start, frames: FramesSummary) -> str:
    """Return the text of a recipe, with the reason of every choice as a comment.

    Raises
    ------
    DataError
        If there is no frame to train on, or none with energy or forces.
    UnsupportedElementError
        If the parent does not know an element.
    """
    _refuse_unusable(start, frames)
    batch = max(1, min(8, frames.frames // _STEPS_PER_EPOCH, _ATOMS_PER_BATCH // frames.median_atoms))
    steps = -(-frames.frames // batch)
    epochs = max(_EPOCHS[0], min(_EPOCHS[1], -(-_STEPS // steps)))
    sections = [
        _head(start, frames),
        _data(start, frames),
        _strategy(start),
        _e0s(frames),
        _weights("weights", frames, 0, "of squared errors: eV/atom, eV/Å, eV/Å³"),
        _section(
            "optimiser",
            lr=(0.001, "a tenth of training from scratch: the parent is near already"),
            batch_size=(batch, f"{steps} steps per epoch, about {batch * frames.median_atoms} atoms each"),
            max_epochs=(epochs, f"about {epochs * steps} steps; watch the validation errors, the best epoch is kept"),
            ema_decay=(0.99, "of the averaged weights, which are validated and kept"),
        ),
        _section(
            "stage_two",
            start_epoch=(epochs * 2 // 3, "the last third: smaller steps, energies and stresses count more"),
            lr=(0.0002, ""),
        ),
        _weights("stage_two.weights", frames, 1, ""),
    ]
    return "\n\n".join(sections) + "\n"


def _refuse_unusable(start: Start, frames: FramesSummary) -> None:
    if not frames.frames or not (frames.labels[ENERGY] or frames.labels[FORCES]):
        raise DataError(
            f"The sources hold {frames.frames} frames, {frames.labels[ENERGY]} with {ENERGY} and "
            f"{frames.labels[FORCES]} with {FORCES}.",
            fix="label or convert them first (mfb data lint, mfb data convert).",
        )
    unknown = sorted(set(frames.elements) - set(start.parent_e0s))
    if unknown:
        raise UnsupportedElementError(
            f"The frames have {', '.join(unknown)}, which {start.parent} does not know.",
            fix="choose a parent that knows the elements.",
        )


def _head(start: Start, frames: FramesSummary) -> str:
    groups = ", ".join(f"{group or '(none)'} {count}" for group, count in frames.groups.items())
    labels = ", ".join(f"{label} {count}" for label, count in frames.labels.items())
    return "\n".join(
        [
            f"# {frames.frames} frames, {frames.median_atoms} atoms in the middle: {', '.join(frames.elements)}",
            f"# labels: {labels}",
            f"# config_types: {groups}",
            "# look for mistakes in the data first: mfb data lint",
            f"name = {json.dumps(start.name)}",
            "seed = 1",
            'loss = "stress"  # mean squared errors',
            'dtype = "float64"  # energies of this size lose digits in float32'
            if frames.largest_energy_ev_per_atom > 1000  # noqa: PLR2004 - [eV/atom], all-electron
            else 'dtype = "float32"  # of the weights; the fused kernel computes in float64 all the same',
            'device = "cpu"  # or "cuda"',
            "",
            "# [config_type_weights]  # factor on the loss of a group, before all other tables",
            *(f"# {_key(group)} = 1.0" for group in frames.groups if group),
        ]
    )


def _data(start: Start, frames: FramesSummary) -> str:
    fraction = 0.2 if frames.frames < _FEW else _VALID_FRACTION
    lines = [
        "[data]",
        f"sources = {json.dumps(list(start.sources))}",
        f"exclude = {json.dumps(list(start.exclude))}  # test frames: never trained on, whoever repeats them",
        f"valid_fraction = {fraction}" + ("  # few frames" if frames.frames < _FEW else ""),
    ]
    if frames.in_time:
        longest = max(frames.in_time.values())
        lines += [
            'split_by = "block"  # these frames follow one another in time: ' + ", ".join(frames.in_time),
            f"split_block = {max(5, longest // _BLOCKS)}",
        ]
    return "\n".join(lines)


def _strategy(start: Start) -> str:
    lines = [
        "[strategy]",
        'kind = "full"  # or freeze, lora, multihead-replay',
        f"parent = {json.dumps(start.parent)}  # cutoff {start.r_max:g} Å, which fine-tuning cannot change",
    ]
    if start.parent_head:
        lines.append(f"parent_head = {json.dumps(start.parent_head)}")
    return "\n".join(lines)


def _e0s(frames: FramesSummary) -> str:
    if set(frames.isolated) >= set(frames.elements):
        return '[e0s]\npolicy = "isolated-atoms"  # the frames hold one of every element'
    missing = len(frames.elements) - frames.independent_compositions
    why = (
        f"{frames.independent_compositions} independent compositions for {len(frames.elements)} elements: what they "
        "leave open stays as in the parent"
        if missing > 0
        else "on top of the parent's interaction energy"
    )
    return (
        f'[e0s]\npolicy = "least-squares"  # {why}\n# "isolated-atoms" is better if you have them, "parent" if the '
        "labels are of the parent's level of theory"
    )


def _weights(title: str, frames: FramesSummary, stage: int, comment: str) -> str:
    lines = [f"[{title}]" + (f"  # {comment}" if comment else "")]
    for label, weights in _WEIGHTS.items():
        absent = not frames.labels[label]
        lines.append(
            f"{label.removeprefix('REF_')} = {0.0 if absent else weights[stage]}" + ("  # no label" if absent else "")
        )
    return "\n".join(lines)


def _section(title: str, **rows: tuple[float, str]) -> str:
    lines = [f"{name} = {value}" + (f"  # {why}" if why else "") for name, (value, why) in rows.items()]
    return "\n".join([f"[{title}]", *lines])


def _key(text: str) -> str:
    return text if text.replace("-", "").replace("_", "").isalnum() and text.isascii() else json.dumps(text)
