"""EMT as a model of the zoo, and case cards in a folder of the test's own."""

from __future__ import annotations

import sys
import types

import pytest
from ase.calculators.emt import EMT

from mace_ft_bench.results.case import select_cases
from mace_ft_bench.results.store import RecordStore
from mace_ft_bench.zoo import registry
from mace_ft_bench.zoo.card import ModelCard

LATTICE = """
title = "Lattice constant of copper"
property = "relaxation"

[structure]
element = "Cu"
lattice = "fcc"
a = 3.6

[metrics.a_percent]
label = "a0"
unit = "%"
tolerance = 0.5

[[references]]
label = "a number"
kind = "dft"
level_of_theory = "EMT"
source = "here"
scored = true
values = { a_angstrom = 3.5 }
"""
EOS = """
title = "Equation of state of copper"
property = "eos"
structure = { element = "Cu", lattice = "fcc", a = 3.6, cubic = false }
settings = { points = 5 }
"""
FRAMES = """
title = "Frames"
property = "frame_errors"
frames = { dataset = "mlearn-mo", split = "test" }
"""


def make_card(name="emt", function="emt"):
    return ModelCard(
        name=name,
        kind="factory",
        factory=f"fake_models:{function}",
        description="Effective medium theory",
        elements=("Cu",),
        functional="EMT",
        dispersion="none",
        licence="LGPL-2.1",
        citation="Jacobsen et al., Surf. Sci. 366, 394 (1996)",
    )


@pytest.fixture
def built():
    """Return the list of (name, device, dtype) of every calculator that was built."""
    return []


@pytest.fixture(autouse=True)
def models(monkeypatch, built):
    """Offer the models ``emt`` and ``broken`` and no others."""

    def emt(card, device, dtype, _head):
        built.append((card.name, device, dtype))
        return EMT()

    def broken(card, device, dtype, _head):
        built.append((card.name, device, dtype))
        raise RuntimeError("no weights here")

    module = types.ModuleType("fake_models")
    module.emt, module.broken = emt, broken
    monkeypatch.setitem(sys.modules, "fake_models", module)
    monkeypatch.setattr(registry, "_embedded", lambda: [make_card(), make_card("broken", "broken")])


@pytest.fixture(autouse=True)
def no_data(monkeypatch, tmp_path):
    """Neither a mirror nor a cache."""
    monkeypatch.delenv("MFB_MIRROR", raising=False)
    monkeypatch.setenv("MFB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path):
    """Return a folder of three case cards."""
    folder = tmp_path / "reference_data"
    (folder / "copper").mkdir(parents=True)
    for name, text in [("lattice", LATTICE), ("eos", EOS), ("frames", FRAMES)]:
        (folder / "copper" / f"{name}.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def cases(root):
    """Return the cases by the last part of their names."""
    return {case.id.split("/")[1]: case for case in select_cases(["*"], root)}


@pytest.fixture
def store(tmp_path):
    return RecordStore(tmp_path / "results")
