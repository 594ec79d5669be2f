"""Energy differences: EMT's own, in both directions, and what cannot be compared."""

from __future__ import annotations

import pytest
from ase.build import add_adsorbate, fcc100
from ase.calculators.emt import EMT

from mace_ft_bench.errors import CardError, StructureError
from mace_ft_bench.properties import energy_difference
from mace_ft_bench.properties.energy_difference import Settings

CHOICE = Settings(of="bridge", minus="hollow")


def adsorbed(site: str):
    """Return gold on copper, on one of the sites of its (100) face."""
    slab = fcc100("Cu", (2, 2, 2), vacuum=6.0, periodic=True)
    add_adsorbate(slab, "Au", 2.0, site)
    slab.info["config_type"] = site
    return slab


@pytest.fixture
def frames():
    return [adsorbed("hollow"), adsorbed("bridge"), adsorbed("ontop")]


def energy(atoms):
    atoms = atoms.copy()
    atoms.calc = EMT()
    return atoms.get_potential_energy()


def test_difference_is_signed_and_of_the_frames_named(frames):
    expected = energy(frames[1]) - energy(frames[0])
    result = energy_difference.compute(frames, EMT(), CHOICE)
    assert result.difference_ev == pytest.approx(expected, abs=1e-9)
    assert result.atoms == 9
    swapped = energy_difference.compute(frames, EMT(), Settings(of="hollow", minus="bridge"))
    assert swapped.difference_ev == pytest.approx(-expected, abs=1e-9)
    assert abs(expected) > 0.1
    assert energy_difference.compare(result, {"difference_ev": expected + 0.25}) == pytest.approx(
        {"difference_ev": -0.25}
    )
    assert energy_difference.compare(result, {}) == {}


def test_relaxed_difference_is_of_two_minima_and_leaves_the_frames_alone(frames):
    before = [frame.positions.copy() for frame in frames]
    given = energy_difference.compute(frames, EMT(), CHOICE)
    relaxed = energy_difference.compute(frames, EMT(), Settings(of="bridge", minus="hollow", relax=True, fmax=0.02))
    assert given.largest_force_ev_per_angstrom > 0.1
    assert relaxed.largest_force_ev_per_angstrom < 0.02
    assert relaxed.difference_ev > 0  # gold sits in the hollow
    assert all((frame.positions == old).all() for frame, old in zip(frames, before, strict=True))


@pytest.mark.parametrize("change", ["missing", "twice", "composition"])
def test_frames_that_do_not_compare_are_named(frames, change):
    if change == "missing":
        frames.pop(1)
    elif change == "twice":
        frames.append(adsorbed("bridge"))
    else:
        frames[1].symbols[0] = "Ag"
    words = {"missing": '0 frames have.*"bridge"', "twice": "2 frames have", "composition": "bridge is Ag"}
    with pytest.raises(StructureError, match=words[change]):
        energy_difference.compute(frames, EMT(), CHOICE)


def test_a_structure_is_not_compared_with_itself():
    with pytest.raises(CardError, match="name two"):
        Settings(of="bridge", minus="bridge")
