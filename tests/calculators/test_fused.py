"""The fused kernel against mace's own modules, over every architecture it accepts."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from mace_ft_bench.calculators.backends import build_e3nn, build_fused
from mace_ft_bench.calculators.fused import model as fused_model
from mace_ft_bench.calculators.fused.harmonics import lift
from mace_ft_bench.calculators.fused.radials import FEWEST, MOST, _table
from mace_ft_bench.calculators.fused.tables import read_tables, refusal
from mace_ft_bench.calculators.graph import join, pair_table
from mace_ft_bench.calculators.neighbors import NeighborList, SkinSettings
from mace_ft_bench.errors import AccelerationError, StructureError
from mace_ft_bench.testing import FLOAT32, FLOAT64

from ..conftest import FOUNDATION_LIKE, TINY, TWO_HEADS, build

RESIDUAL = "RealAgnosticResidualInteractionBlock"
DENSITY = {
    "interaction_cls": "RealAgnosticDensityResidualInteractionBlock",
    "interaction_cls_first": "RealAgnosticDensityInteractionBlock",
}
ARCHITECTURES = {
    "as most are": {"interaction_cls": RESIDUAL, "interaction_cls_first": RESIDUAL, "correlation": 3},
    "no residual in the first layer": {"interaction_cls_first": "RealAgnosticInteractionBlock"},
    "no residual at all": {
        "interaction_cls": "RealAgnosticInteractionBlock",
        "interaction_cls_first": "RealAgnosticInteractionBlock",
    },
    "scalars only": {"hidden_irreps": "8x0e", "max_ell": 4, "correlation": 3},
    "up to quadrupoles": {"hidden_irreps": "4x0e+4x1o+4x2e", "max_ell": 3},
    "linear basis": {"correlation": 1},
    "one layer": {"num_interactions": 1, "correlation": [2]},
    "three layers": {"num_interactions": 3, "correlation": [2, 2, 2]},
    "element-agnostic product": {"use_agnostic_product": True},
    "envelope after the network": {"apply_cutoff": False},
    "gaussians": {"radial_type": "gaussian"},
    "two heads": TWO_HEADS,
    "density": DENSITY,
    "density with a residual in the first layer": DENSITY | {"interaction_cls_first": DENSITY["interaction_cls"]},
    "density and envelope after the network": DENSITY | {"apply_cutoff": False},
    "density in the second layer only": {"interaction_cls": DENSITY["interaction_cls"]},
    "Agnesi": {"distance_transform": "Agnesi"},
    "soft transform": {"distance_transform": "Soft"},
    "repulsion": {"pair_repulsion": True},
    "repulsion of two heads": TWO_HEADS | {"pair_repulsion": True},
    "as foundation models are": FOUNDATION_LIKE,
    "all of it": TWO_HEADS | FOUNDATION_LIKE | {"apply_cutoff": False, "num_polynomial_cutoff": 6},
}

LIMITS = {torch.float64: FLOAT64, torch.float32: FLOAT32}


def structures():
    """Return a sheared binary crystal, a molecule without a cell, a slab, one atom in a small cell, and a lone atom."""
    crystal = bulk("Si", "diamond", a=5.2, cubic=True)
    crystal.symbols[[0, 3]] = "Mo"
    crystal.set_cell(crystal.cell.array @ (np.eye(3) + 0.05 * np.eye(3, k=1)), scale_atoms=True)
    crystal.rattle(0.1, seed=1)
    cluster = molecule("Si2H6")
    cluster.symbols[[atom.symbol == "H" for atom in cluster]] = "Mo"
    cluster.rattle(0.05, seed=2)
    slab = bulk("Mo", "bcc", a=3.1, cubic=True) * (1, 1, 2)
    slab.center(vacuum=4, axis=2)
    slab.pbc = (True, True, False)
    slab.rattle(0.05, seed=3)
    small = Atoms("Mo", cell=[[2.4, 0.1, 0], [0, 2.5, 0.2], [0.3, 0, 2.6]], pbc=True)
    return [crystal, cluster, slab, small, Atoms("Si", positions=[[1, 2, 3]])]


def graph_of(frames, cutoff, skin=0.0):
    species_of = np.zeros(100, dtype=np.int64)
    species_of[TINY["atomic_numbers"]] = np.arange(len(TINY["atomic_numbers"]))
    tables = [
        pair_table(NeighborList(cutoff, SkinSettings(skin=skin)).candidates(frame), len(frame)) for frame in frames
    ]
    return join(frames, tables, species_of)


def assert_same(found, expected, limits):
    np.testing.assert_allclose(found.energies, expected.energies, rtol=0, atol=limits.energy)
    scale = 1 + np.abs(expected.forces).max()
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=scale * limits.forces)
    np.testing.assert_allclose(found.virials, expected.virials, rtol=0, atol=10 * scale * limits.forces)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_agrees_with_mace(name, dtype):
    model = build(**ARCHITECTURES[name]).to(dtype)
    head = len(model.heads) - 1
    graph = graph_of(structures(), float(model.r_max), skin=0.7)
    expected = build_e3nn(model, head).evaluate(graph)
    assert np.abs(expected.forces).max() > 1e-3
    assert_same(build_fused(model, head).evaluate(graph), expected, LIMITS[dtype])


def test_the_structures_reach_every_head():
    model = build(**TWO_HEADS).double()
    graph = graph_of(structures(), float(model.r_max))
    first, second = (build_fused(model, head).evaluate(graph) for head in range(2))
    assert np.abs(first.energies - second.energies).max() > 1e-3


def test_threads_share_the_atoms(monkeypatch):
    crystal = structures()[0] * (2, 2, 2)
    model = build(**ARCHITECTURES["as most are"]).double()
    graph = graph_of([crystal], float(model.r_max))
    backend = build_fused(model, 0)
    monkeypatch.setattr(fused_model, "thread_count", lambda: 1)
    alone = backend.evaluate(graph)
    monkeypatch.setattr(fused_model, "thread_count", lambda: 3)
    shared = backend.evaluate(graph)
    again = backend.evaluate(graph)
    assert_same(shared, alone, FLOAT64)
    assert (shared.forces == again.forces).all()
    assert (shared.virials == again.virials).all()


def test_results_of_one_structure_do_not_depend_on_the_others():
    model = build().double()
    frames = structures()
    backend = build_fused(model, 0)
    together = backend.evaluate(graph_of(frames, float(model.r_max)))
    start = 0
    for index, frame in enumerate(frames):
        alone = backend.evaluate(graph_of([frame], float(model.r_max)))
        stop = start + len(frame)
        np.testing.assert_allclose(together.energies[start:stop], alone.energies, rtol=0, atol=1e-12)
        np.testing.assert_allclose(together.forces[start:stop], alone.forces, rtol=0, atol=1e-12)
        np.testing.assert_allclose(together.virials[index], alone.virials[0], rtol=0, atol=1e-12)
        start = stop


@pytest.mark.parametrize("changes", [{}, DENSITY, {"distance_transform": "Agnesi"}], ids=["none", "density", "Agnesi"])
def test_forces_are_continuous_at_the_cutoff_and_at_knots(changes):
    model = build(**changes).double()
    backend = build_fused(model, 0)
    cutoff = float(model.r_max)
    distances = np.concatenate([cutoff + np.linspace(-1e-6, 1e-6, 21), np.linspace(2.0, 2.02, 201)])
    forces = []
    for distance in distances:
        pair = Atoms("MoSi", positions=[[0, 0, 0], [0, 0, distance]])
        forces.append(backend.evaluate(graph_of([pair], cutoff + 0.1)).forces[0, 2])
    assert np.abs(np.diff(forces[:21])).max() < 1e-10
    assert np.abs(np.diff(forces[21:], n=3)).max() < 1e-7


@pytest.mark.parametrize("changes", [{}, FOUNDATION_LIKE], ids=["plain", "foundation"])
def test_forces_are_the_slope_of_the_energy_between_knots(changes):
    model = build(**changes).double()
    backend = build_fused(model, 0)
    cutoff = float(model.r_max)

    def energy(distance):
        pair = Atoms("MoSi", positions=[[0, 0, 0], [0, 0, distance]])
        return backend.evaluate(graph_of([pair], cutoff)).energies.sum()

    distance, step = 2.3456789, 1e-4
    pair = Atoms("MoSi", positions=[[0, 0, 0], [0, 0, distance]])
    slope = (energy(distance + step) - energy(distance - step)) / (2 * step)
    assert backend.evaluate(graph_of([pair], cutoff)).forces[1, 2] == pytest.approx(-slope, abs=1e-7)


def test_coefficients_are_those_of_the_model_where_it_rounded_them():
    """A model made in single precision keeps rounded coefficients in double; strong messages show the difference."""
    model = build(avg_num_neighbors=0.3).double()
    graph = graph_of(structures(), float(model.r_max))
    expected = build_e3nn(model, 0).evaluate(graph)
    np.testing.assert_allclose(build_fused(model, 0).evaluate(graph).energies, expected.energies, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", LIMITS, ids=["float64", "float32"])
@pytest.mark.parametrize(
    "changes", [TWO_HEADS | {"pair_repulsion": True}, FOUNDATION_LIKE], ids=["heads", "foundation"]
)
def test_repulsion_is_exact_at_every_distance(changes, dtype):
    """At short distances it reaches 2e4 eV; beyond 2.65 and 3.08 Å, the sums of covalent radii, nothing is left."""
    model = build(**changes).to(dtype)
    head = len(model.heads) - 1
    backend, plain = build_fused(model, head), build_e3nn(model, head)
    for distance in (0.1, 0.101, 0.15, 0.2, 0.3, 0.5, 0.8, 1.2, 1.6, 2.0, 2.6499, 2.65, 2.6501, 3.0799, 3.0801):
        pair = Atoms("MoSi", positions=[[0, 0, 0], [0, 0.6 * distance, 0.8 * distance]])
        twin = Atoms("Mo2", positions=[[0, 0, 0], [distance, 0, 0]])
        graph = graph_of([pair, twin], float(model.r_max))
        found, expected = backend.evaluate(graph), plain.evaluate(graph)
        relative = 1e-6 if dtype == torch.float32 else 1e-11
        for name in ("energies", "forces", "virials"):
            wanted = getattr(expected, name)
            floor = getattr(LIMITS[dtype], "energy" if name == "energies" else "forces")
            atol = floor + relative * np.abs(wanted).max()
            np.testing.assert_allclose(getattr(found, name), wanted, rtol=0, atol=atol, err_msg=str(distance))


def test_repulsion_is_strong():
    twin = Atoms("Mo2", positions=[[0, 0, 0], [0.1, 0, 0]])
    energies = [
        build_fused(model, 0).evaluate(graph_of([twin], float(model.r_max))).energies
        for model in (build(pair_repulsion=True).double(), build().double())
    ]
    assert (energies[0] - energies[1] > 1e4).all()


def test_foreign_repulsion_is_refused():
    model = build(pair_repulsion=True)
    model.pair_repulsion_fn = torch.nn.Identity()
    assert "its pair repulsion" in refusal(model)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1024), (torch.float32, 256)], ids=["float64", "float32"])
def test_tables_have_as_few_knots_as_they_need(dtype, most):
    model = build(**FOUNDATION_LIKE).to(dtype)
    backend = build_fused(model, 0)
    backend.evaluate(graph_of(structures(), float(model.r_max)))
    for layer in backend._model.tables.radials.layers:
        intervals = (float(model.r_max) ** 0.5 - layer.lowest) / layer.spacing
        assert ((intervals > FEWEST - 1) & (intervals < most + 1)).all()
        assert len(layer.rows) == 3 * round((intervals + 2).sum())


def test_what_needs_many_knots_stops_at_the_most():
    roots = np.linspace(0, 1, MOST + 1)
    # The last knot is a cutoff.
    tables = [_table(roots, np.sin(k * (1 - roots[:, None]) ** 3), np.dtype(float)) for k in (1, 1000)]
    assert [len(rows) // 3 - 2 for _, rows in tables] == [FEWEST, MOST]


def test_pairs_of_elements_get_their_tables_when_they_first_meet():
    model = build(**DENSITY, distance_transform="Agnesi").double()
    backend, plain = build_fused(model, 0), build_e3nn(model, 0)
    radials = backend._model.tables.radials
    cutoff = float(model.r_max)
    silicon = bulk("Si", cubic=True)
    silicon.rattle(0.05, seed=1)
    far = Atoms("SiMo", positions=[[0, 0, 0], [0, 0, cutoff + 0.1]])
    for frame, known in [(far, 0), (silicon, 1), (silicon, 1), (structures()[0], 3), (silicon, 3)]:
        graph = graph_of([frame], cutoff, skin=0.5)
        assert_same(backend.evaluate(graph), plain.evaluate(graph), FLOAT64)
        assert [len(layer.spacing) for layer in radials.layers] == [known, known]
        assert (radials.known == radials.known.T).all()


def test_threads_may_meet_new_pairs_of_elements_at_once():
    model = build(distance_transform="Agnesi").double()
    graph = graph_of(structures()[:1], float(model.r_max))
    backend = build_fused(model, 0)
    with ThreadPoolExecutor(4) as pool:
        results = [item.result() for item in [pool.submit(backend.evaluate, graph) for _ in range(8)]]
    assert len(backend._model.tables.radials.layers[0].spacing) == 3
    assert all((result.forces == results[0].forces).all() for result in results)


@pytest.mark.parametrize("distance", [0.0, 0.01, 0.099])
def test_overlapping_atoms_are_refused_before_the_tables_end(distance):
    model = build().double()
    pair = Atoms("MoSi2", positions=[[0, 0, 3], [0, 0, 0], [distance, 0, 0]])
    for backend in (build_fused(model, 0), build_e3nn(model, 0)):
        with pytest.raises(StructureError, match=r"Atoms 1 and 2 .* apart"):
            backend.evaluate(graph_of([structures()[0], pair], float(model.r_max)))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"interaction_cls": "RealAgnosticResidualNonLinearInteractionBlock"}, "interaction blocks"),
        ({"hidden_irreps": "4x0e+4x0o+4x1o+4x1e"}, "irreps"),
        ({"correlation": 4, "hidden_irreps": "2x0e"}, "product basis"),
    ],
    ids=["non-linear", "both parities", "correlation"],
)
def test_what_it_does_not_know_is_refused(changes, reason):
    model = build(**changes)
    assert reason in refusal(model)
    with pytest.raises(AccelerationError, match=f"{reason}.*To fix: use accelerate"):
        build_fused(model, 0)


def test_reading_the_tables_leaves_the_model_as_it_was():
    model = build(**FOUNDATION_LIKE)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    dtype = torch.get_default_dtype()
    read_tables(model)
    assert torch.get_default_dtype() == dtype
    after = model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize("max_ell", [1, 4, 6])
def test_harmonics_and_their_gradient(max_ell):
    from e3nn import o3

    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 3)))
    vectors = (vectors / vectors.norm(dim=1, keepdim=True)).requires_grad_()
    expected = o3.spherical_harmonics(list(range(max_ell + 1)), vectors, normalize=False, normalization="component")
    table = lift(max_ell, np.dtype(np.float64))
    points = vectors.detach().numpy()
    values = np.zeros((5, (max_ell + 1) ** 2))
    values[:, 0] = 1
    for target, axis, source, value, _ in zip(*table, strict=True):
        values[:, target] += value * points[:, axis] * values[:, source]
    np.testing.assert_allclose(values, expected.detach().numpy(), atol=1e-12)
    for component in range(values.shape[1]):
        gradient = np.zeros((5, 3))
        for target, axis, source, _, slope in zip(*table, strict=True):
            gradient[:, axis] += (target == component) * slope * values[:, source]
        (wanted,) = torch.autograd.grad(expected[:, component].sum(), vectors, retain_graph=True, allow_unused=True)
        np.testing.assert_allclose(gradient, 0 if wanted is None else wanted.numpy(), atol=1e-10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_threads_survive_a_fork():
    code = (
        "import multiprocessing as mp\n"
        "from ase.build import bulk\n"
        "from mace_ft_bench import get_calculator\n"
        "from mace_ft_bench.calculators.fused import model\n"
        "model.thread_count = lambda: 2\n"
        "atoms = bulk('Mo', cubic=True) * (3, 3, 3)\n"
        "atoms.rattle(0.01, seed=1)\n"
        "calculator = get_calculator('mo-ft', accelerate='fused')\n"
        "def energy(shift):\n"
        "    moved = atoms.copy()\n"
        "    moved.calc = calculator\n"
        "    moved.positions[0, 0] += shift\n"
        "    return moved.get_potential_energy()\n"
        "expected = energy(0.0)\n"
        "with mp.get_context('fork').Pool(1) as workers:\n"
        "    found = workers.apply_async(energy, (1e-9,)).get(timeout=60)\n"
        "assert abs(found - expected) < 1e-6\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)
