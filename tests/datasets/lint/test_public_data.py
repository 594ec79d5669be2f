"""What lint says about public datasets, where copies of them are on this machine (MFB_MIRROR)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mace_ft_bench.datasets.card import find_dataset
from mace_ft_bench.datasets.fetch import MIRROR_VARIABLE, fetch
from mace_ft_bench.datasets.lint.run import lint_frames
from mace_ft_bench.datasets.lint.sources import read_sources

MIRROR = os.environ.get(MIRROR_VARIABLE)  # before a fixture hides it
pytestmark = pytest.mark.skipif(not MIRROR, reason=f"{MIRROR_VARIABLE} is not set")


def findings(*sources, change=None):
    frames, _ = read_sources(sources, mirror=Path(MIRROR))
    for frame in frames if change else []:
        frame.info["REF_stress"] = change(frame.info["REF_stress"])
    return {finding.check: finding for finding in lint_frames(frames).findings if finding.severity != "info"}


@pytest.mark.parametrize("name", ["mlearn-mo", "mlearn-si"])
def test_mlearn_is_clean(name):
    assert not findings(name)


def test_the_order_of_the_sheared_silicon_is_not_that_of_vacancies():
    frames, _ = read_sources(["mlearn-si"], mirror=Path(MIRROR))
    for frame in frames:
        frame.info["REF_stress"] = frame.info["REF_stress"][[0, 1, 2, 4, 3, 5]]
    messages = {
        f.message.split(" of ")[1].split()[0]: f.message for f in lint_frames(frames).findings if f.check == "stress"
    }
    assert set(messages) == {"Elastic", "Vacancy"}
    assert all("wrong is the order, which would be xx yy zz xz yz xy" in message for message in messages.values())


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 5, 4], [0, 1, 2, 4, 3, 5], [0, 1, 2, 5, 4, 3]])
def test_another_order_of_its_stress_is_found(order):
    assert set(findings("mlearn-mo:train", change=lambda stress: stress[order])) == {"stress"}


def test_two_codes_have_two_zeros():
    found = findings("mlearn-si:train", "si-ood")["energy-zero"]
    assert found.severity == "error"
    assert len(found.frames) == 28
    assert "158 eV/atom apart" in found.message


def test_zero_forces_of_the_tutorial_are_those_of_symmetric_crystals():
    """One atom per cell, or two of them in a strained bcc cell: no placeholders."""
    raw = fetch(find_dataset("tutorial-mo"), mirror=Path(MIRROR))[0]
    frames, _ = read_sources([str(raw)])
    zero = [frame for frame in frames if not frame.arrays["dft_force"].any()]
    assert len(zero) == 229
    assert {len(frame) for frame in zero} == {1, 2}
    assert "placeholder-forces" not in findings(str(raw))
