"""Training recipes: one strict TOML file each."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from mace_ft_bench.errors import CardError
from mace_ft_bench.toml_schema import StrictTable, parse, read_toml

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class DataConfig(StrictTable):
    """Which frames are trained on."""

    sources: tuple[str, ...]
    """Dataset splits, ``<dataset>:<split>``, or files of our extended XYZ (``mfb data convert``), joined without
    duplicates."""
    exclude: tuple[str, ...] = ()
    """Splits or files whose frames are kept out, also where a source repeats them."""
    valid: tuple[str, ...] = ()
    """Splits or files that validate; when left out, a share of the sources does."""
    valid_fraction: float = 0.1
    """Share of every config_type that validates."""
    train_fraction: float = 1.0
    """Share of the training frames of every config_type that is used, for learning curves."""
    group_fractions: dict[str, float] = field(default_factory=dict)
    """The same for single config_types, instead of ``train_fraction``; names may hold wildcards (``fp/*``)."""
    split_seed: int = 1
    """Seed of the split, and of the share unless it has its own."""
    share_seed: int | None = None
    """Seed of the share, to draw other shares beside the same validation frames."""
    split_by: Literal["frame", "config_type", "block"] = "frame"
    """What is drawn for validation: ``frame``, from every config_type alike; ``config_type``, whole ones; ``block``,
    ``split_block`` consecutive frames, so that few validation frames neighbour a training frame in time."""
    split_block: int = 0
    """Frames of a block."""

    def __post_init__(self) -> None:
        if (self.split_by == "block") != (self.split_block > 0) or self.split_block < 0:
            raise CardError(
                'split_block is the number of frames of a block, for split_by "block".', fix="give both or neither."
            )
        if self.split_by != "frame" and self.valid:
            raise CardError("split_by splits nothing where valid names the validation frames.", fix="give either.")
        if not self.sources:
            raise CardError("sources is empty.", fix='name a dataset split, "<dataset>:<split>", or a file.')
        shares = (self.train_fraction, *self.group_fractions.values())
        if not 0 < self.valid_fraction < 1 or not 0 < min(shares) <= max(shares) <= 1 or self.split_seed < 0:
            raise CardError(
                "valid_fraction, train_fraction or a group fraction is not between 0 and 1, or split_seed is negative.",
                fix="give, say, 0.1, 1.0 and 1.",
            )


@dataclass(frozen=True)
class ArchitectureConfig(StrictTable):
    """Size and shape of the MACE model (doi 10.48550/arXiv.2206.07697)."""

    hidden_irreps: str
    """Node features, for example ``32x0e+32x1o``."""
    r_max: float
    """Cutoff radius [Angstrom]."""
    correlation: int
    """Correlation order of the product basis; body order minus one."""
    max_ell: int
    """Highest order of the spherical harmonics."""
    num_interactions: int = 2
    """Number of message-passing layers."""
    num_radial_basis: int = 8
    """Number of Bessel functions."""
    mlp_irreps: str = "16x0e"
    """Hidden features of the last readout."""

    def __post_init__(self) -> None:
        counts = (self.correlation, self.num_interactions, self.num_radial_basis)
        if not self.r_max > 0 or min(counts) < 1 or self.max_ell < 0:
            raise CardError(
                "r_max, correlation, num_interactions, num_radial_basis or max_ell is out of range.",
                fix="give r_max > 0, max_ell >= 0 and at least 1 of the others.",
            )


@dataclass(frozen=True)
class LossWeights(StrictTable):
    """Weights of the loss terms."""

    energy: float
    """Weight of the squared energy error per atom [1/eV^2]."""
    forces: float
    """Weight of the squared force error per component [Angstrom^2/eV^2]."""
    stress: float
    """Weight of the squared stress error per component [Angstrom^6/eV^2]."""

    def __post_init__(self) -> None:
        if min(self.energy, self.forces, self.stress) < 0:
            raise CardError("A loss weight is negative.", fix="give weights >= 0.")


_EQUAL = LossWeights(1.0, 1.0, 1.0)


@dataclass(frozen=True)
class StageTwoConfig(StrictTable):
    """The last epochs: another learning rate and other weights, on the same moving average."""

    start_epoch: int
    """First epoch of stage two."""
    lr: float
    """Learning rate."""
    weights: LossWeights

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise CardError(f"lr {self.lr} is not positive.", fix="give lr > 0.")


@dataclass(frozen=True)
class OptimiserConfig(StrictTable):
    """How the weights are found."""

    lr: float = 0.01
    """Learning rate of the first epoch."""
    lr_decay: float = 1.0
    """Factor on the learning rate after every epoch of stage one."""
    batch_size: int = 4
    """Frames per step."""
    max_epochs: int = 100
    """Number of epochs, both stages together."""
    ema_decay: float = 0.99
    """Decay of the exponential moving average of the weights."""
    weight_decay: float = 0.0
    """L2 penalty, added to the gradients as Adam has it. Of weights whose gradients are smaller than it nothing
    remains: Adam makes full steps of it whatever its size. Mace takes 5e-7."""
    clip_grad: float = 10.0
    """Largest norm of the gradient."""
    patience: int = 0
    """Validations without improvement after which a stage ends; 0 for never."""

    def __post_init__(self) -> None:
        if not (self.lr > 0 and 0 < self.lr_decay <= 1 and 0 < self.ema_decay < 1):
            raise CardError(
                f"lr {self.lr}, lr_decay {self.lr_decay} or ema_decay {self.ema_decay} is out of range.",
                fix="give lr > 0, 0 < lr_decay <= 1 and 0 < ema_decay < 1.",
            )
        if self.batch_size < 1 or self.max_epochs < 1 or self.patience < 0:
            raise CardError("batch_size and max_epochs must be at least 1, patience at least 0.", fix="correct them.")
        if self.weight_decay < 0 or not self.clip_grad > 0:
            raise CardError("weight_decay is negative or clip_grad is not positive.", fix="correct them.")


@dataclass(frozen=True)
class Scratch(StrictTable):
    """Random initial weights."""

    kind: Literal["scratch"]
    architecture: ArchitectureConfig


@dataclass(frozen=True)
class Full(StrictTable):
    """All weights of the parent are trained."""

    kind: Literal["full"]
    parent: str
    """Name or path of the model to start from."""
    parent_head: str = ""
    """Its head; needed where it has several."""
    keep_elements: bool = False
    """Keep the parent's whole table of elements; by default it is cut to those of the frames. E0s of the others are the
    parent's."""


PARTS = ("embedding", "interaction-1", "interaction-2", "products", "readouts")
"""What can be frozen: the embedding of the elements, the two interactions (tensor products with their radial networks,
linear maps and skip connections), the product basis, the readouts."""


@dataclass(frozen=True)
class Freeze(StrictTable):
    """Some parts of the parent keep their weights."""

    kind: Literal["freeze"]
    parent: str
    parts: tuple[Literal["embedding", "interaction-1", "interaction-2", "products", "readouts"], ...]
    """Parts that are not trained."""
    parent_head: str = ""
    keep_elements: bool = False

    def __post_init__(self) -> None:
        if not self.parts:
            raise CardError("parts names nothing.", fix=f"name some of {', '.join(PARTS)}.")


@dataclass(frozen=True)
class LoRA(StrictTable):
    """Low-rank updates of the linear maps are trained and merged on export (doi 10.48550/arXiv.2106.09685)."""

    kind: Literal["lora"]
    parent: str
    rank: int = 8
    """Rank of the updates."""
    alpha: float = 8.0
    """Updates are multiplied by alpha over rank."""
    parent_head: str = ""
    keep_elements: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0:
            raise CardError("rank is below 1 or alpha is not positive.", fix="give, say, rank 8 and alpha 8.0.")


@dataclass(frozen=True)
class MultiheadReplay(StrictTable):
    """The parent's readout stays as a head of its own, on frames of its domain (doi 10.48550/arXiv.2401.00096)."""

    kind: Literal["multihead-replay"]
    parent: str
    replay: tuple[str, ...]
    """Splits or files with frames labelled as the parent's training data was."""
    frames: int
    """How many of them are used."""
    weight: float = 1.0
    """Factor on their loss."""
    label_weights: LossWeights = _EQUAL
    """Factors on the loss of their energies, forces and stresses, on top: weights that suit the new frames may let the
    stresses of broader ones count for more than all else."""
    selection: Literal["random", "farthest-point"] = "random"
    """How they are chosen; ``farthest-point`` on descriptors of the parent."""
    parent_head: str = ""
    keep_elements: bool = False

    def __post_init__(self) -> None:
        if not self.replay or self.frames < 1 or not self.weight > 0:
            raise CardError(
                "replay is empty, frames is below 1 or weight is not positive.", fix="name frames to replay."
            )


Strategy = Scratch | Full | Freeze | LoRA | MultiheadReplay


@dataclass(frozen=True)
class E0sConfig(StrictTable):
    """Where the energy of an atom without neighbours comes from."""

    policy: Literal["isolated-atoms", "given", "parent", "least-squares"]
    """``isolated-atoms``: frames of one atom; ``given``: ``values_ev``; ``parent``: those of the parent, for labels of
    the same level of theory; ``least-squares``: fitted to the frames, on top of the parent's interaction energy where
    there is a parent. What the frames leave undetermined stays at the parent's value; without a parent that is an
    error."""
    values_ev: dict[str, float] = field(default_factory=dict)
    """Energy per element [eV]."""

    def __post_init__(self) -> None:
        if bool(self.values_ev) != (self.policy == "given"):
            raise CardError('values_ev belongs to policy "given".', fix="give both or neither.")


@dataclass(frozen=True)
class FinetuneConfig(StrictTable):
    """A recipe."""

    name: str
    """Name of the model that comes out."""
    strategy: Strategy
    """What is trained, from which weights."""
    data: DataConfig
    weights: LossWeights
    """Loss weights of stage one."""
    e0s: E0sConfig
    loss: Literal["stress", "universal"] = "stress"
    """``stress``: mean squared errors; ``universal``: Huber losses. As mace-torch names them."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    stage_two: StageTwoConfig | None = None
    config_type_weights: dict[str, float] = field(default_factory=dict)
    """Factor on the loss of the frames of a config_type; one where not named."""
    seed: int = 1
    """Seed of initial weights and batches."""
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "float64"] = "float32"
    engine: Literal["auto", "torch", "fused", "cached"] = "auto"
    """What computes gradients. ``fused``: a compiled kernel on the CPU, in double precision whatever the dtype of the
    model, several times faster; ``cached``: where only readouts are trained, features and their derivatives that were
    computed once; ``torch``: mace's modules; ``auto``: cached where it pays, else fused where it knows the model."""
    eval_interval: int = 2
    """Epochs between validations and checkpoints."""

    def __post_init__(self) -> None:
        if self.stage_two is not None and not 0 < self.stage_two.start_epoch < self.optimiser.max_epochs:
            raise CardError(
                f"Stage two starts at epoch {self.stage_two.start_epoch} of {self.optimiser.max_epochs}.",
                fix="start it before the last epoch.",
            )
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise CardError(
                f'name "{self.name}" cannot name files.', fix="use letters, digits, dots, hyphens and underscores."
            )
        if self.loss == "universal" and self._weighs_frames():
            raise CardError(
                'loss "universal" ignores weights of frames: config_type_weights, weight and label_weights of replay.',
                fix='use loss "stress", or leave the weights out.',
            )
        if self.eval_interval < 1 or min(self.config_type_weights.values(), default=0) < 0:
            raise CardError(
                "eval_interval is below 1 or a weight in [config_type_weights] is negative.", fix="correct them."
            )

    def _weighs_frames(self) -> bool:
        strategy = self.strategy
        replayed = isinstance(strategy, MultiheadReplay) and (strategy.weight, strategy.label_weights) != (1.0, _EQUAL)
        return replayed or any(weight != 1 for weight in self.config_type_weights.values())


def load_recipe(path: Path) -> FinetuneConfig:
    """Read a recipe.

    Raises
    ------
    CardError
        Naming every offending key.
    """
    return parse(read_toml(path), FinetuneConfig, where=str(path))
