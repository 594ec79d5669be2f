"""The compiled loop that training adds to :mod:`mace_ft_bench.calculators.fused.kernels`, in its notation."""

# numba infers the types.
# mypy: ignore-errors

from __future__ import annotations

import numpy as np

from mace_ft_bench.calculators.fused.kernels import (
    _couplings,
    _hermite,
    _interpolate,
    _jit,
    _mix_back,
    _product_back,
)


@_jit
def _product_weights_back(x, terms, gradient, out):
    """Add the gradient of a symmetric contraction with respect to the weights of its monomials (T, C)."""
    for t in range(terms.shape[1]):
        q, i, j, k = np.uintp(terms[0, t]), np.uintp(terms[1, t]), np.uintp(terms[2, t]), np.uintp(terms[3, t])
        for c in range(x.shape[1]):
            out[t, c] += gradient[q, c] * x[i, c] * x[j, c] * x[k, c]


@_jit
def _spread(gradient, first, basis, out):
    """Add the transpose of an interpolation to six rows of the gradient of a radial table."""
    for row in range(6):
        factor = basis[row]
        r = np.uintp(first + row)
        for k in range(gradient.size):
            out[r, k] += factor * gradient[k]


@_jit
def layer_gradients(
    start,
    stop,
    species,
    pairs,
    radial,
    links,
    mixing_back,
    product_back,
    skip_back,
    sent,
    sent_row,
    message,
    hidden_gradient,
    before_gradient,
    message_gradient,
    contracted_gradient,
    product_gradient,
    table_gradient,
    sent_gradient,
):
    """Propagate the gradient of one layer to its weights, to what neighbours sent and to the layer before.

    ``message_gradient`` (N, M, C) and ``contracted_gradient`` (N, H, C) receive what the gradients of the channel
    matrices follow from. ``product_gradient`` (rows, T, C), ``table_gradient`` (the shape of the radial table) and
    ``sent_gradient`` (the shape of ``sent``) belong to the calling thread.
    """
    first_pair, active, neighbour, _, length, harmonics = pairs
    lowest, table_of, first_row, spacing, table = radial
    group_path, group_source, group_first, link_target, _, _, _ = links
    mix, mix_block, mix_target = mixing_back
    terms, product_weights, product_row, linear, linear_block = product_back
    skip_matrices, skip_block, skip_source = skip_back
    channels = hidden_gradient.shape[2]
    basis = np.empty(6, message.dtype)
    weights = np.empty(table.shape[1], message.dtype)
    of_weights = np.empty(table.shape[1], message.dtype)
    coupling = np.empty(link_target.size, message.dtype)
    summed = np.empty(channels, message.dtype)
    raw = np.empty((mix_target.size, channels), message.dtype)
    identity = np.arange(hidden_gradient.shape[1])
    for i in range(start, stop):
        z = species[i]
        tables = table_of[z]
        above = hidden_gradient[i]
        if skip_source.size:
            _mix_back(above, skip_matrices[z], skip_block, skip_source, 0, before_gradient[i])
        contracted = contracted_gradient[i]
        contracted[:] = 0
        _mix_back(above, linear, linear_block, identity, 0, contracted)
        gathered = message_gradient[i]
        gathered[:] = 0
        _product_back(message[i], terms, product_weights[product_row[z]], contracted, gathered)
        _product_weights_back(message[i], terms, contracted, product_gradient[product_row[z]])
        raw[:] = 0
        _mix_back(gathered, mix[min(z, mix.shape[0] - 1)], mix_block, mix_target, 0, raw)
        for p in range(first_pair[i], first_pair[i] + active[i]):
            j = neighbour[p]
            kind = tables[species[j]]
            place = (np.sqrt(length[p]) - lowest) / spacing[kind]
            knot = int(place)
            first = first_row[kind] + 3 * knot
            _hermite(place - knot, basis)
            _interpolate(table, first, basis, weights)
            _couplings(harmonics[p], links, coupling)
            of_weights[:] = 0
            s = np.uintp(sent_row[j])
            for g in range(group_path.size):
                w, h = np.uintp(group_path[g] * channels), np.uintp(group_source[g])
                for c in range(channels):
                    summed[c] = 0
                for k in range(group_first[g], group_first[g + 1]):
                    factor = coupling[k]
                    m = np.uintp(link_target[k])
                    for c in range(channels):
                        summed[c] += factor * raw[m, c]
                for c in range(channels):
                    of_weights[w + np.uintp(c)] += summed[c] * sent[s, h, c]
                    sent_gradient[s, h, c] += summed[c] * weights[w + np.uintp(c)]
            _spread(of_weights, first, basis, table_gradient)
