"""The example scripts run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
ARGUMENTS = {"molecular_dynamics.py": ["60"], "elastic_constants.py": []}


def test_every_example_is_run():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(ARGUMENTS)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_example(name):
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *ARGUMENTS[name]]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    last = done.stdout.strip().splitlines()[-1]
    if name == "molecular_dynamics.py":
        step, temperature, energy = last.split()
        assert step == "60"
        assert 100 < float(temperature) < 600
        assert -11 < float(energy) < -10.5
    else:
        assert "mo-ft: a = 3.1" in last
