"""Analyses of trajectories on fabricated ones: ideal gases, crystals, random walks, slabs."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mace_ft_bench.errors import StructureError
from mace_ft_bench.properties import trajectory_analysis as analysis

CELLS = {"cubic": np.eye(3) * 12, "sheared": [[12, 0, 0], [5, 11, 0], [-4, 3, 12]]}


def coordination_number(r, g, *, density, within):
    """Return the number of neighbours: the integral of 4 pi r^2 density g(r)."""
    half = (r[1] - r[0]) / 2
    shells = 4 / 3 * np.pi * ((r + half) ** 3 - (r - half) ** 3)
    return float(density * np.sum((shells * g)[r + half <= within]))


def gas(generator, symbols, cell):
    """Atoms anywhere in a cell, images included: positions are unwrapped."""
    atoms = Atoms(symbols, cell=cell, pbc=True)
    atoms.set_scaled_positions(generator.uniform(-2, 3, (len(atoms), 3)))
    return atoms


@pytest.mark.parametrize("cell", CELLS)
def test_an_ideal_gas_has_no_structure(cell):
    generator = np.random.default_rng(0)
    frames = [gas(generator, "C40O60", CELLS[cell]) for _ in range(40)]
    for pair, limit in ((("C", "O"), 1.0), (("O", "C"), 1.0), (("O", "O"), 59 / 60)):
        r, g = analysis.radial_distribution(frames, pair, reach=50.0, width=0.5)
        assert r[-1] < 6  # half of the smallest height of either cell, whatever reach says
        counts = g * 4 * np.pi * r**2 * (r[1] - r[0])  # with Poisson noise in every bin
        assert np.average(g, weights=r**2) == pytest.approx(limit, rel=4 / np.sqrt(counts.sum() * 40 * 40 * 0.03))
        assert abs(g[-1] - limit) < 0.1


def film(generator, cell, thickness):
    """Return an ideal gas over a share of the height of a cell, above a plane that lies across its boundary."""
    atoms = gas(generator, "C4O60", cell)
    heights = np.where(atoms.symbols == "C", 0.97, 1.07 + generator.uniform(0.0, thickness, len(atoms)))
    atoms.set_scaled_positions(np.column_stack([atoms.get_scaled_positions()[:, :2], heights]))
    return atoms


@pytest.mark.parametrize("cell", CELLS)
def test_the_vacuum_above_a_film_does_not_count(cell):
    generator = np.random.default_rng(1)
    frames = [film(generator, CELLS[cell], 0.3) for _ in range(40)]
    r, plain = analysis.radial_distribution(frames, ("O", "O"), reach=50.0, width=0.5)
    _, g = analysis.radial_distribution(frames, ("O", "O"), reach=50.0, width=0.5, above="C")
    near = r < 1.5
    assert np.average(plain[near], weights=r[near] ** 2) > 2, "the film is denser than the cell"
    assert g[2:] == pytest.approx(np.full(len(r) - 2, 59 / 60), abs=0.1)
    assert np.average(g, weights=r**2) == pytest.approx(59 / 60, rel=0.02)


def test_of_a_gas_without_surfaces_the_plane_changes_nothing():
    generator = np.random.default_rng(2)
    frames = [gas(generator, "C4O60", CELLS["cubic"]) for _ in range(40)]
    _, plain = analysis.radial_distribution(frames, ("O", "O"), reach=50.0, width=0.5)
    _, g = analysis.radial_distribution(frames, ("O", "O"), reach=50.0, width=0.5, above="C")
    assert g == pytest.approx(plain, rel=0.03)


def test_a_crystal_has_its_neighbours_at_their_distances():
    crystal = bulk("Cu", "fcc", a=3.6, cubic=True) * 4
    r, g = analysis.radial_distribution([crystal], ("Cu", "Cu"), reach=6.0, width=0.05)
    place, height = analysis.first_peak(r, g)
    assert place == pytest.approx(3.6 / np.sqrt(2), abs=0.025)
    density = 4 / 3.6**3
    assert height == g.max() == pytest.approx(12 / (4 * np.pi * place**2 * density * (r[1] - r[0])), rel=0.03)
    for within, neighbours in ((3.0, 12), (3.8, 18), (4.7, 42)):
        assert coordination_number(r, g, density=density, within=within) == pytest.approx(neighbours, rel=1e-6)


def test_unlike_neighbours_of_rock_salt():
    crystal = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * 2
    r, g = analysis.radial_distribution([crystal, crystal], ("Na", "Cl"), reach=5.5)
    assert analysis.first_peak(r, g)[0] == pytest.approx(2.82, abs=0.03)
    assert coordination_number(r, g, density=4 / 5.64**3, within=3.0) == pytest.approx(6, rel=1e-6)


def test_the_first_peak_is_not_noise_and_not_the_highest():
    x = np.arange(0, 10, 0.1) + 0.05
    generator = np.random.default_rng(1)
    peaks = {1.0: 0.48, 3.02: 0.5, 6.0: 1.5}  # the first is of stray atoms, below the mean density
    y = 0.5 * (x > 2) + sum(height * np.exp(-((x - place) ** 2) / 0.18) for place, height in peaks.items())
    y += 0.04 * generator.random(len(x))
    place, height = analysis.first_peak(x, y)
    assert place == pytest.approx(3.02, abs=0.02)
    assert height == pytest.approx(1.0, abs=0.06)
    assert analysis.first_peak(np.array([0.5, 1.5]), np.array([2.0, 0.0])) == (0.5, 2.0)


def walk(generator, steps, atoms, diffusion, interval):
    """Random walkers; the displacement of a component in a step has the variance 2 D t."""
    spread = np.sqrt(2 * diffusion * interval)
    return np.cumsum(generator.normal(scale=spread, size=(steps, atoms, 3)), axis=0)


def test_the_diffusion_of_a_random_walk_is_found_within_its_error():
    off = []
    for seed in range(12):
        walkers = walk(np.random.default_rng(seed), 200, 60, diffusion=0.5, interval=0.01)
        value, error = analysis.diffusion_coefficient(*analysis.mean_square_displacement(walkers, 0.01))
        assert error < 0.15 * 0.5e-4
        off.append((value - 0.5e-4) / error)  # 1 Angstrom^2/ps is 1e-4 cm^2/s
    assert max(map(abs, off)) < 4
    assert 0.4 < np.std(off) < 2  # the error is neither too small nor too large


def test_displacements_of_a_straight_flight_are_squares_of_time():
    positions = np.arange(11)[:, None, None] * np.array([[[0.1, 0.2, 0.2], [0.0, 0.0, 0.0]]])
    lags, squares = analysis.mean_square_displacement(positions, 0.5)
    assert lags == pytest.approx(0.5 * np.arange(1, 6))
    assert squares[:, 0] == pytest.approx((0.3 * np.arange(1, 6)) ** 2)
    assert (squares[:, 1] == 0).all()


def test_the_motion_of_the_whole_is_not_diffusion():
    generator = np.random.default_rng(2)
    masses = np.array([1.0, 16.0, 12.0])
    positions = generator.normal(size=(5, 3, 3)) + np.arange(5)[:, None, None]
    still = analysis.without_drift(positions, masses)
    assert np.einsum("fax,a->fx", still, masses) == pytest.approx(np.zeros((5, 3)), abs=1e-12)
    assert still[:, 0] - still[:, 1] == pytest.approx(positions[:, 0] - positions[:, 1])


def test_one_atom_has_no_diffusion_coefficient():
    with pytest.raises(StructureError, match="two atoms"):
        analysis.diffusion_coefficient(*analysis.mean_square_displacement(np.zeros((9, 1, 3)), 1.0))


def slab(height, *, plane=0.3, buckling=0.4, cell=(4.0, 5.0, 20.0)):
    """Six carbon atoms about a plane that lies across the boundary of the cell, four oxygen atoms above it."""
    z = [*(plane + buckling * np.array([1, -1, 1, -1, 1, -1])), *([plane + height] * 4)]
    return Atoms("C6O4", positions=[(0, 0, value) for value in z], cell=cell, pbc=True)


@pytest.mark.parametrize("shift", [0.0, 7.3, -45.0])
def test_a_slab_has_its_density_where_it_is(shift):
    frames = [slab(3.35), slab(3.35, plane=0.6)]
    for frame in frames:
        frame.positions[:, 2] += shift
        frame.wrap()
    height, density = analysis.density_profile(frames, "O", above="C", axis=2)
    assert analysis.first_peak(height, density)[0] == pytest.approx(3.35, abs=0.051)
    assert np.sum(density) * (height[1] - height[0]) * 20.0 == pytest.approx(4)  # over the area, all atoms
    assert density.max() == pytest.approx(4 / (20.0 * 0.1))
    lower, upper = slab(3.25), slab(19.05)
    height, density = analysis.density_profile([lower, upper], "O", above="C", axis=2)
    assert sorted(height[density > 0]) == pytest.approx([3.25, 19.05], abs=0.051)


def test_heights_run_along_the_normal_of_a_sheared_cell():
    leaning = slab(3.35, cell=[[4, 0, 0], [0, 5, 0], [2, 1, 20]])
    height, density = analysis.density_profile([leaning], "O", above="C", axis=2)
    assert analysis.first_peak(height, density)[0] == pytest.approx(3.35, abs=0.051)
    assert len(height) * (height[1] - height[0]) == pytest.approx(20.0)


def test_bonds_that_break_are_missed():
    start = Atoms("PS2", positions=[[0, 0, 0], [2, 0, 0], [0, 0, 9]], cell=[10, 10, 10], pbc=True)  # one across it
    broken = start.copy()
    broken.positions[1, 0] = 4.0
    swapped = start.copy()
    swapped.positions[[1, 2]] = swapped.positions[[2, 1]] + [0, 0, 10]  # unwrapped, and each other's place
    for frames, percent in (([start], 100), ([broken], 50), ([start, broken], 75), ([swapped], 100)):
        assert analysis.bonds_kept(frames, ("P", "S"), length=2.6, start=start) == pytest.approx(percent)
    with pytest.raises(StructureError, match="within 0.5"):
        analysis.bonds_kept([start], ("P", "S"), length=0.5, start=start)


def test_the_error_of_a_mean_knows_of_correlation():
    """An autoregressive series of coefficient c has the variance (1 + c) / (1 - c) times that of noise."""
    generator = np.random.default_rng(3)
    for coefficient in (0.0, 0.9):
        noise = generator.normal(size=(40, 20000))
        series = np.zeros_like(noise)
        for step in range(1, noise.shape[1]):
            series[:, step] = coefficient * series[:, step - 1] + noise[:, step]
        errors = [analysis.block_error(one) for one in series]
        assert np.mean(errors) == pytest.approx(series.mean(axis=1).std(ddof=1), rel=0.5)
        assert np.mean(errors) > 0.9 / (1 - coefficient) / np.sqrt(noise.shape[1])
    assert analysis.block_error(np.array([0.0, 2.0])) == pytest.approx(1.0)


def test_an_element_that_is_not_there():
    atoms = slab(3.0)
    for call in (
        lambda: analysis.radial_distribution([atoms], ("C", "H"), reach=3.0),
        lambda: analysis.density_profile([atoms], "H", above="C", axis=2),
        lambda: analysis.bonds_kept([atoms], ("H", "C"), length=1.0, start=atoms),
    ):
        with pytest.raises(StructureError, match="no H in"):
            call()
