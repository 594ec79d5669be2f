"""Read the weights of a MACE model into the plain arrays that the compiled loops need.

Everything is read by asking the modules of the model what they do to unit vectors, not by repeating their
normalisation conventions; what is not understood is refused, and the model is then served by its own code.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch

from mace_ft_bench.calculators.fused.harmonics import Lift, lift
from mace_ft_bench.calculators.fused.radials import FixedRadials, Radials, has_density
from mace_ft_bench.calculators.fused.readouts import known
from mace_ft_bench.calculators.fused.repulsion import known_repulsion
from mace_ft_bench.torch_env import default_dtype, mace_environment

with mace_environment():
    from e3nn import o3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_HIGHEST_CORRELATION = 3
_ZERO = 1e-10

INTERACTIONS = {
    "RealAgnosticInteractionBlock",
    "RealAgnosticResidualInteractionBlock",
    "RealAgnosticDensityInteractionBlock",
    "RealAgnosticDensityResidualInteractionBlock",
}


Kind = TypeVar("Kind", np.ndarray, torch.Tensor)


class Mixing(NamedTuple, Generic[Kind]):
    """Channel matrices of an equivariant linear map, forward or transposed."""

    matrices: Kind
    """(..., blocks, C, C)."""
    block: np.ndarray
    """Matrix of each input component."""
    target: np.ndarray
    """Output component of each input component."""


class Links(NamedTuple):
    """Clebsch-Gordan couplings of the tensor product, grouped by (path, component of the sender)."""

    group_path: np.ndarray
    group_source: np.ndarray
    group_first: np.ndarray
    """First link of each group, and the end (G + 1,)."""
    link_target: np.ndarray
    """Raw message component of each link."""
    link_first: np.ndarray
    link_harmonic: np.ndarray
    link_value: np.ndarray


class Monomials(NamedTuple):
    """The symmetric contractions of a product basis, written out."""

    indices: np.ndarray
    """Target and three factors (4, T); the constant component fills up where there are fewer."""
    parts: list[tuple[int, int, torch.Tensor]]
    """Contraction, order and coefficients (terms, paths), one after the other along T."""


class Pattern(NamedTuple):
    """What of a layer does not depend on its weights."""

    links: Links
    monomials: Monomials
    agnostic: bool
    """Whether the product is the same for all elements."""
    density: bool


class LayerWeights(NamedTuple):
    """What of a layer depends on its weights."""

    up: Mixing[torch.Tensor]
    mixing: Mixing[torch.Tensor]
    product: torch.Tensor
    """(Z, T, C)."""
    linear: Mixing[torch.Tensor]
    skip: Mixing[torch.Tensor]


class Weights(NamedTuple):
    """What of a model depends on its weights, without radial functions and readouts."""

    embedding: torch.Tensor
    """(Z, C)."""
    layers: list[LayerWeights]


class Layer(NamedTuple):
    """One interaction with its product; the entries are what the kernels take, forward and backward."""

    up: Mixing[np.ndarray]
    """Mixes what is sent."""
    up_back: Mixing[np.ndarray]
    links: Links
    mixing: Mixing[np.ndarray]
    mixing_back: Mixing[np.ndarray]
    product: tuple[Any, ...]
    product_back: tuple[Any, ...]
    skip: Mixing[np.ndarray]
    skip_back: Mixing[np.ndarray]
    density: bool
    """Whether messages are divided by the density of neighbours plus one."""
    size: int
    """Message components, the constant one included."""
    hidden: int
    """Hidden components that the layer returns."""


class Tables(NamedTuple):
    """A whole model."""

    cutoff: float
    embedding: np.ndarray
    """Features of each element (Z, 1, C)."""
    lift: Lift
    components: int
    """Spherical harmonics (S,)."""
    layers: list[Layer]
    radials: Radials | FixedRadials


def refusal(model: torch.nn.Module) -> str | None:
    """Return why the fused kernel cannot serve a model, or None if it can."""
    checks = (
        (type(model).__name__ == "ScaleShiftMACE", f"class {type(model).__name__}"),
        (known_repulsion(model), "its pair repulsion"),
        (not hasattr(model, "joint_embedding"), "embeddings of additional features"),
        (all(type(item).__name__ in INTERACTIONS for item in _modules(model.interactions)), "its interaction blocks"),
        (all(known(item) for item in _modules(model.readouts)), "its readout blocks"),
        (len(_modules(model.readouts)) == len(_modules(model.interactions)), "its number of readouts"),
        (all(_contractions_known(item) for item in _modules(model.products)), "its product basis"),
        (all(_one_width(item) for item in _modules(model.interactions)), "irreps of several widths or parities"),
    )
    return next((f"the fused kernel does not know {what}" for good, what in checks if not good), None)


def _modules(container: Any) -> list[Any]:  # noqa: ANN401 - torch's container types are untyped here
    return list(container)


def _contractions_known(block: Any) -> bool:  # noqa: ANN401 - a block of mace
    if getattr(block, "cueq_config", None) is not None or not hasattr(block.symmetric_contractions, "contractions"):
        return False
    return all(item.correlation <= _HIGHEST_CORRELATION for item in block.symmetric_contractions.contractions)


def _one_width(block: Any) -> bool:  # noqa: ANN401 - a block of mace
    """All irreps have the same number of channels, natural parity, and messages run over every degree from 0."""
    groups = [o3.Irreps(irreps) for irreps in (block.edge_irreps, block.hidden_irreps, block.target_irreps)]
    natural = all(ir.p == (-1) ** ir.l for irreps in groups for _, ir in irreps)
    widths = {mul for irreps in groups for mul, _ in irreps}
    complete = [ir.l for _, ir in block.target_irreps] == list(range(block.target_irreps.lmax + 1))
    return natural and complete and len(widths) == 1


def read_tables(model: Any) -> Tables:  # noqa: ANN401 - a ScaleShiftMACE
    """Return the tables of a model that :func:`refusal` accepts, in the dtype of the model."""
    dtype = next(model.parameters()).dtype
    with default_dtype(dtype), torch.no_grad():
        patterns = read_patterns(model)
        weights = read_weights(model, patterns)
    return make_tables(model, patterns, weights, Radials(model))


def make_tables(model: Any, patterns: list[Pattern], weights: Weights, radials: Radials | FixedRadials) -> Tables:  # noqa: ANN401 - a ScaleShiftMACE
    """Put the tables together from what does and what does not depend on the weights of the model."""
    harmonics = model.interactions[0].edge_attrs_irreps
    elements = len(weights.embedding)
    layers = [_layer(*item, elements) for item in zip(patterns, weights.layers, strict=True)]
    embedding = np.ascontiguousarray(_numpy(weights.embedding)[:, None, :])
    lifted = lift(harmonics.lmax, embedding.dtype)
    return Tables(float(model.r_max), embedding, lifted, harmonics.dim, layers, radials)


def read_patterns(model: Any) -> list[Pattern]:  # noqa: ANN401 - a ScaleShiftMACE
    """Return what couples with what in every layer."""
    return [
        Pattern(
            links=_links(interaction.conv_tp, torch.get_default_dtype()),
            monomials=_monomials(block.symmetric_contractions),
            agnostic=bool(getattr(block, "use_agnostic_product", False)),
            density=has_density(interaction),
        )
        for interaction, block in zip(model.interactions, model.products, strict=True)
    ]


def read_weights(model: Any, patterns: list[Pattern]) -> Weights:  # noqa: ANN401 - a ScaleShiftMACE
    """Return the tables that depend on the weights of the model, radial functions aside, as differentiable tensors."""
    elements = torch.eye(len(model.atomic_numbers), dtype=torch.get_default_dtype())
    layers = []
    for interaction, block, pattern in zip(model.interactions, model.products, patterns, strict=True):
        layers.append(
            LayerWeights(
                up=_mixing(interaction.linear_up, interaction.node_feats_irreps, interaction.edge_irreps),
                mixing=_message_mixing(interaction),
                product=_product_weights(block.symmetric_contractions, pattern.monomials),
                linear=_mixing(block.linear, block.linear.irreps_in, block.linear.irreps_out),
                skip=_skip(interaction, residual=block.use_sc and _is_residual(interaction)),
            )
        )
    return Weights(model.node_embedding(elements), layers)


def _layer(pattern: Pattern, weights: LayerWeights, elements: int) -> Layer:
    up, mixing, linear, skip = (_as_arrays(item) for item in (weights.up, weights.mixing, weights.linear, weights.skip))
    product = np.ascontiguousarray(_numpy(weights.product))
    rows = np.zeros(elements, dtype=np.int64) if pattern.agnostic else np.arange(elements)
    terms = (pattern.monomials.indices, product, rows)
    return Layer(
        up=up,
        up_back=_transposed(up),
        links=pattern.links,
        mixing=mixing,
        mixing_back=_transposed(mixing),
        product=(*terms, *linear[:2]),
        product_back=(*terms, *_transposed(linear)[:2]),
        skip=skip,
        skip_back=_transposed(skip),
        density=pattern.density,
        size=int(mixing.target.max()) + 2,
        hidden=linear.block.size,
    )


def _as_arrays(mixing: Mixing[torch.Tensor]) -> Mixing[np.ndarray]:
    return Mixing(np.ascontiguousarray(_numpy(mixing.matrices)), mixing.block, mixing.target)


def _blocks(irreps: o3.Irreps) -> Iterator[tuple[int, o3.Irrep, int, int]]:
    """Yield width, irrep, first column (channel-major, as e3nn) and first component of every block."""
    column = component = 0
    for mul, ir in irreps:
        yield mul, ir, column, component
        column += mul * ir.dim
        component += ir.dim


def _mixing(
    function: Callable[[torch.Tensor], torch.Tensor], irreps_in: o3.Irreps, irreps_out: o3.Irreps
) -> Mixing[torch.Tensor]:
    """Read the channel matrices of an equivariant linear map; input irreps without an output must come last."""
    matrices: list[torch.Tensor] = []
    block: list[int] = []
    target: list[int] = []
    outputs = {ir: (column, component) for _, ir, column, component in _blocks(irreps_out)}
    for mul, ir, column, _ in _blocks(irreps_in):
        if ir not in outputs:
            continue
        probe = torch.zeros(mul, irreps_in.dim, dtype=torch.get_default_dtype())
        probe[torch.arange(mul), column + torch.arange(mul) * ir.dim] = 1
        first, component = outputs[ir]
        matrices.append(function(probe)[:, first : first + mul * ir.dim : ir.dim])
        block += [len(matrices) - 1] * ir.dim
        target += range(component, component + ir.dim)
    return Mixing(torch.stack(matrices), np.array(block), np.array(target))


def _transposed(mixing: Mixing[np.ndarray]) -> Mixing[np.ndarray]:
    return mixing._replace(matrices=np.ascontiguousarray(np.swapaxes(mixing.matrices, -1, -2)))


def _message_mixing(interaction: Any) -> Mixing[torch.Tensor]:  # noqa: ANN401 - a block of mace
    """Read linear map, normalisation and (without a residual connection) the map by element: (Z or 1, B, C, C)."""
    neighbours = 1.0 if has_density(interaction) else interaction.avg_num_neighbors

    def normalised(values: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = interaction.linear(values) / neighbours
        return mixed

    linear = _mixing(normalised, interaction.linear.irreps_in, interaction.target_irreps)
    if _is_residual(interaction):
        return linear._replace(matrices=linear.matrices[None])
    selector = _selector(interaction.skip_tp)
    first = np.unique(linear.block, return_index=True)[1]
    of_block = selector.matrices[:, selector.block[linear.target[first]]]
    return linear._replace(matrices=linear.matrices @ of_block)


def _skip(interaction: Any, *, residual: bool) -> Mixing[torch.Tensor]:  # noqa: ANN401 - a block of mace
    """Read the residual connection by element (Z, B, C, C); without components if there is none."""
    if residual:
        return _selector(interaction.skip_tp)
    width = o3.Irreps(interaction.node_feats_irreps)[0].mul
    nothing = np.zeros(0, dtype=np.int64)
    return Mixing(torch.zeros(1, 1, width, width, dtype=torch.get_default_dtype()), nothing, nothing)


def _is_residual(interaction: Any) -> bool:  # noqa: ANN401 - a block of mace
    return "Residual" in type(interaction).__name__


def _selector(product: Any) -> Mixing[torch.Tensor]:  # noqa: ANN401 - an e3nn tensor product
    """Read the channel matrices by element (Z, B, C, C) of a tensor product with the elements.

    Its weights are taken as they are, times a factor probed with weights of one: evaluating it for every element takes
    half a minute for a model of 89 elements.
    """
    matrices: list[torch.Tensor] = []
    block: list[int] = []
    target: list[int] = []
    inputs, outputs = list(_blocks(product.irreps_in1)), list(_blocks(product.irreps_out))
    element = torch.eye(product.irreps_in2.dim, dtype=torch.get_default_dtype())[:1]
    for index, rule in sorted(enumerate(product.instructions), key=lambda item: item[1].i_in1):
        _, ir, column, _ = inputs[rule.i_in1]
        _, _, first, component = outputs[rule.i_out]
        probe = torch.zeros(1, product.irreps_in1.dim, dtype=torch.get_default_dtype())
        probe[0, column] = 1
        factor = product(probe, element, torch.ones_like(product.weight))[0, first]
        weights = factor * product.weight_view_for_instruction(index)
        matrices.append(weights.permute(1, 0, 2))
        block += [len(matrices) - 1] * ir.dim
        target += range(component, component + ir.dim)
    return Mixing(torch.stack(matrices, dim=1), np.array(block), np.array(target))


def _links(product: Any, dtype: torch.dtype) -> Links:  # noqa: ANN401 - an e3nn tensor product
    groups: dict[tuple[int, int], dict[int, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    coefficients = _path_coefficients(product, dtype)
    senders, results = [list(_blocks(irreps)) for irreps in (product.irreps_in1, product.irreps_out)]
    for path, rule in enumerate(product.instructions):
        (_, _, _, source), (_, ir, column, target) = senders[rule.i_in1], results[rule.i_out]
        of_path = coefficients[source : source + senders[rule.i_in1][1].dim, :, column : column + ir.dim]
        for m1, harmonic, m3 in np.argwhere(np.abs(of_path) > _ZERO).tolist():
            groups[path, source + m1][target + m3].append((harmonic, float(of_path[m1, harmonic, m3])))
    links = [(target, terms) for group in groups.values() for target, terms in group.items()]
    terms = [term for _, group in links for term in group]
    return Links(
        group_path=np.array([path for path, _ in groups]),
        group_source=np.array([source for _, source in groups]),
        group_first=_starts(len(group) for group in groups.values()),
        link_target=np.array([target for target, _ in links]),
        link_first=_starts(len(group) for _, group in links),
        link_harmonic=np.array([harmonic for harmonic, _ in terms]),
        link_value=np.array([value for _, value in terms], dtype=_dtype(dtype)),
    )


def _path_coefficients(product: Any, dtype: torch.dtype) -> np.ndarray:  # noqa: ANN401 - an e3nn tensor product
    """Return what the first channel of each component of the sender gives with each harmonic, for weights of one.

    Probed, not computed: a model made in single precision keeps rounded coefficients when it is converted to double.
    """
    columns = [column + m for _, ir, column, _ in _blocks(product.irreps_in1) for m in range(ir.dim)]
    features = torch.zeros(len(columns), product.irreps_in1.dim, dtype=dtype)
    features[torch.arange(len(columns)), torch.tensor(columns)] = 1
    harmonics = torch.eye(product.irreps_in2.dim, dtype=dtype)
    count = len(columns) * len(harmonics)
    pairs = features.repeat_interleave(len(harmonics), dim=0), harmonics.repeat(len(columns), 1)
    values = product(*pairs, torch.ones(count, product.weight_numel, dtype=dtype))
    return _numpy(values).reshape(len(columns), len(harmonics), -1)


def _starts(lengths: Iterable[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(list(lengths))]).astype(np.int64)


def _monomials(contractions: Any) -> Monomials:  # noqa: ANN401 - a block of mace
    """Write the contractions out as monomials of the message components."""
    indices: list[tuple[int, ...]] = []
    parts = []
    target = 0
    for number, item in enumerate(contractions.contractions):
        scalar = item.U_tensors(1).dim() == 2  # noqa: PLR2004 - scalars lack the axis of components
        for component in range(1 if scalar else len(item.U_tensors(1))):
            for order in range(item.correlation, 0, -1):
                tensor = item.U_tensors(order) if scalar else item.U_tensors(order)[component]
                factors, coefficients = _summed(_numpy(tensor))
                constant = tensor.shape[0]
                padding = (constant,) * (_HIGHEST_CORRELATION - order)
                indices += [(target, *places, *padding) for places in factors]
                parts.append((number, order, torch.from_numpy(coefficients).to(tensor)))
            target += 1
    return Monomials(np.ascontiguousarray(np.array(indices).T), parts)


def _summed(tensor: np.ndarray) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """Return the different products of factors in a tensor (..., paths), and their coefficients (T, paths)."""
    summed: dict[tuple[int, ...], np.ndarray] = {}
    for place in zip(*np.nonzero(np.abs(tensor).max(axis=-1) > _ZERO), strict=True):
        factors = tuple(sorted(int(k) for k in place))
        summed[factors] = summed.get(factors, 0) + tensor[place]
    return list(summed), np.array([*summed.values()]).reshape(-1, tensor.shape[-1])


def _product_weights(contractions: Any, monomials: Monomials) -> torch.Tensor:  # noqa: ANN401 - a block of mace
    """Return the weights of the monomials (Z, T, C)."""
    weights = []
    for number, order, coefficients in monomials.parts:
        item = contractions.contractions[number]
        paths = item.weights_max if order == item.correlation else item.weights[item.correlation - 1 - order]
        weights.append(torch.einsum("tp,zpc->ztc", coefficients, paths))
    return torch.cat(weights, dim=1)


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array


def _dtype(dtype: torch.dtype) -> np.dtype:
    return np.dtype(str(dtype).removeprefix("torch."))
