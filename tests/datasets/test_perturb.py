"""Perturbed structures: the distributions that are promised, atoms kept apart, frames that can be made again alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.constraints import FixAtoms
from ase.geometry import get_distances
from ase.io import read
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_ft_bench.datasets.frames import write_extxyz
from mace_ft_bench.datasets.perturb import (
    FLOOR_WIDTHS,
    PerturbSettings,
    acceptance,
    frame_seed,
    pair_minima,
    parse_distances,
    perturb,
    perturb_one,
)
from mace_ft_bench.errors import CardError, StructureError, UnknownNameError


def molybdenum(size=2):
    return bulk("Mo", cubic=True) * (size, size, size)


def test_displacements_are_gaussian_where_no_pair_comes_close():
    far = Atoms("Ar500", positions=np.arange(1500).reshape(-1, 3) * 40.0)
    (frame,) = perturb([far], PerturbSettings(rattle=0.3, seed=4))
    moves = (frame.positions - far.positions).ravel()
    # 1500 components: the standard deviation is known to 0.3 / sqrt(3000), the kurtosis to sqrt(24 / 1500)
    assert moves.std() == pytest.approx(0.3, abs=4 * 0.3 / math.sqrt(3000))
    assert moves.mean() == pytest.approx(0, abs=4 * 0.3 / math.sqrt(1500))
    assert np.mean(moves**4) / moves.var() ** 2 == pytest.approx(3, abs=4 * math.sqrt(24 / 1500))


def test_rattle_is_drawn_between_its_ends():
    frames = perturb([molybdenum(1)], PerturbSettings(count=40, rattle=(0.01, 0.2)))
    drawn = np.array([frame.info["perturb_rattle"] for frame in frames])
    assert ((drawn >= 0.01) & (drawn <= 0.2)).all()
    assert drawn.mean() == pytest.approx(0.105, abs=4 * 0.19 / math.sqrt(12 * 40))
    assert len(set(drawn)) == 40


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**31), rattle=st.floats(0.05, 0.6), factor=st.floats(0.5, 0.8))
def test_no_pair_comes_below_the_floor(seed, rattle, factor):
    options = PerturbSettings(rattle=rattle, strain=0.02, min_distance_factor=factor, attempts=100_000)
    frame = perturb_one(bulk("NaCl", "rocksalt", a=5.64, cubic=True), options, seed)
    minima = pair_minima(frame.numbers, {}, factor)
    distances = get_distances(frame.positions, cell=frame.cell, pbc=True)[1] + 100 * np.eye(len(frame))
    assert (distances >= minima - FLOOR_WIDTHS * options.width - 1e-9).all()


def test_the_filter_shifts_close_pairs_apart():
    pair = Atoms("Mo2", positions=[[0, 0, 0], [2.3, 0, 0]])
    shortest = {
        factor: np.mean(
            [
                frame.get_distance(0, 1)
                for frame in perturb([pair], PerturbSettings(count=60, rattle=0.1, min_distance_factor=factor))
            ]
        )
        for factor in (0.0, 0.75)
    }
    assert shortest[0.75] > shortest[0.0] + 0.03  # the minimum is 2.31 Å, in the middle of the free distribution


def test_acceptance_falls_smoothly():
    assert acceptance(0.0, 0.1) == 0.5
    assert acceptance(1.0, 0.1) == pytest.approx(1)
    assert acceptance(-0.1, 0.1) == pytest.approx(0.5 * math.erfc(1))
    assert acceptance(-0.2001, 0.1) == 0
    assert acceptance(math.inf, 0.1) == 1


def test_frame_k_does_not_depend_on_how_many_are_made_and_can_be_made_alone():
    crystals, few, many = [molybdenum(), bulk("Cu", cubic=True)], PerturbSettings(count=2), PerturbSettings(count=5)
    two, five = perturb(crystals, few), perturb(crystals, many)
    for a, b in zip(two, [*five[:2], *five[5:7]], strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
    for frame in five:
        again = perturb_one(crystals[frame.info["perturb_parent"]], few, frame.info["perturb_seed"])
        np.testing.assert_array_equal(again.positions, frame.positions)
    assert len({frame.info["perturb_seed"] for frame in five}) == 10
    assert frame_seed(0, 1, 2) != frame_seed(1, 1, 2)


def test_provenance_survives_a_file(tmp_path):
    options = PerturbSettings(rattle=(0.02, 0.1), strain=0.03, min_distances={"Mo-Mo": 2.1})
    (frame,) = perturb([molybdenum()], options)
    write_extxyz([frame], tmp_path / "frames.xyz")
    back = read(tmp_path / "frames.xyz")
    for key in ("perturb_seed", "perturb_rattle", "perturb_parent", "perturb_settings", "config_type"):
        assert back.info[key] == frame.info[key], key
    np.testing.assert_array_equal(back.info["perturb_strain"], frame.info["perturb_strain"])
    again = perturb_one(molybdenum(), options, int(back.info["perturb_seed"]))
    np.testing.assert_allclose(again.positions, back.positions, atol=1e-8)
    assert "Mo-Mo:2.1" in back.info["perturb_settings"]


def stretch(frame, crystal):
    """Return the matrix that took the cell of the crystal to that of the frame."""
    return np.linalg.solve(crystal.cell.array, frame.cell.array)


@pytest.mark.parametrize("kind", ["full", "volume", "shear"])
def test_strain_is_symmetric_and_does_what_its_kind_says(kind):
    crystal = molybdenum()
    frames = perturb([crystal], PerturbSettings(count=30, rattle=0, strain=0.05, strain_kind=kind, seed=2))
    for frame in frames:
        matrix = stretch(frame, crystal)
        np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
        np.testing.assert_allclose(frame.get_scaled_positions(), crystal.get_scaled_positions(), atol=1e-12)
        ratio = frame.get_volume() / crystal.get_volume()
        trace = frame.info["perturb_strain"][:3].sum()
        assert ratio == pytest.approx(math.exp(trace), rel=1e-12)
        if kind == "volume":
            np.testing.assert_allclose(matrix, np.eye(3) * ratio ** (1 / 3), atol=1e-12)
        if kind == "shear":
            assert ratio == pytest.approx(1, rel=1e-12)
        else:
            assert abs(ratio - 1) > 1e-6
        assert np.abs(frame.info["perturb_strain"]).max() <= 0.05 * (4 / 3 if kind == "shear" else 1)
    assert np.abs([frame.info["perturb_strain"] for frame in frames]).max() > 0.03


def test_what_belongs_to_the_old_structure_is_dropped_and_the_rest_kept():
    crystal = molybdenum(1)
    crystal.info = {"REF_energy": -1.0, "config_type": "elastic"}
    crystal.arrays["REF_forces"] = np.ones((2, 3))
    crystal.set_velocities(np.ones((2, 3)))
    crystal.set_masses([95.0, 98.0])
    crystal.set_initial_magnetic_moments([1.0, -1.0])
    crystal.set_constraint(FixAtoms([0]))
    before = crystal.copy()
    (frame,) = perturb([crystal], PerturbSettings())
    assert "REF_energy" not in frame.info
    assert set(frame.arrays) == {"numbers", "positions", "masses", "initial_magmoms"}
    assert frame.get_masses().tolist() == [95.0, 98.0]
    assert frame.info["config_type"] == "elastic"
    assert not frame.constraints
    assert np.abs(frame.positions - crystal.positions).min() > 0
    np.testing.assert_array_equal(crystal.positions, before.positions)
    assert perturb([crystal], PerturbSettings(config_type="new"))[0].info["config_type"] == "new"
    assert perturb([molybdenum(1)], PerturbSettings())[0].info["config_type"] == "perturbed"


def test_minima_come_from_covalent_radii_or_are_given():
    minima = pair_minima(np.array([42, 14, 42]), {"Si-Mo": 1.5}, 0.5)
    assert minima[0, 2] == pytest.approx(1.54)
    assert minima[0, 1] == minima[1, 0] == 1.5
    assert minima[1, 1] == pytest.approx(1.11)


def test_parse_distances():
    assert parse_distances(["Mo-Mo=2.1", "Mo-Si=1.9"]) == {"Mo-Mo": 2.1, "Mo-Si": 1.9}
    for text, message in [
        ("Mo-Mo", "is no minimum distance"),
        ("Mo-Mo=a", "is no minimum distance"),
        ("Mo=1", "is no pair of elements"),
        ("Mo-Xx=1", "is no pair of elements"),
        ("Mo-Mo=-1", "-1.0 Å for Mo-Mo makes no sense"),
        ("Mo-Mo=nan", "nan Å for Mo-Mo makes no sense"),
    ]:
        with pytest.raises(CardError, match=f"{message}.*To fix"):
            parse_distances([text])


def test_a_structure_that_is_too_close_at_the_start_is_refused_with_the_pair():
    close = Atoms("MoSi", positions=[[0, 0, 0], [0.9, 0, 0]], cell=[9, 9, 9], pbc=True)
    with pytest.raises(StructureError, match="Structure 1, frame 0: Atoms 0 and 1 .* 0.9 Å apart; Mo-Si.*To fix"):
        perturb([molybdenum(), close], PerturbSettings())
    with pytest.raises(StructureError, match="Atoms 0 and 0 .or an image. are 1.1 Å apart; Mo-Mo"):
        perturb([Atoms("Mo", cell=[1.1, 5, 5], pbc=True)], PerturbSettings())


def test_a_filter_that_cannot_be_met_is_refused_with_the_pair_and_its_distance():
    with pytest.raises(StructureError, match=r"frame 0: No move of atom 0 in 3 attempts .* Mo-Mo \d\.\d+ Å, minimum"):
        perturb([molybdenum()], PerturbSettings(rattle=1.0, sweeps=1, min_distance_factor=0.9, attempts=3))


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        (Atoms(), "It has no atoms"),
        (Atoms("Mo", positions=[[math.nan, 0, 0]]), "not finite"),
        (Atoms("Mo", pbc=True), "no extent along a periodic direction"),
    ],
)
def test_unusable_structures_are_refused(structure, message):
    with pytest.raises(StructureError, match=f"Structure 0.*{message}.*To fix"):
        perturb([structure], PerturbSettings())


def test_a_slab_is_rattled_but_not_strained():
    slab = fcc111("Cu", (2, 2, 3), vacuum=6.0)
    assert len(perturb([slab], PerturbSettings())) == 1
    with pytest.raises(StructureError, match="not periodic in three directions.*To fix"):
        perturb([slab], PerturbSettings(strain=0.01))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rattle": -0.1}, "A rattle of -0.1 Å"),
        ({"rattle": math.nan}, "A rattle of nan Å"),
        ({"rattle": 1.5}, "A rattle of 1.5 Å"),
        ({"rattle": 0.001}, "A rattle of 0.001 Å"),
        ({"rattle": (0.2, 0.1)}, "A rattle from 0.2 to 0.1 Å"),
        ({"rattle": 0.0}, "without rattle and strain"),
        ({"strain": -0.1}, "A strain of -0.1"),
        ({"strain": math.nan}, "A strain of nan"),
        ({"strain": 0.6}, "A strain of 0.6"),
        ({"width": 0.0}, "A width of 0.0"),
        ({"min_distance_factor": math.nan}, "A factor of nan"),
        ({"count": 0}, "count = 0"),
        ({"sweeps": 0}, "sweeps = 0"),
        ({"attempts": 0}, "attempts = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"min_distances": {"Mo": 1.0}}, '"Mo" is no pair'),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(CardError, match=f"{message}.*To fix"):
        PerturbSettings(**options)


def test_an_unknown_kind_of_strain_is_refused():
    with pytest.raises(UnknownNameError, match='"volum".*did you mean "volume"'):
        PerturbSettings(strain=0.1, strain_kind="volum")
