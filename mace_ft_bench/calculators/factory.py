"""One call from a name or a path to an ASE calculator."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_ft_bench.calculators.heads import choose_head
from mace_ft_bench.errors import CardError, MissingDependencyError, UnknownNameError, suggestion
from mace_ft_bench.zoo.registry import find_model
from mace_ft_bench.zoo.weights import weights_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ase.calculators.calculator import Calculator

    from mace_ft_bench.calculators.d3.settings import D3Settings
    from mace_ft_bench.calculators.neighbors import SkinSettings
    from mace_ft_bench.zoo.card import ModelCard

DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float32", "float64")


def get_calculator(  # noqa: PLR0913 - one per thing a user may want to choose
    name_or_path: str | Path | Sequence[str | Path],
    *,
    device: str = "auto",
    dtype: str | None = None,
    head: str | None = None,
    accelerate: str = "auto",
    neighbors: SkinSettings | None = None,
    dispersion: str | D3Settings | bool | None = None,
    allow_double_counting: bool = False,
    allow_other_functional: bool = False,
    trust: bool = False,
    accept_licence: bool = False,
) -> Calculator:
    """Return an ASE calculator.

    Parameters
    ----------
    name_or_path
        Name of a model (:func:`mace_ft_bench.list_models`), or path of a ``.safetensors`` or ``.model`` file. Several
        in a list make a committee (:class:`mace_ft_bench.calculators.committee.CommitteeCalculator`).
    device
        ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.
    dtype
        ``float64`` (the default for MACE models) or ``float32`` (faster; fit for molecular dynamics).
    head
        Name of the head of a model with several.
    accelerate
        ``auto`` (the fastest way that reproduces the plain one on the first structure), ``off`` (the plain one), or
        ``fused``, ``cueq``. MACE models only.
    neighbors
        When the neighbour list is built anew; by default when it may be incomplete. MACE models only.
    dispersion
        Add DFT-D3: a functional (``"pbe"``), options
        (:class:`mace_ft_bench.calculators.dispersion.D3Settings`), or True for the functional of the model's labels.
        All results of both parts are kept.
    allow_double_counting
        Add dispersion to a model whose labels contain it.
    allow_other_functional
        Add the dispersion of another functional than that of the labels.
    trust
        Allow unpickling a ``.model`` file, which runs whatever code its author put in. Of names, only foundation models
        need it, and only for their first use, which downloads and converts them.
    accept_licence
        Accept the terms of a foundation model under an academic licence; needed once.

    Raises
    ------
    UnknownNameError
        If the model, head, device or dtype does not exist; with a suggestion.
    UntrustedFileError
        If a ``.model`` file is given, or a foundation model used for the first time, without ``trust=True``.
    LicenceError
        If the terms of a foundation model have not been accepted.
    MissingWeightsError
        If a foundation model cannot be downloaded.
    ChecksumError
        If weights differ from their card.
    CheckpointError
        If a file cannot be read.
    CardError
        If dispersion would be counted twice or be that of another functional.
    MissingDependencyError
        If the model needs a package that is not installed, or an environment of its own that has not been made.
    WorkerError
        If the worker of a model in an environment of its own does not start.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from mace_ft_bench import get_calculator
    >>> atoms = bulk("Mo")
    >>> atoms.calc = get_calculator("mo-ft")
    >>> energy = atoms.get_potential_energy()
    """
    if dtype is not None:
        dtype = str(dtype).removeprefix("torch.")
        _check_option("dtype", dtype, DTYPES)
    options = _Options(resolve_device(str(device)), dtype, head, accelerate, neighbors)
    allowed = _Allowed(trust=trust, accept_licence=accept_licence)
    added = _Added(
        dispersion,
        allow_double_counting=allow_double_counting,
        allow_other_functional=allow_other_functional,
    )
    if isinstance(name_or_path, str | Path):
        return _single(name_or_path, options, allowed, added)
    from mace_ft_bench.calculators.committee import CommitteeCalculator  # noqa: PLC0415 - imports ASE's calculators

    return CommitteeCalculator([_single(member, options, allowed, added) for member in name_or_path])


def _single(name_or_path: str | Path, options: _Options, allowed: _Allowed, added: _Added) -> Calculator:
    if is_path(name_or_path):
        return added.to(_from_file(Path(name_or_path), options, trust=allowed.trust), None, options)
    card = find_model(str(name_or_path))
    if not card.is_mace:
        return added.to(_built_elsewhere(card, options), card, options)
    path = weights_path(card, trust=allowed.trust, accept_licence=allowed.accept_licence)
    return added.to(_mace(_load_weights(path, trust=False), card.name, options), card, options)


@dataclass(frozen=True)
class _Options:
    device: str
    dtype: str | None
    head: str | None
    accelerate: str
    neighbors: SkinSettings | None


@dataclass(frozen=True)
class _Allowed:
    trust: bool
    accept_licence: bool


@dataclass(frozen=True)
class _Added:
    """The dispersion to add to a model."""

    dispersion: str | D3Settings | bool | None
    allow_double_counting: bool
    allow_other_functional: bool

    def to(self, model: Calculator, card: ModelCard | None, options: _Options) -> Calculator:
        """Return the model, with dispersion if it is wanted and belongs to it."""
        if self.dispersion is None or self.dispersion is False:
            return model
        from mace_ft_bench.calculators.combined import CombinedCalculator, resolve_dispersion  # noqa: PLC0415 - slow
        from mace_ft_bench.calculators.dispersion import D3Calculator  # noqa: PLC0415 - slow to import

        settings = resolve_dispersion(
            card,
            self.dispersion,
            allow_double_counting=self.allow_double_counting,
            allow_other_functional=self.allow_other_functional,
        )
        if settings is None:
            return model
        # The fast engine stays on the processor, also beside a model on a GPU.
        device = options.device if settings.engine == "torch-dftd" else "cpu"
        return CombinedCalculator(model, D3Calculator.from_settings(settings, device))


def is_path(name_or_path: str | Path) -> bool:
    """Whether a model is given by path rather than by name."""
    path = Path(name_or_path)
    return (
        isinstance(name_or_path, Path)
        or path.suffix in {".safetensors", ".model"}
        or len(path.parts) > 1
        or path.is_file()
    )


def _from_file(path: Path, options: _Options, *, trust: bool) -> Calculator:
    if not path.is_file():
        raise UnknownNameError(f"{path} does not exist.", fix="check the path; names are listed by `mfb models`.")
    return _mace(_load_weights(path, trust=trust), path.stem, options)


def _load_weights(path: Path, *, trust: bool) -> Any:  # noqa: ANN401 - a torch module; torch is not imported here
    from mace_ft_bench.zoo import checkpoint  # noqa: PLC0415 - imports torch and mace

    if path.suffix == ".safetensors":
        return checkpoint.load_checkpoint(path)
    return checkpoint.load_mace_model(path, trust=trust)


def _mace(model: Any, name: str, options: _Options) -> Calculator:  # noqa: ANN401 - a torch module
    import torch  # noqa: PLC0415 - slow to import

    from mace_ft_bench.calculators.mace import MaceCalculator  # noqa: PLC0415 - imports torch and mace

    return MaceCalculator(
        model,
        name=name,
        device=options.device,
        dtype=getattr(torch, options.dtype or "float64"),
        head=options.head,
        accelerate=options.accelerate,
        neighbors=options.neighbors,
    )


def _built_elsewhere(card: ModelCard, options: _Options) -> Calculator:
    """Return the calculator of a model that is not ours: of a function, or of an environment of its own."""
    if options.accelerate not in {"auto", "off"} or options.neighbors is not None:
        raise CardError(f"{card.name} is no MACE model.", fix="leave accelerate and neighbors out.")
    chosen = choose_head(card.heads, options.head, model=card.name)
    calculator: Calculator = _factory(card)(card, options.device, options.dtype, chosen)
    return calculator


def _factory(card: ModelCard) -> Callable[[ModelCard, str, str | None, str], Any]:
    if card.kind == "isolated":
        from mace_ft_bench.calculators import isolated  # noqa: PLC0415 - imports ASE's calculators

        return isolated.build
    module, _, function = card.factory.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name not in {module, module.split(".")[0]}:
            raise MissingDependencyError(
                f"Model {card.name} needs the package {error.name}.", fix="install it, see the model's card."
            ) from error
        raise CardError(f'Model card "{card.name}" names no callable: {card.factory}.', fix="correct it.") from error
    return found


def resolve_device(device: str) -> str:
    """Return ``cpu`` or ``cuda`` for ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    UnknownNameError
        If ``cuda`` is asked for and torch has none, or the name is unknown.
    """
    _check_option("device", device.partition(":")[0], DEVICES)
    available = device != "cpu" and _has_cuda()
    if device.startswith("cuda") and not available:
        raise UnknownNameError(
            "No CUDA device is available to torch.", fix='use device="cpu", or install a CUDA build of torch.'
        )
    return "cuda" if available and device == "auto" else device.replace("auto", "cpu")


def _has_cuda() -> bool:
    if version("torch").endswith("+cpu"):
        return False  # says the name of the build; importing torch takes seconds, and a run may have nothing to do
    import torch  # noqa: PLC0415 - slow to import

    return torch.cuda.is_available()


def _check_option(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UnknownNameError(f'{option}="{value}" does not exist.', fix=suggestion(value, known))
