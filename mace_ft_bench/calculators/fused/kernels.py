"""The compiled loops of the fused MACE kernel.

Every function works on the atoms ``start <= i < stop`` and releases the interpreter lock, so that a pool of threads
can share the atoms; what several threads write (gradients of neighbours) goes to accumulators of their own.

Shapes: N atoms, P candidate pairs sorted by receiver, S spherical harmonics, C channels, K paths of the tensor
product, G groups (path, component of the sender), R raw message components, M message components, H hidden
components, Z elements. Features are (atom, component, channel) with the channels contiguous: every innermost
loop runs over channels and is vectorised.

The functions are longer than elsewhere in the package: a call inside the innermost loops would cost more than it
explains. Inside them arrays are indexed by all their axes, and by unsigned integers: a view of a row costs two atomic
counts of references, a signed index a test of its sign. Types of arguments are compiled for float32 and float64 alike.
"""

# numba infers the types.
# mypy: ignore-errors

from __future__ import annotations

import numba
import numpy as np

_jit = numba.njit(
    nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"}, boundscheck=False
)


@_jit
def pair_geometry(
    start,
    stop,
    positions,
    structure,
    cells,
    cutoff,
    first_pair,
    sender,
    shift,
    lift,
    active,
    neighbour,
    unit,
    length,
    harmonics,
):
    """Write the pairs within the cutoff: neighbour, unit vector, length and spherical harmonics; return the shortest.

    ``lift`` lists how each harmonic follows from those of one degree less (:mod:`harmonics`).
    """
    target, axis, source, value, _ = lift
    shortest = np.inf
    for i in range(start, stop):
        slot = first_pair[i]
        cell = cells[structure[i]]
        for p in range(first_pair[i], first_pair[i + 1]):
            j = sender[p]
            x = positions[i, 0] - positions[j, 0]
            y = positions[i, 1] - positions[j, 1]
            z = positions[i, 2] - positions[j, 2]
            for a in range(3):
                s = shift[p, a]
                if s != 0:
                    x -= s * cell[a, 0]
                    y -= s * cell[a, 1]
                    z -= s * cell[a, 2]
            distance = np.sqrt(x * x + y * y + z * z)
            if distance >= cutoff:
                continue
            shortest = min(shortest, distance)
            if distance == 0.0:
                continue
            neighbour[slot] = j
            length[slot] = distance
            unit[slot, 0] = x / distance
            unit[slot, 1] = y / distance
            unit[slot, 2] = z / distance
            for s in range(1, harmonics.shape[1]):
                harmonics[slot, s] = 0
            harmonics[slot, 0] = 1
            for t in range(target.size):
                harmonics[slot, target[t]] += value[t] * unit[slot, axis[t]] * harmonics[slot, source[t]]
            slot += 1
        active[i] = slot - first_pair[i]
    return shortest


@_jit
def mark_pairs(start, stop, species, first_pair, active, neighbour, known, missing):
    """Set ``missing[y, z]`` (Z, Z) for every pair of elements within the cutoff that is not ``known``."""
    for i in range(start, stop):
        row = known[species[i]]
        for p in range(first_pair[i], first_pair[i] + active[i]):
            z = species[neighbour[p]]
            if not row[z]:
                missing[species[i], z] = True


@_jit
def _hermite(x, basis):
    """Quintic Hermite basis at 0 <= x <= 1 for (f, h f', h^2 f'') at the left, then at the right end."""
    x2 = x * x
    x3 = x2 * x
    x4 = x3 * x
    x5 = x4 * x
    basis[0] = 1 - 10 * x3 + 15 * x4 - 6 * x5
    basis[1] = x - 6 * x3 + 8 * x4 - 3 * x5
    basis[2] = 0.5 * x2 - 1.5 * x3 + 1.5 * x4 - 0.5 * x5
    basis[3] = 10 * x3 - 15 * x4 + 6 * x5
    basis[4] = -4 * x3 + 7 * x4 - 3 * x5
    basis[5] = 0.5 * x3 - x4 + 0.5 * x5


