"""MACE weights without pickles: one safetensors file with a JSON configuration in its header.

A ``.model`` file of MACE is a pickled Python object, and unpickling runs code. Here the tensors are stored as
safetensors, the constructor arguments as JSON, and the model is rebuilt from classes of the installed mace-torch,
chosen by name from its own lists. The round trip is exact: every parameter and buffer is stored bit by bit.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import re
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from mace_ft_bench.atomic import replacing
from mace_ft_bench.errors import CheckpointError, UntrustedFileError, suggestion
from mace_ft_bench.torch_env import default_dtype, mace_environment

with mace_environment():
    from e3nn import o3
    from mace import modules
    from mace.modules import symmetric_contraction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FORMAT = "mace_ft_bench.checkpoint"
VERSION = 2
_READABLE_VERSIONS = ("1", "2")
"""Version 1 stored the zeros of coupling tensors, too."""

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_CLASS_KEYS: dict[str, Mapping[str, Any]] = {
    "interaction_cls": modules.interaction_classes,
    "interaction_cls_first": modules.interaction_classes,
    "readout_cls": modules.readout_classes,
    "gate": modules.gate_dict,
}
_BUILD_ERRORS = (KeyError, TypeError, ValueError, AssertionError, IndexError, AttributeError, ZeroDivisionError)
"""What constructors of mace and e3nn raise on nonsense."""

_COUPLING = re.compile(r"products\.(\d+)\.symmetric_contractions\.contractions\.(\d+)\.U_matrix_(\d+)")

_IRREPS_KEYS = ("hidden_irreps", "MLP_irreps", "edge_irreps")
_UNSUPPORTED_KEYS = ("embedding_specs", "cueq_config")


def save_checkpoint(model: torch.nn.Module, path: Path) -> None:
    """Write a MACE model as safetensors with its configuration, atomically.

    Parameters
    ----------
    model
        A ``ScaleShiftMACE`` in the e3nn layout.
    path
        Target; an existing file is replaced.

    Raises
    ------
    CheckpointError
        If the model is of another kind, or uses parts that cannot be described.
    """
    config = describe_model(model)
    _refuse_incomplete(model, config)
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
    couplings = {name: list(tensor.shape) for name, tensor in state.items() if _COUPLING.fullmatch(name)}
    for name in couplings:
        state |= _sparse(name, state.pop(name))
    header = {"format": FORMAT, "version": str(VERSION), "config": _dump(config), "couplings": json.dumps(couplings)}
    with replacing(path) as temporary:
        temporary.write_bytes(save(state, metadata=header))  # save_file makes files that only their owner may read


def load_checkpoint(path: Path) -> torch.nn.Module:
    """Rebuild the MACE model of a safetensors file on the CPU, in its stored dtype. No code of the file is run.

    Raises
    ------
    CheckpointError
        If the file is damaged, of another format, or of a newer version.
    """
    config, state = _read(path)
    model = _build_from(path, config, state)
    _refuse_contradiction(path, config, state)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: the tensors do not fit the configuration: {error}",
            fix="export the model again with this version of mace-torch.",
        ) from error
    return model.eval()


def read_config(path: Path) -> dict[str, Any]:
    """Return the configuration of a safetensors file without building the model.

    Raises
    ------
    CheckpointError
        If the file is damaged, of another format, or of a newer version.
    """
    return _read(path, tensors=False)[0]


def load_mace_model(path: Path, *, trust: bool) -> torch.nn.Module:
    """Unpickle a MACE ``.model`` file on the CPU.

    Raises
    ------
    UntrustedFileError
        Unless ``trust`` is true.
    CheckpointError
        If the file does not hold a MACE model.
    """
    if not trust:
        raise UntrustedFileError(
            f"{path} is a pickle: loading it runs whatever code its author put in, with your rights.",
            fix="pass trust=True (--trust) if you know where the file comes from, or convert it once with "
            "`mfb models convert` and use the .safetensors file from then on.",
        )
    with mace_environment():
        try:
            model = torch.load(path, map_location="cpu", weights_only=False)
        except Exception as error:  # unpickling foreign bytes can raise anything at all
            raise CheckpointError(f"{path} cannot be unpickled: {error}.", fix="check the file.") from error
    if not isinstance(model, torch.nn.Module):
        raise CheckpointError(f"{path} holds a {type(model).__name__}, not a MACE model.", fix="give a .model file.")
    _complete_old_contractions(model)
    _complete_old_blocks(model)
    return model.eval()


def _complete_old_blocks(model: torch.nn.Module) -> None:
    """Add the attributes of blocks that releases before 0.3.10 did not store, with the values that they then had."""
    for module in model.modules():
        if isinstance(module, modules.blocks.InteractionBlock) and not hasattr(module, "edge_irreps"):
            module.edge_irreps = module.node_feats_irreps
        if isinstance(module, modules.blocks.NonLinearReadoutBlock) and not hasattr(module, "num_heads"):
            module.num_heads = 1


def _complete_old_contractions(model: torch.nn.Module) -> None:
    """Add the flags of vanishing paths, which today's mace-torch stores and expects and earlier ones did not write.

    Releases 0.3.6 and 0.3.10 wrote none, and many public models are of that time; a path vanishes where its coupling
    matrix is zero.
    """
    for module in model.modules():
        if type(module).__name__ != "Contraction" or hasattr(module, "weights_max_zeroed"):
            continue
        orders = range(1, cast("int", module.correlation) + 1)
        vanish = [not bool(getattr(module, f"U_matrix_{order}").any()) for order in orders]
        for index, flag in enumerate(vanish):
            name = "max" if index == len(vanish) - 1 else str(index)
            module.register_buffer(f"weights_{name}_zeroed", torch.tensor(flag))


def save_mace_model(model: torch.nn.Module, path: Path) -> None:
    """Write a model in MACE's own pickled ``.model`` form, for tools that read only that, atomically."""
    with replacing(path) as temporary, mace_environment(), temporary.open("wb") as file:
        torch.save(model, file)


