"""Throughput: what is timed, and how it is summarised."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from ase.calculators.emt import EMT

from mace_ft_bench.errors import CardError
from mace_ft_bench.properties import throughput
from mace_ft_bench.timing import interleaved
from mace_ft_bench.toml_schema import parse


def test_every_call_is_computed_at_new_positions(copper, recorder):
    calc = recorder()
    result = throughput.compute(copper, calc, throughput.Settings(repeats=(1, 2), samples=3))
    assert [len(frame) for frame in calc.seen] == [4] * 4 + [32] * 4  # a warm-up and three samples each
    assert result.atoms == (4, 32)
    for earlier, later in pairwise(calc.seen[:4]):
        assert (np.abs(later.positions - earlier.positions).max(axis=1) > 0).all()
    assert all(np.abs(frame.positions - copper.positions).max() < 0.1 for frame in calc.seen[:4])


def test_times_are_the_quartiles_of_the_samples(copper, monkeypatch):
    clock = iter([0.0, 10.0, 10.001, 20.0, 20.002, 30.0, 30.003, 40.0, 40.004, 50.0, 50.010])
    monkeypatch.setattr(interleaved, "perf_counter", lambda: next(clock))
    result = throughput.compute(copper, EMT(), throughput.Settings(repeats=(1,), samples=5))
    assert result.median_ms_per_step == pytest.approx((3.0,))
    assert result.interquartile_ms_per_step == pytest.approx((2.0,))
    assert result.median_us_per_atom == pytest.approx((750.0,))


def test_input_is_not_modified_and_displacements_repeat(copper, recorder):
    before = copper.copy()
    calcs = [recorder(), recorder()]
    for calc in calcs:
        throughput.compute(copper, calc, throughput.Settings(repeats=(1,)))
    assert copper == before
    assert calcs[0].seen == calcs[1].seen


def test_it_is_a_timing_without_reference(copper):
    assert throughput.PROPERTY.timing
    result = throughput.compute(copper, EMT(), throughput.Settings(repeats=(1,), samples=1))
    assert throughput.compare(result, {"median_ms_per_step": [1.0]}) == {}
    assert result.interquartile_ms_per_step == (0.0,)


@pytest.mark.parametrize("bad", [{"repeats": []}, {"repeats": [0]}, {"samples": 0}, {"amplitude": 0}, {"seed": -1}])
def test_nonsense_settings_are_card_errors(bad):
    with pytest.raises(CardError, match=next(iter(bad))):
        parse(bad, throughput.Settings, where="a card")