@_jit
def _hermite_slope(x, scale, basis):
    """Return ``scale`` times the derivative of the basis with respect to x in ``basis``."""
    x2 = x * x
    x3 = x2 * x
    x4 = x3 * x
    basis[0] = scale * (-30 * x2 + 60 * x3 - 30 * x4)
    basis[1] = scale * (1 - 18 * x2 + 32 * x3 - 15 * x4)
    basis[2] = scale * (x - 4.5 * x2 + 6 * x3 - 2.5 * x4)
    basis[3] = scale * (30 * x2 - 60 * x3 + 30 * x4)
    basis[4] = scale * (-12 * x2 + 28 * x3 - 15 * x4)
    basis[5] = scale * (1.5 * x2 - 4 * x3 + 2.5 * x4)


@_jit
def _interpolate(table, first, basis, out):
    """Sum six rows of a radial table, from ``first``, with the weights of the basis."""
    b0, b1, b2, b3, b4, b5 = basis[0], basis[1], basis[2], basis[3], basis[4], basis[5]
    r0, r1, r2 = np.uintp(first), np.uintp(first + 1), np.uintp(first + 2)
    r3, r4, r5 = np.uintp(first + 3), np.uintp(first + 4), np.uintp(first + 5)
    for k in range(out.size):
        left = b0 * table[r0, k] + b1 * table[r1, k] + b2 * table[r2, k]
        out[k] = left + b3 * table[r3, k] + b4 * table[r4, k] + b5 * table[r5, k]


@_jit
def _interpolate_both(table, first, basis, rise, out, slopes):
    """Do what :func:`_interpolate` does for values and, with the weights ``rise``, for slopes."""
    b0, b1, b2, b3, b4, b5 = basis[0], basis[1], basis[2], basis[3], basis[4], basis[5]
    d0, d1, d2, d3, d4, d5 = rise[0], rise[1], rise[2], rise[3], rise[4], rise[5]
    r0, r1, r2 = np.uintp(first), np.uintp(first + 1), np.uintp(first + 2)
    r3, r4, r5 = np.uintp(first + 3), np.uintp(first + 4), np.uintp(first + 5)
    for k in range(out.size):
        f0, f1, f2, f3, f4, f5 = table[r0, k], table[r1, k], table[r2, k], table[r3, k], table[r4, k], table[r5, k]
        out[k] = b0 * f0 + b1 * f1 + b2 * f2 + b3 * f3 + b4 * f4 + b5 * f5
        slopes[k] = d0 * f0 + d1 * f1 + d2 * f2 + d3 * f3 + d4 * f4 + d5 * f5


@_jit
def _add_product(vector, matrices, block, out, target):
    """Add ``vector @ matrices[block]`` to ``out[target]``, four terms at a time to load and store it less often."""
    b, o = np.uintp(block), np.uintp(target)
    whole = vector.size - vector.size % 4
    for k in range(0, whole, 4):
        k0, k1, k2, k3 = np.uintp(k), np.uintp(k + 1), np.uintp(k + 2), np.uintp(k + 3)
        f0, f1, f2, f3 = vector[k0], vector[k1], vector[k2], vector[k3]
        for c in range(out.shape[1]):
            first = f0 * matrices[b, k0, c] + f1 * matrices[b, k1, c]
            out[o, c] += first + f2 * matrices[b, k2, c] + f3 * matrices[b, k3, c]
    for k in range(whole, vector.size):
        for c in range(out.shape[1]):
            out[o, c] += vector[k] * matrices[b, np.uintp(k), c]


@_jit
def _mix(x, matrices, block, target, offset, out):
    """Add ``x[r] @ matrices[block[r]]`` to ``out[target[r] + offset]``."""
    for r in range(target.size):
        _add_product(x[r], matrices, block[r], out, target[r] + offset)


@_jit
def _mix_back(gradient, matrices, block, target, offset, out):
    """Add the transpose of :func:`_mix` applied to ``gradient`` to ``out``; ``matrices`` are transposed already."""
    for r in range(target.size):
        _add_product(gradient[target[r] + offset], matrices, block[r], out, r)