def _dump(config: Mapping[str, Any]) -> str:
    try:
        return json.dumps(config, sort_keys=True)
    except TypeError as error:
        raise CheckpointError(
            f"The configuration of the model holds objects: {error}.", fix="keep the .model file."
        ) from error


def _widest_dtype(model: torch.nn.Module) -> str:
    """Return the dtype in which every parameter and buffer fits exactly; old models mix them."""
    state = model.state_dict().values()
    wide = any(tensor.dtype == torch.float64 for tensor in state)
    return "float64" if wide else str(next(model.parameters()).dtype).removeprefix("torch.")


def _refuse_incomplete(model: torch.nn.Module, config: Mapping[str, Any]) -> None:
    """Refuse a model whose configuration does not rebuild it, before a file exists that cannot be read."""
    try:
        build_model(config).load_state_dict(model.state_dict(), strict=True)
    except (*_BUILD_ERRORS, RuntimeError) as error:
        raise CheckpointError(
            f"The model uses options that its configuration does not describe: {error}",
            fix="keep the .model file; this architecture is not supported yet.",
        ) from error


def describe_model(model: torch.nn.Module) -> dict[str, Any]:
    """Return the constructor arguments of a ``ScaleShiftMACE`` as plain JSON data.

    Raises
    ------
    CheckpointError
        If the model is of another class or uses embeddings or cuEquivariance layouts.
    """
    with mace_environment():
        from mace.tools.scripts_utils import extract_config_mace_model  # noqa: PLC0415 - slow, and loading does without

        try:
            config = extract_config_mace_model(model)
        except AttributeError as error:
            raise CheckpointError(
                f"The architecture of the model cannot be described: {error}.", fix="keep the .model file."
            ) from error
    if "error" in config or type(model).__name__ != "ScaleShiftMACE":
        raise CheckpointError(
            f"Models of class {type(model).__name__} are not supported.",
            fix="use a ScaleShiftMACE (every public MACE foundation model is one).",
        )
    for key in _UNSUPPORTED_KEYS:
        if config.pop(key, None) is not None:
            raise CheckpointError(f'The model sets "{key}".', fix="convert it to the plain e3nn form first.")
    config["dtype"] = _widest_dtype(model)
    return {key: _to_plain(key, value) for key, value in config.items()}


