"""What every property owes the suite, and what every case card owes its property."""

from __future__ import annotations

import dataclasses
import json

import pytest
from ase.calculators.emt import EMT

from mace_ft_bench.errors import UnknownNameError
from mace_ft_bench.properties.base import all_properties, get_property
from mace_ft_bench.properties.structures import build
from mace_ft_bench.results.case import load_cases
from mace_ft_bench.toml_schema import StrictTable, parse

FAST = {
    "relaxation": {},
    "eos": {"points": 5},
    "phases": {"phases": {"bcc": 1.0}, "points": 5},
    "elastic": {},
    "gsfe": {"slip_vector": [1, 0, 0], "points": 3},
    "throughput": {"repeats": [1], "samples": 1},
    "frame_errors": {},
    "phonons": {"supercell_length": 5.0, "mesh_length": 15.0, "points": 50},
    "surface": {"miller": [1, 0, 0], "thickness": 5.0},
    "grain_boundary": {},
    "point_defect": {"repeat": [2, 2, 2], "remove": [[0.0, 0.0, 0.0]]},
    "vacancy_migration": {
        "repeat": [2, 2, 2],
        "vacancy": [0.0, 0.0, 0.0],
        "jump_from": [0.5, 0.5, 0.0],
        "images": 1,
        "fmax": 0.2,
        "fmax_ends": 0.05,
    },
    "nve_drift": {"steps": 5},
    "molecular_dynamics": {
        "equilibration_ps": 0.0,
        "production_ps": 0.05,
        "rdf": ["Cu", "Cu"],
        "diffusing": "Cu",
        "bonds": {"pair": ["Cu", "Cu"], "length": 3.0},
        "profile": {"species": "Cu", "above": "Cu"},
    },
    "diatomics": {"points": 20},
    "energy_difference": {"of": "shaken", "minus": "perfect"},
    "formation_energy": {"of": ["shaken"], "crystal": {"element": "Cu", "lattice": "fcc", "a": 3.6}},
}
OF_FRAMES = {"frame_errors", "energy_difference", "formation_energy"}
CASES = load_cases()


def test_registry_names_every_property_once():
    assert set(FAST) == set(all_properties())
    with pytest.raises(UnknownNameError, match="elastic"):
        get_property("elasticity")


@pytest.mark.parametrize("name", FAST)
def test_settings_and_results_are_plain_frozen_and_documented(name):
    item = get_property(name)
    assert issubclass(item.settings, StrictTable)
    for schema in (item.settings, item.result):
        assert schema.__dataclass_params__.frozen
        assert schema.__doc__


@pytest.mark.parametrize("name", FAST)
def test_results_are_json_without_nan(name, copper):
    copper.info |= {"REF_energy": 0.0, "config_type": "perfect"}
    shaken = copper.copy()
    shaken.rattle(0.05, seed=1)
    shaken.info["config_type"] = "shaken"
    target = [copper, shaken] if name in OF_FRAMES else copper
    item = get_property(name)
    result = item.compute(target, EMT(), parse(FAST[name], item.settings, where=name))
    assert isinstance(result, item.result)
    plain = json.loads(json.dumps(dataclasses.asdict(result), allow_nan=False))
    assert set(plain) == {field.name for field in dataclasses.fields(item.result)}


@pytest.mark.parametrize("case", [case for case in CASES.values() if case.property in FAST], ids=lambda case: case.id)
def test_settings_of_every_card_parse(case):
    parse(case.settings, get_property(case.property).settings, where=case.id)


BUILT = [case for case in CASES.values() if case.structure and case.structure.builder != "dataset"]


@pytest.mark.parametrize("case", BUILT, ids=lambda case: case.id)
def test_structure_of_every_card_builds(case):
    assert len(build(case.structure)) > 0