@_jit
def _couplings(harmonics, links, coupling):
    """Contract the Clebsch-Gordan coefficients of every link with the harmonics of one pair."""
    _, _, _, _, first, source, value = links
    for k in range(coupling.size):
        total = value[0] * 0
        for t in range(first[k], first[k + 1]):
            total += value[t] * harmonics[source[t]]
        coupling[k] = total


@_jit
def _product(x, terms, weights, out):
    """Add the symmetric contraction of one atom: ``weights * x_i x_j x_k`` to its target; ``x`` ends with ones."""
    for t in range(terms.shape[1]):
        q, i, j, k = np.uintp(terms[0, t]), np.uintp(terms[1, t]), np.uintp(terms[2, t]), np.uintp(terms[3, t])
        for c in range(x.shape[1]):
            out[q, c] += weights[t, c] * x[i, c] * x[j, c] * x[k, c]


@_jit
def _product_back(x, terms, weights, gradient, out):
    """Add the gradient of :func:`_product` with respect to ``x`` to ``out``, one row after the other."""
    constant = np.uintp(x.shape[0] - 1)
    for t in range(terms.shape[1]):
        q, i, j, k = np.uintp(terms[0, t]), np.uintp(terms[1, t]), np.uintp(terms[2, t]), np.uintp(terms[3, t])
        for c in range(x.shape[1]):
            out[i, c] += gradient[q, c] * weights[t, c] * x[j, c] * x[k, c]
        if j != constant:
            for c in range(x.shape[1]):
                out[j, c] += gradient[q, c] * weights[t, c] * x[i, c] * x[k, c]
        if k != constant:
            for c in range(x.shape[1]):
                out[k, c] += gradient[q, c] * weights[t, c] * x[i, c] * x[j, c]


@_jit
def layer_forward(
    start,
    stop,
    species,
    pairs,
    radial,
    links,
    mixing,
    product,
    skip,
    sent,
    sent_row,
    before,
    message,
    hidden,
    share,
    unmixed,
    products,
):
    """Compute the messages and the new hidden features of one layer.

    ``sent`` (rows, H, C) are the features that neighbours send, row ``sent_row[j]`` for atom j; ``before`` (N, H, C)
    the hidden features of the layer before, which the skip connection keeps. ``share`` (N,) becomes one over the
    density of neighbours plus one, by which messages are multiplied; it has no entries if they are not. ``unmixed``
    (N, R, C) and ``products`` (N, H, C) receive messages before and products after their step, for gradients of
    weights; they have no entries where nobody asks.
    """
    first_pair, active, neighbour, _, length, harmonics = pairs
    lowest, table_of, first_row, spacing, table = radial
    group_path, group_source, group_first, link_target, _, _, _ = links
    mix, mix_block, mix_target = mixing
    terms, product_weights, product_row, linear, linear_block = product
    skip_matrices, skip_block, skip_source = skip
    channels = hidden.shape[2]
    basis = np.empty(6, message.dtype)
    weights = np.empty(table.shape[1], message.dtype)
    coupling = np.empty(link_target.size, message.dtype)
    carried = np.empty(channels, message.dtype)
    raw = np.empty((mix_target.size, channels), message.dtype)
    contracted = np.empty((hidden.shape[1], channels), message.dtype)
    identity = np.arange(hidden.shape[1])
    for i in range(start, stop):
        z = species[i]
        tables = table_of[z]
        raw[:] = 0
        density = 0.0
        for p in range(first_pair[i], first_pair[i] + active[i]):
            j = neighbour[p]
            kind = tables[species[j]]
            place = (np.sqrt(length[p]) - lowest) / spacing[kind]
            knot = int(place)
            first = first_row[kind] + 3 * knot
            _hermite(place - knot, basis)
            _interpolate(table, first, basis, weights)
            if share.size:
                density += weights[weights.size - 1]
            _couplings(harmonics[p], links, coupling)
            s = np.uintp(sent_row[j])
            for g in range(group_path.size):
                w, h = np.uintp(group_path[g] * channels), np.uintp(group_source[g])
                for c in range(channels):
                    carried[c] = weights[w + np.uintp(c)] * sent[s, h, c]
                for k in range(group_first[g], group_first[g + 1]):
                    factor = coupling[k]
                    m = np.uintp(link_target[k])
                    for c in range(channels):
                        raw[m, c] += factor * carried[c]
        if share.size:
            share[i] = 1 / (1 + density)
            raw *= share[i]
        mine = message[i]
        mine[:] = 0
        mine[mine.shape[0] - 1] = 1
        _mix(raw, mix[min(z, mix.shape[0] - 1)], mix_block, mix_target, 0, mine)
        contracted[:] = 0
        _product(mine, terms, product_weights[product_row[z]], contracted)
        hidden[i] = 0
        _mix(contracted, linear, linear_block, identity, 0, hidden[i])
        if skip_source.size:
            _mix(before[i][: skip_source.size], skip_matrices[z], skip_block, skip_source, 0, hidden[i])
        if unmixed.shape[0]:
            unmixed[i] = raw
            products[i] = contracted