def build_model(config: Mapping[str, Any], state: Mapping[str, torch.Tensor] | None = None) -> torch.nn.Module:
    """Return a ``ScaleShiftMACE`` with random weights from :func:`describe_model`'s data.

    Parameters
    ----------
    config
        What :func:`describe_model` returned.
    state
        Tensors that will be loaded into the model; its coupling tensors are then not computed, which takes seconds at
        degree 4, only to be overwritten.
    """
    arguments = dict(config)
    dtype = _DTYPES[arguments.pop("dtype")]
    for key, known in _CLASS_KEYS.items():
        arguments[key] = _lookup(key, arguments[key], known)
    for key in _IRREPS_KEYS:
        arguments[key] = None if arguments[key] is None else o3.Irreps(arguments[key])
    with mace_environment(), default_dtype(dtype), _couplings_from(state or {}):
        return modules.ScaleShiftMACE(**arguments)


def copy_model(model: Any) -> Any:  # noqa: ANN401 - a ScaleShiftMACE
    """Return a deep copy; e3nn's compiled parts copy themselves through TorchScript, which warns."""
    with mace_environment():
        return copy.deepcopy(model)


@contextlib.contextmanager
def _couplings_from(state: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Let mace take its coupling tensors from ``state``, in the order in which it builds them."""
    found = sorted((tuple(map(int, match.groups())), name) for name in state if (match := _COUPLING.fullmatch(name)))
    stored = iter([state[name] for _, name in found])
    compute = symmetric_contraction.U_matrix_real  # type: ignore[attr-defined]  # imported there, not re-exported

    def take(*arguments: Any, **options: Any) -> list[torch.Tensor]:  # noqa: ANN401 - passed on
        tensor = next(stored, None)
        return [tensor] if tensor is not None else compute(*arguments, **options)

    symmetric_contraction.U_matrix_real = take  # type: ignore[attr-defined]
    try:
        yield
    finally:
        symmetric_contraction.U_matrix_real = compute  # type: ignore[attr-defined]


def _build_from(path: Path, config: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    try:
        return build_model(config, state)
    except (*_BUILD_ERRORS, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: the configuration describes no model: {error!r}.", fix="export the model again."
        ) from error


def _refuse_contradiction(path: Path, config: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> None:
    """Compare the elements and the cutoff, which stand in the configuration and among the tensors."""
    tensors = {name: state[name].tolist() for name in ("atomic_numbers", "r_max") if name in state}
    expected = {name: config[name] for name in tensors}
    if tensors != expected:
        raise CheckpointError(
            f"{path}: tensors say {tensors}, the configuration says {expected}.", fix="get the file again."
        )


def _lookup(key: str, name: str, known: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a class or a function
    if name not in known:
        raise CheckpointError(f'Unknown {key} "{name}".', fix=suggestion(name, known))
    return known[name]


def _to_plain(key: str, value: Any) -> Any:  # noqa: ANN401 - constructor arguments are of many types
    if key == "gate":
        return next((name for name, gate in modules.gate_dict.items() if gate is value), str(value))
    if key == "heads":
        return list(value)
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, o3.Irreps):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


def _read(path: Path, *, tensors: bool = True) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist.", fix="check the path.") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}.", fix="get it again.") from error
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path} was not written by mace_ft_bench.", fix="convert it with `mfb models convert`.")
    if header.get("version") not in _READABLE_VERSIONS:
        raise CheckpointError(f"{path} has format version {header.get('version')}.", fix="update mace_ft_bench.")
    try:
        config = json.loads(header["config"])
    except (KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} has no readable configuration: {error!r}.", fix="get it again.") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} has a {type(config).__name__} for a configuration.", fix="get it again.")
    return config, _with_couplings(path, header, state) if tensors else state


def _sparse(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the elements of a coupling tensor that are not zero: at degree 4 fewer than one of a hundred."""
    flat = tensor.flatten()
    places = ((flat != 0) | flat.signbit()).nonzero().flatten()
    return {f"{name}.places": places.to(torch.int32), f"{name}.values": flat[places]}


def _with_couplings(
    path: Path, header: Mapping[str, str], state: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    found = dict(state)
    try:
        for name, shape in json.loads(header.get("couplings", "{}")).items():
            places, values = found.pop(f"{name}.places").long(), found.pop(f"{name}.values")
            found[name] = torch.zeros(math.prod(shape), dtype=values.dtype).scatter(0, places, values).reshape(shape)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} has unreadable coupling tensors: {error}.", fix="get it again.") from error
    return found
