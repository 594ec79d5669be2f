"""Frames of short molecular dynamics."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT

from mace_ft_bench.datasets.frames import ENERGY
from mace_ft_bench.errors import StructureError
from mace_ft_bench.learning.dynamics import DynamicsConfig, concerns, run
from mace_ft_bench.learning.label import Labeller
from mace_ft_bench.learning.parent import Parent

SHORT = DynamicsConfig(("*",), (300.0, 900.0), steps=20, every=5, relax_steps=0)


class Failing(Calculator):
    """A teacher that refuses every structure."""

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, *_arguments, **_options):
        raise StructureError("It is refused.", fix="none.")


def frames_of(settings, teacher, *, seed=1):
    labeller = Labeller(teacher, 0.0, 1e6, "md")
    stopped = run(bulk("Cu", cubic=True), settings, teacher, labeller, seed=seed)
    return labeller.harvest.frames, stopped


def test_every_temperature_gives_its_frames_and_the_hotter_moves_farther():
    frames, stopped = frames_of(SHORT, EMT())
    assert (len(frames), stopped) == (8, [])
    start = bulk("Cu", cubic=True).positions
    cold, hot = (np.std([f.positions - start for f in part]) for part in (frames[:4], frames[4:]))
    assert 0 < cold < hot


def test_labels_are_those_of_the_positions():
    frames, _ = frames_of(SHORT, EMT())
    again = frames[-1].copy()
    again.calc = EMT()
    assert again.get_potential_energy() == pytest.approx(frames[-1].info[ENERGY], abs=1e-10)


def test_seeds_make_runs():
    first, again, other = (frames_of(SHORT, EMT(), seed=seed)[0] for seed in (1, 1, 2))
    assert (first[-1].positions == again[-1].positions).all()
    assert (first[-1].positions != other[-1].positions).any()


def test_a_run_that_a_teacher_refuses_says_why():
    assert frames_of(SHORT, Failing()) == ([], ["It is refused."])


def test_parents_are_named_with_stars():
    parent = Parent("fcc-Cu", "elements", bulk("Cu"))
    assert concerns(SHORT, parent)
    assert not concerns(DynamicsConfig(("bcc-*", "fcc-C"), (300.0,)), parent)
