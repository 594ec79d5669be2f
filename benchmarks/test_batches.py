"""Properties from batched evaluations beside the same ones from single calls: how much faster, and nothing changes.

The model is one, and so is the code of the properties; a calculator without ``evaluate`` is asked for frame by frame.
Cells are as small as the properties allow, where a single call is mostly overhead: on a processor a batch gains nothing
in cells of a hundred atoms, whose phonons and faults take the same time either way.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.lattice.cubic import BodyCenteredCubic

from mace_ft_bench import get_calculator
from mace_ft_bench.properties.base import get_property
from mace_ft_bench.timing.interleaved import time_in_turns

if TYPE_CHECKING:
    from ase import Atoms
    from pytest_benchmark.fixture import BenchmarkFixture

SLOWER = 0.8
"""One by one over batched, all properties together, below which something is wrong whatever the machine does beside."""
SAME = 1e-6
"""Largest difference of a number, relative to one or to itself."""


class OneByOne(Calculator):
    """The same model without its method for many structures."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, model: Calculator) -> None:
        super().__init__()
        self.model = model

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = None,  # noqa: ANN401
        system_changes: Any = all_changes,  # noqa: ANN401
    ) -> None:
        """Pass on."""
        super().calculate(atoms, properties, system_changes)
        self.model.calculate(atoms, properties, system_changes)
        self.results = dict(self.model.results)


def tasks() -> dict[str, tuple[Atoms, dict[str, Any]]]:
    """Return structure and settings by property."""
    sheared = bulk("Mo", a=3.16, cubic=True)  # without symmetry but its translations: every axis is displaced
    sheared.set_cell(sheared.cell.array @ [[1.01, 0.01, 0.0], [0.01, 0.99, 0.02], [0.0, 0.02, 1.0]], scale_atoms=True)
    block = BodyCenteredCubic("Mo", directions=[[1, 0, -1], [1, 1, 1], [1, -2, 1]], latticeconstant=3.16)
    return {
        "elastic": (bulk("Mo", a=3.16, cubic=True), {"points": 9}),
        "phonons": (sheared, {"supercell_length": 6.0, "relax": False, "mesh_length": 20.0, "points": 50}),
        "gsfe": (block, {"slip_vector": (0.0, 1.0, 0.0), "points": 24}),
    }


def computed(name: str, calculator: Calculator) -> Any:  # noqa: ANN401 - the result of a property
    """Return the result of a property."""
    item, (atoms, settings) = get_property(name), tasks()[name]
    return item.compute(atoms, calculator, item.settings(**settings))


@pytest.mark.parametrize("name", tasks())
def test_same_values(name: str) -> None:
    """Every number of the result."""
    model = get_calculator("mo-ft", device="cpu")
    batched, single = (asdict(computed(name, calculator)) for calculator in (model, OneByOne(model)))
    assert batched.keys() == single.keys()
    for field, value in batched.items():
        _compare(value, single[field])


def _compare(value: Any, other: Any) -> None:  # noqa: ANN401 - a field of a result
    if isinstance(value, dict):
        assert value.keys() == other.keys()
        for key, inner in value.items():
            _compare(inner, other[key])
    elif isinstance(value, str | None) or not np.issubdtype(np.asarray(value).dtype, np.number):
        assert value == other
    else:
        np.testing.assert_allclose(value, other, rtol=SAME, atol=SAME)


def test_how_much_faster(benchmark: BenchmarkFixture) -> None:
    """Median ratio over rounds in turns: noted, and no batch may cost more than single calls do."""
    model = get_calculator("mo-ft", device="cpu")
    single = OneByOne(model)
    ways = {
        f"{how} {name}": partial(computed, name, calculator)
        for name in tasks()
        for how, calculator in (("batched", model), ("single", single))
    }
    benchmark.group = "batched properties"
    times = benchmark.pedantic(time_in_turns, args=(ways,), kwargs={"rounds": 3}, rounds=1)
    each = {name: times.ratio(f"single {name}", f"batched {name}") for name in tasks()}
    sums = {how: sum(np.array(times.samples[f"{how} {name}"]) for name in tasks()) for how in ("batched", "single")}
    ratio = float(np.median(sums["single"] / sums["batched"]))
    benchmark.extra_info.update(each | {"together": ratio})
    assert ratio > SLOWER, (ratio, each)
