"""Frame errors: every error is planted in the labels of EMT itself."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.stress import voigt_6_to_full_3x3_stress

from mace_ft_bench.errors import CardError, DataError, UnstableError
from mace_ft_bench.properties import frame_errors
from mace_ft_bench.toml_schema import parse
from mace_ft_bench.units import EV_PER_A3_IN_GPA

CHOICE = frame_errors.Settings()


def labelled(seed: int, repeat: int = 1, config_type: str = "bulk"):
    """Return copper with the labels of EMT itself, so that every error is one that a test plants."""
    frame = bulk("Cu", "fcc", a=3.6, cubic=True).repeat(repeat)
    frame.rattle(0.1, seed=seed)
    frame.calc = EMT()
    frame.info |= {
        "REF_energy": frame.get_potential_energy(),
        "REF_stress": frame.get_stress(),
        "config_type": config_type,
    }
    frame.arrays["REF_forces"] = frame.get_forces()
    frame.calc = None
    return frame


@pytest.fixture
def frames():
    return [labelled(1), labelled(2, repeat=2), labelled(3, config_type="hot")]


def test_fixed_atoms_have_forces(frames):
    for frame in frames:
        frame.set_constraint(FixAtoms([0, 1]))
    result = frame_errors.compute(frames, EMT(), CHOICE)
    assert result.overall["force_rmse_mev_per_a"] == pytest.approx(0.0, abs=1e-9)


def test_perfect_labels_give_zero(frames):
    result = frame_errors.compute(frames, EMT(), CHOICE)
    assert result.energy_offset_mev_per_atom == pytest.approx(0, abs=1e-9)
    assert frame_errors.compare(result, {}) == pytest.approx(
        {
            "force_rmse_mev_per_a": 0,
            "energy_aligned_rmse_mev_per_atom": 0,
            "energy_rmse_mev_per_atom": 0,
            "stress_rmse_gpa": 0,
            "force_relative_percent": 0,
        },
        abs=1e-9,
    )
    assert result.overall["frames"] == 3
    assert result.overall["atoms"] == 40
    assert set(result.per_config_type) == {"bulk", "hot"}
    assert result.per_config_type["hot"]["atoms"] == 4


@pytest.mark.parametrize("offset", [0.01, -0.02])
def test_a_constant_energy_offset_per_atom_is_found_and_removed(frames, offset):
    for frame in frames:
        frame.info["REF_energy"] -= offset * len(frame)
    result = frame_errors.compute(frames, EMT(), CHOICE)
    assert result.energy_offset_mev_per_atom == pytest.approx(1000 * offset)
    assert result.overall["energy_rmse_mev_per_atom"] == pytest.approx(1000 * abs(offset))
    assert result.overall["energy_mae_mev_per_atom"] == pytest.approx(1000 * abs(offset))
    assert result.overall["energy_aligned_rmse_mev_per_atom"] == pytest.approx(0, abs=1e-9)


def test_the_offset_is_one_for_all_config_types(frames):
    frames[2].info["REF_energy"] -= 0.03 * len(frames[2])  # one of three frames is off by 30 meV/atom
    result = frame_errors.compute(frames, EMT(), CHOICE)
    assert result.energy_offset_mev_per_atom == pytest.approx(10)
    assert result.per_config_type["hot"]["energy_aligned_rmse_mev_per_atom"] == pytest.approx(20)
    assert result.per_config_type["bulk"]["energy_aligned_mae_mev_per_atom"] == pytest.approx(10)


def test_with_a_zero_per_config_type_only_differences_within_a_type_count(frames):
    cold = [labelled(4, config_type="cold"), labelled(5, config_type="cold")]
    for frame, error in zip([*frames, *cold], [0.01, -0.01, 7.0, 100.03, 99.97], strict=True):
        frame.info["REF_energy"] += error * len(frame)  # "hot" has one frame, so its 7 eV/atom cannot be judged
    result = frame_errors.compute([*frames, *cold], EMT(), frame_errors.Settings(energy_zero="config_type"))
    rmse = "energy_aligned_rmse_mev_per_atom"
    assert result.per_config_type["bulk"][rmse] == pytest.approx(10)
    assert result.per_config_type["cold"][rmse] == pytest.approx(30)
    assert rmse not in result.per_config_type["hot"]
    assert result.overall[rmse] == pytest.approx(np.sqrt((2 * 10**2 + 2 * 30**2) / 4))
    assert "energy_rmse_mev_per_atom" not in frame_errors.compare(result, {})
    assert result.energy_offset_mev_per_atom is None
    pairs = np.array(result.energy_pairs_ev_per_atom)
    assert len(pairs) == 4
    assert pairs.mean(axis=0) == pytest.approx(0, abs=1e-4)
    assert pairs[3, 1] - pairs[3, 0] == pytest.approx(0.03, abs=2e-4)


def alloys():
    """Return frames of Cu and Au in four ratios, labelled by EMT with zeros of elements of another code."""
    found = []
    for gold in range(4):
        frame = labelled(gold)
        frame.numbers[:gold] = 79
        frame.calc = EMT()
        frame.info["REF_energy"] = frame.get_potential_energy() - 7.0 * gold + 3.0 * (len(frame) - gold)
        frame.arrays["REF_forces"] = frame.get_forces()
        frame.calc = None
        found.append(frame)
    return found


def test_with_a_zero_per_element_only_what_no_composition_explains_counts():
    frames, choice = alloys(), frame_errors.Settings(energy_zero="elements", stress=False)
    rmse = "energy_aligned_rmse_mev_per_atom"
    result = frame_errors.compute(frames, EMT(), choice)
    assert result.overall[rmse] == pytest.approx(0, abs=1e-6)
    assert "energy_rmse_mev_per_atom" not in result.overall
    errors = np.array([0.01, -0.03, 0.03, -0.01])  # [eV/atom], of compositions 0, 1, 2, 3 of 4
    for frame, error in zip(frames, errors, strict=True):
        frame.info["REF_energy"] -= error * len(frame)
    shares = np.array([[index / len(frame), 1 - index / len(frame)] for index, frame in enumerate(frames)])
    left = errors - shares @ np.linalg.pinv(shares) @ errors
    found = frame_errors.compute(frames, EMT(), choice)
    assert found.overall[rmse] == pytest.approx(1000 * np.sqrt((left**2).mean()))
    pairs = np.array(found.energy_pairs_ev_per_atom)
    assert pairs[:, 1] - pairs[:, 0] == pytest.approx(left, abs=2e-4)
    with pytest.raises(DataError, match="2 energies say nothing beside the zeros of 2 elements"):
        frame_errors.compute(frames[:2], EMT(), choice)


def test_force_errors_are_componentwise(frames):
    for frame in frames:
        frame.arrays["REF_forces"] = frame.arrays["REF_forces"] + (0.0, 0.0, 0.3)
    overall = frame_errors.compute(frames, EMT(), CHOICE).overall
    assert overall["force_rmse_mev_per_a"] == pytest.approx(300 / np.sqrt(3))
    assert overall["force_mae_mev_per_a"] == pytest.approx(100)
    scale = np.sqrt(np.mean(np.concatenate([frame.arrays["REF_forces"] for frame in frames]) ** 2))
    assert overall["force_relative_percent"] == pytest.approx(100 * 0.3 / np.sqrt(3) / scale)


def test_a_flipped_force_is_200_percent(frames):
    for frame in frames:
        frame.arrays["REF_forces"] = -frame.arrays["REF_forces"]
    assert frame_errors.compute(frames, EMT(), CHOICE).overall["force_relative_percent"] == pytest.approx(200)


@pytest.mark.parametrize("shape", [(6,), (9,), (3, 3)])
def test_stress_labels_of_every_shape_keep_their_components(frames, shape):
    for frame in frames:
        stress = frame.info["REF_stress"] + np.array([0, 0, 0, 0.01, 0, 0])  # yz only
        full = stress if shape == (6,) else voigt_6_to_full_3x3_stress(stress)
        frame.info["REF_stress"] = full.reshape(shape)
    overall = frame_errors.compute(frames, EMT(), CHOICE).overall
    assert overall["stress_rmse_gpa"] == pytest.approx(0.01 * EV_PER_A3_IN_GPA / np.sqrt(6))
    assert overall["stress_mae_gpa"] == pytest.approx(0.01 * EV_PER_A3_IN_GPA / 6)


def test_a_flipped_stress_is_noticed(frames):
    size = np.sqrt(np.mean([frame.info["REF_stress"] ** 2 for frame in frames])) * EV_PER_A3_IN_GPA
    for frame in frames:
        frame.info["REF_stress"] = -frame.info["REF_stress"]
    assert frame_errors.compute(frames, EMT(), CHOICE).overall["stress_rmse_gpa"] == pytest.approx(2 * size)


def test_missing_labels_are_counted_and_their_metrics_absent(frames):
    del frames[0].info["REF_energy"], frames[1].arrays["REF_forces"], frames[2].info["REF_stress"]
    result = frame_errors.compute(frames, EMT(), CHOICE)
    assert [result.overall[f"missing_{label}"] for label in ("energy", "forces", "stress")] == [1, 1, 1]
    assert "stress_rmse_gpa" not in result.per_config_type["hot"]
    assert len(result.energy_pairs_ev_per_atom) == 2


def test_molecules_have_no_stress_to_compare():
    frame = molecule("N2")
    frame.info |= {"REF_energy": 0.0, "REF_stress": np.zeros(6)}
    result = frame_errors.compute([frame], EMT(), CHOICE)
    assert result.overall["missing_stress"] == 1
    assert "stress_rmse_gpa" not in frame_errors.compare(result, {})


def test_stress_can_be_left_out(frames):
    result = frame_errors.compute(frames, EMT(), frame_errors.Settings(stress=False))
    assert "stress_rmse_gpa" not in result.overall


def test_input_is_not_modified(frames):
    before = [frame.copy() for frame in frames]
    frame_errors.compute(frames, EMT(), CHOICE)
    assert frames == before
    assert all(frame.calc is None for frame in frames)


def test_parity_samples_are_bounded_reproducible_and_true(frames):
    choice = frame_errors.Settings(samples=50)
    one, two = (frame_errors.compute(frames, EMT(), choice) for _ in range(2))
    assert one == two
    assert len(one.force_pairs_ev_per_angstrom) == 50
    most = frame_errors.compute(frames, EMT(), frame_errors.Settings(samples=119)).force_pairs_ev_per_angstrom
    assert len(set(most)) > 110  # drawn without replacement
    assert all(reference == pytest.approx(model, abs=1e-4) for reference, model in one.force_pairs_ev_per_angstrom)
    full = frame_errors.compute(frames, EMT(), CHOICE).force_pairs_ev_per_angstrom
    assert len(full) == 120
    assert set(one.force_pairs_ev_per_angstrom) <= set(full)
    other = frame_errors.compute(frames, EMT(), frame_errors.Settings(samples=50, seed=1))
    assert other.force_pairs_ev_per_angstrom != one.force_pairs_ev_per_angstrom


def test_every_nth_frame_is_taken_from_the_first(frames):
    few = frame_errors.compute(frames, EMT(), frame_errors.Settings(every=2))
    assert few == frame_errors.compute(frames[::2], EMT(), CHOICE)
    assert few.overall["frames"] == -(-len(frames) // 2)


@pytest.mark.parametrize("frames_without", [[], [bulk("Cu")]])
def test_nothing_to_compare_is_a_data_error(frames_without):
    with pytest.raises(DataError, match="REF_forces"):
        frame_errors.compute(frames_without, EMT(), CHOICE)


@pytest.mark.parametrize(
    ("label", "value"), [("REF_stress", np.zeros(5)), ("REF_energy", float("nan")), ("REF_energy", [1.0, 2.0])]
)
def test_a_malformed_label_is_a_data_error(frames, label, value):
    frames[0].info[label] = value
    with pytest.raises(DataError, match=label):
        frame_errors.compute(frames, EMT(), CHOICE)


def test_a_nan_prediction_is_unstable(frames, recorder):
    with pytest.raises(UnstableError, match="REF_energy"):
        frame_errors.compute(frames, recorder(energy=lambda _: float("nan")), CHOICE)


@pytest.mark.parametrize("bad", [{"every": 0}, {"samples": -1}, {"seed": -1}, {"stress": "maybe"}])
def test_nonsense_settings_are_card_errors(bad):
    with pytest.raises(CardError, match=next(iter(bad))):
        parse(bad, frame_errors.Settings, where="a card")