@_jit
def layer_backward(
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
    share,
    hidden_gradient,
    before_gradient,
    harmonics_gradient,
    length_gradient,
    sent_gradient,
):
    """Propagate the gradient of one layer to what neighbours sent, to the layer before, and to the pairs.

    ``sent_gradient`` (rows, H, C) belongs to the calling thread; it is left alone when it has no rows, which is so in
    the first layer, where what is sent depends on elements only.
    """
    first_pair, active, neighbour, _, length, harmonics = pairs
    lowest, table_of, first_row, spacing, table = radial
    group_path, group_source, group_first, link_target, link_first, link_harmonic, link_value = links
    mix, mix_block, mix_target = mixing_back
    terms, product_weights, product_row, linear, linear_block = product_back
    skip_matrices, skip_block, skip_source = skip_back
    channels = hidden_gradient.shape[2]
    hidden_size = hidden_gradient.shape[1]
    basis = np.empty(6, message.dtype)
    weights = np.empty(table.shape[1], message.dtype)
    rise = np.empty(6, message.dtype)
    slopes = np.empty(table.shape[1], message.dtype)
    coupling = np.empty(link_target.size, message.dtype)
    summed = np.empty(channels, message.dtype)
    carried = np.empty(channels, message.dtype)
    raw = np.empty((mix_target.size, channels), message.dtype)
    contracted = np.empty((hidden_size, channels), message.dtype)
    gathered = np.empty((message.shape[1], channels), message.dtype)
    identity = np.arange(hidden_size)
    for i in range(start, stop):
        z = species[i]
        tables = table_of[z]
        above = hidden_gradient[i]
        if skip_source.size:
            _mix_back(above, skip_matrices[z], skip_block, skip_source, 0, before_gradient[i])
        contracted[:] = 0
        _mix_back(above, linear, linear_block, identity, 0, contracted)
        gathered[:] = 0
        _product_back(message[i], terms, product_weights[product_row[z]], contracted, gathered)
        raw[:] = 0
        _mix_back(gathered, mix[min(z, mix.shape[0] - 1)], mix_block, mix_target, 0, raw)
        of_density = 0.0
        if share.size:
            # The message, which is linear in the share, is kept, so that its unmixed form is not needed again.
            for m in range(message.shape[1] - 1):
                for c in range(channels):
                    of_density -= gathered[m, c] * message[i, m, c]
            of_density *= share[i]
            raw *= share[i]
        for p in range(first_pair[i], first_pair[i] + active[i]):
            j = neighbour[p]
            kind = tables[species[j]]
            root = np.sqrt(length[p])
            place = (root - lowest) / spacing[kind]
            knot = int(place)
            first = first_row[kind] + 3 * knot
            _hermite(place - knot, basis)
            _hermite_slope(place - knot, 0.5 / (root * spacing[kind]), rise)
            _interpolate_both(table, first, basis, rise, weights, slopes)
            _couplings(harmonics[p], links, coupling)
            s = np.uintp(sent_row[j])
            along = length[p] * 0
            for g in range(group_path.size):
                w, h = np.uintp(group_path[g] * channels), np.uintp(group_source[g])
                for c in range(channels):
                    carried[c] = weights[w + np.uintp(c)] * sent[s, h, c]
                    summed[c] = 0
                for k in range(group_first[g], group_first[g + 1]):
                    factor = coupling[k]
                    m = np.uintp(link_target[k])
                    inner = factor * 0
                    for c in range(channels):
                        summed[c] += factor * raw[m, c]
                        inner += carried[c] * raw[m, c]
                    for t in range(link_first[k], link_first[k + 1]):
                        harmonics_gradient[p, link_harmonic[t]] += link_value[t] * inner
                for c in range(channels):
                    along += summed[c] * sent[s, h, c] * slopes[w + np.uintp(c)]
                if sent_gradient.shape[0]:
                    for c in range(channels):
                        sent_gradient[j, h, c] += summed[c] * weights[w + np.uintp(c)]
            length_gradient[p] += along
            if share.size:
                length_gradient[p] += of_density * slopes[slopes.size - 1]


