"""Errors against labels, from fabricated predictions: what was put in must come out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_ft_bench.errors import DataError, UnstableError
from mace_ft_bench.finetune.label_errors import change_interval, compare_labels, error_table, metric
from mace_ft_bench.properties.base import Evaluation
from mace_ft_bench.units import EV_PER_A3_IN_GPA

from .fabricated_run import metal


def predictions(frames, *, energy=0.0, force=0.0, stress=0.0):
    """Return the labels with constant errors: energy per atom [eV], force [eV/A], stress [eV/A^3]."""
    return [
        Evaluation(
            frame.info["REF_energy"] + energy * len(frame),
            frame.arrays["REF_forces"] + force,
            frame.info["REF_stress"] + stress,
        )
        for frame in frames
    ]


@pytest.fixture(scope="module")
def frames():
    return [metal(seed, ("hot", "cold")[seed % 2]) for seed in range(6)]


def row(frames, found, name=None, parent=None):
    theirs = None if parent is None else compare_labels(frames, parent)
    table = error_table(compare_labels(frames, found), theirs)
    return next(row for row in table if row["config_type"] == name)


def test_a_constant_offset_is_exactly_that_error(frames):
    found = row(frames, predictions(frames, energy=0.003, force=-0.02, stress=0.001))["fine_tuned"]
    for name, expected in (("energy", 3.0), ("forces", 20.0), ("stress", 0.001 * EV_PER_A3_IN_GPA)):
        assert found[name]["rmse"] == pytest.approx(expected)
        assert found[name]["mae"] == pytest.approx(expected)
        assert found[name]["frames"] == 6
    assert found["energy_relative"]["rmse"] == pytest.approx(0.0, abs=1e-9)


def test_relative_errors_are_over_the_scatter_of_the_labels(frames):
    found = row(frames, predictions(frames, energy=0.003, force=0.02, stress=0.001))["fine_tuned"]
    energies = [frame.info["REF_energy"] / 4 for frame in frames]
    forces = np.concatenate([frame.arrays["REF_forces"] for frame in frames])
    stresses = np.array([frame.info["REF_stress"] for frame in frames])
    assert found["energy"]["relative_percent"] == pytest.approx(0.3 / np.std(energies))
    assert found["forces"]["relative_percent"] == pytest.approx(2.0 / np.std(forces))
    assert found["stress"]["relative_percent"] == pytest.approx(0.1 / np.std(stresses))


def test_groups_are_told_apart_and_counted(frames):
    found = predictions(frames, energy=0.001)
    found[0] = predictions(frames, energy=0.005)[0]  # of "hot": frames 0, 2, 4
    table = error_table(compare_labels(frames, found), None)
    assert [(item["config_type"], item["frames"]) for item in table] == [(None, 6), ("cold", 3), ("hot", 3)]
    assert row(frames, found, "cold")["fine_tuned"]["energy"]["rmse"] == pytest.approx(1.0)
    assert row(frames, found, "hot")["fine_tuned"]["energy"]["rmse"] == pytest.approx(3.0)
    assert row(frames, found, "hot")["fine_tuned"]["energy"]["mae"] == pytest.approx(7 / 3)
    # Relative to the mean of its group, 5 1 1 has the errors 8/3 -4/3 -4/3, and 1 1 1 none.
    assert row(frames, found, "hot")["fine_tuned"]["energy_relative"]["rmse"] == pytest.approx(np.sqrt(32) / 3)
    assert row(frames, found, "cold")["fine_tuned"]["energy_relative"]["rmse"] == pytest.approx(0.0, abs=1e-9)
    assert row(frames, found, "cold")["parent"] is row(frames, found, "cold")["change_percent"] is None


def test_a_missing_label_is_a_gap_and_no_zero(frames):
    some = [frame.copy() for frame in frames]
    found = predictions(frames, force=0.01, energy=0.002)
    for frame in some:
        del frame.info["REF_stress"]
    for frame in some[1::2]:
        del frame.arrays["REF_forces"]
    assert row(some, found)["fine_tuned"]["stress"] is None
    assert row(some, found)["fine_tuned"]["forces"]["frames"] == 3
    assert row(some, found)["fine_tuned"]["forces"]["rmse"] == pytest.approx(10.0)
    assert row(some, found, "cold")["fine_tuned"]["forces"] is None
    assert row(some, found, "cold", parent=found)["change_percent"]["forces"] is None
    unperiodic = [Evaluation(item.energy, item.forces, None) for item in predictions(frames)]
    assert row(frames, unperiodic)["fine_tuned"]["stress"] is None


def test_a_frame_alone_in_its_group_has_no_relative_energy(frames):
    mixed = [frame.copy() for frame in frames]
    mixed[0].symbols[0] = "Ag"
    found = row(mixed, predictions(frames, energy=0.002))["fine_tuned"]
    assert found["energy"]["frames"] == 6
    assert found["energy_relative"]["frames"] == 5
    lonely = row(mixed[:1], predictions(frames)[:1])["fine_tuned"]
    assert lonely["energy_relative"] is None
    assert lonely["energy"]["relative_percent"] is None, "one energy has no scatter"


@given(zero=st.floats(-2000, 2000), silver=st.floats(-5, 5))
def test_relative_energies_know_no_zero(frames, zero, silver):
    mixed = [frame.copy() for frame in frames]
    for frame in mixed[:3]:
        frame.symbols[0] = "Ag"
    found = predictions(frames, energy=0.0)
    moved = [
        Evaluation(item.energy + 4 * zero + frame.symbols.count("Ag") * silver, item.forces, item.stress)
        for frame, item in zip(mixed, found, strict=True)
    ]
    assert row(mixed, moved)["fine_tuned"]["energy_relative"]["rmse"] == pytest.approx(0.0, abs=1e-7)
    shift = {"Cu": -zero, "Ag": -zero - silver}
    shifted = compare_labels(mixed, moved, shift=shift)
    assert metric(shifted.pairs["energy"]).rmse == pytest.approx(0.0, abs=1e-7)


def test_stress_labels_of_nine_numbers(frames):
    full = [frame.copy() for frame in frames]
    for frame in full:
        xx, yy, zz, yz, xz, xy = frame.info["REF_stress"]
        frame.info["REF_stress"] = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    assert row(full, predictions(frames))["fine_tuned"]["stress"]["rmse"] == pytest.approx(0.0, abs=1e-12)


def test_malformed_labels_and_predictions_are_refused_by_name(frames):
    bad = [frame.copy() for frame in frames]
    bad[3].info["REF_stress"] = np.ones(4)
    with pytest.raises(DataError, match=r"REF_stress of frame 3 \(cold\) has shape \(4,\)"):
        compare_labels(bad, predictions(frames))
    bad[3].info["REF_stress"] = np.full(6, np.nan)
    with pytest.raises(DataError, match="is not finite"):
        compare_labels(bad, predictions(frames))
    with pytest.raises(UnstableError, match=r"REF_forces of frame 0 \(hot\)"):
        compare_labels(frames, predictions(frames, force=np.inf))


def test_changes_are_those_of_the_errors(frames):
    mine, theirs = predictions(frames, energy=0.001, force=0.03), predictions(frames, energy=0.002, force=0.02)
    change = row(frames, mine, parent=theirs)["change_percent"]
    assert change["energy"] == pytest.approx(-50.0)
    assert change["forces"] == pytest.approx(50.0)
    assert row(frames, mine, parent=predictions(frames))["change_percent"]["forces"] is None, "no error to change"


def test_the_interval_of_a_change():
    generator = np.random.default_rng(1)
    label = np.zeros((40, 5))
    errors = generator.normal(size=label.shape)
    theirs = [np.array(pair) for pair in zip(label, errors, strict=True)]
    half = [np.array(pair) for pair in zip(label, errors / 2, strict=True)]
    other = [np.array(pair) for pair in zip(label, 0.5 * generator.normal(size=label.shape), strict=True)]
    assert change_interval(half, theirs) == pytest.approx([-50.0, -50.0]), "the same frames are drawn for both"
    low, high = change_interval(other, theirs)
    assert -60 < low < -50 < high < -40
    assert change_interval(half, [None] * 40) is change_interval(half[:4], theirs[:4]) is None
    perfect = [np.zeros((2, 5))] * 5
    assert change_interval(half[:5], perfect) is None
