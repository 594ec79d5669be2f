"""Properties from batched evaluations beside the same ones from single calls: how much faster, and nothing changes.

The model is one, and so is the code of the properties; a calculator without ``evaluate`` is asked for frame by frame.
Two are: mace's own ``MACECalculator``, and ours without its batches. Of the latter only overhead can be saved: a single
call of the fused kernel takes about a millisecond, in cells of a hundred atoms a batch takes as long on a processor.
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
from mace_ft_bench.timing.serving import peer_calculator

if TYPE_CHECKING:
    from ase import Atoms
    from pytest_benchmark.fixture import BenchmarkFixture

AT_LEAST = {"mace": 2.0, "single": 0.8}
"""One by one over batched, all properties together: what is promised, and what no disturbed machine explains."""
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


def calculators() -> dict[str, Calculator]:
    """Return what computes, by how."""
    model = get_calculator("mo-ft", device="cpu")
    return {"batched": model, "single": OneByOne(model), "mace": peer_calculator("mo-ft", "float64")}


@pytest.mark.parametrize("name", tasks())
def test_same_values(name: str) -> None:
    """Every number of the result."""
    batched, *others = (asdict(computed(name, calculator)) for calculator in calculators().values())
    for other in others:
        _compare(batched, other)


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
    """Median ratios over rounds in turns, by property and of all together."""
    made = calculators()
    ways = {
        f"{how} {name}": partial(computed, name, calculator) for name in tasks() for how, calculator in made.items()
    }
    benchmark.group = "batched properties"
    times = benchmark.pedantic(time_in_turns, args=(ways,), kwargs={"rounds": 3}, rounds=1)
    sums = {how: sum(np.array(times.samples[f"{how} {name}"]) for name in tasks()) for how in ("batched", *AT_LEAST)}
    for how, least in AT_LEAST.items():
        each = {f"{how} {name}": times.ratio(f"{how} {name}", f"batched {name}") for name in tasks()}
        ratio = float(np.median(sums[how] / sums["batched"]))
        benchmark.extra_info.update(each | {how: ratio})
        assert ratio > least, (how, ratio, each)