@_jit
def pair_repulsion(start, stop, species, pairs, repulsion, energies, length_gradient):
    """Add the screened Coulomb repulsion of every pair to the energy of its atom, and its slope to the gradient."""
    first_pair, active, neighbour, _, length, _ = pairs
    strength, screening, reach, coefficients, decays, power = repulsion
    for i in range(start, stop):
        z = species[i]
        for p in range(first_pair[i], first_pair[i] + active[i]):
            y = species[neighbour[p]]
            distance = np.float64(length[p])
            x = distance / reach[z, y]
            if x >= 1:
                continue
            screened = 0.0
            slope = 0.0
            for k in range(decays.size):
                term = coefficients[k] * np.exp(-decays[k] * distance / screening[z, y])
                screened += term
                slope -= term * decays[k] / screening[z, y]
            slope -= screened / distance
            half = power * (power + 1) * (power + 2) / 2
            tail = x ** (power - 1)
            envelope = 1 - tail * x * (half / power - x * (power * (power + 2) - x * power * (power + 1) / 2))
            fall = -half * tail * (1 - x) * (1 - x) / reach[z, y]
            factor = strength[z, y] / distance
            energies[i] += factor * screened * envelope
            length_gradient[p] += factor * (slope * envelope + screened * fall)


@_jit
def send(start, stop, hidden, matrices, block, sent):
    """Mix the hidden features of every atom into what it sends."""
    identity = np.arange(hidden.shape[1])
    for i in range(start, stop):
        sent[i] = 0
        _mix(hidden[i], matrices, block, identity, 0, sent[i])


@_jit
def send_back(start, stop, sent_gradients, matrices, block, hidden_gradient):
    """Sum the accumulators of all threads (T, N, H, C) and add the transpose of :func:`send`."""
    identity = np.arange(hidden_gradient.shape[1])
    total = np.empty(hidden_gradient.shape[1:], hidden_gradient.dtype)
    for i in range(start, stop):
        total[:] = sent_gradients[0, i]
        for t in range(1, sent_gradients.shape[0]):
            total += sent_gradients[t, i]
        _mix_back(total, matrices, block, identity, 0, hidden_gradient[i])


@_jit
def pair_forces(start, stop, structure, pairs, lift, harmonics_gradient, length_gradient, forces, virials):
    """Turn gradients of lengths and harmonics into forces (N, 3) and dE/dstrain (B, 3, 3), both of this thread."""
    first_pair, active, neighbour, unit, length, harmonics = pairs
    target, axis, source, _, slope = lift
    gradient = np.empty(3, np.float64)
    for i in range(start, stop):
        virial = virials[structure[i]]
        for p in range(first_pair[i], first_pair[i] + active[i]):
            gradient[:] = 0
            for t in range(target.size):
                gradient[axis[t]] += slope[t] * harmonics_gradient[p, target[t]] * harmonics[p, source[t]]
            radial = gradient[0] * unit[p, 0] + gradient[1] * unit[p, 1] + gradient[2] * unit[p, 2]
            j = neighbour[p]
            for a in range(3):
                gradient[a] = (gradient[a] - radial * unit[p, a]) / length[p] + length_gradient[p] * unit[p, a]
                forces[i, a] -= gradient[a]
                forces[j, a] += gradient[a]
            for a in range(3):
                for b in range(3):
                    virial[a, b] += length[p] * unit[p, a] * gradient[b]
