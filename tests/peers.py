"""Environments for the tests: ours under another name, and one with calculators that misbehave."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import ase

from mace_ft_bench.zoo.card import load_card

ODD = '''
import os, sys, time
import numpy as np
from ase.calculators.emt import EMT

print("a banner")

class Odd(EMT):
    """EMT that does something else for a structure of one atom."""

    def __init__(self, does="nothing", device="cpu"):
        super().__init__()
        self.does = does
        self.device = device
        if does == "never starts":
            time.sleep(600)

    def calculate(self, atoms, *args, **kwargs):
        super().calculate(atoms, *args, **kwargs)
        print("a line for every structure")
        if len(atoms) > 1:
            return
        if self.does == "dies":
            print("the last words", file=sys.stderr)
            os._exit(7)
        if self.does == "waits":
            time.sleep(600)
        if self.does == "fails":
            raise ZeroDivisionError("of its own")
        if self.does == "NaN":
            self.results["forces"] = np.full((1, 3), np.nan)
        if self.does == "counts threads":
            self.results["energy"] = float(os.environ["OMP_NUM_THREADS"])
        if self.does == "has moments":
            self.results["magmoms"] = np.array([2.25])
'''

SITE = Path(ase.__file__).parent.parent
PINS = tuple(f"{name}=={version(name)}" for name in ("ase", "numpy"))


def odd_environment(folder):
    """Make an environment with our packages and the module ``odd_peer``; return its folder."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "ours.pth").write_text(f"{SITE}\n", encoding="utf-8")
    (site / "odd_peer.py").write_text(ODD, encoding="utf-8")
    return folder


def is_gone(pid):
    """Whether a process has ended, and been waited for, within some seconds."""
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def isolated_card(root, name, *, calculator="odd_peer:Odd", device="device", pins=PINS, **environment):
    """Write the card of an isolated model of EMT's elements below the folder of the user's models, and return it."""
    table = {"calculator": calculator, "requirements": list(pins), "device_argument": device, "dtype": "float64"}
    arguments = environment.pop("arguments", {})
    lines = [f"{key} = {json.dumps(value)}" for key, value in (table | environment).items()]
    lines += ["[environment.arguments]", *(f"{key} = {json.dumps(value)}" for key, value in arguments.items())]
    (root / name).mkdir(parents=True, exist_ok=True)
    path = root / name / "card.toml"
    path.write_text(CARD.format(name=name) + "\n".join(lines) + "\n", encoding="utf-8")
    return load_card(path)


CARD = """
name = "{name}"
kind = "isolated"
description = "EMT elsewhere"
elements = ["C", "O", "Al", "Ni", "Cu", "Ag", "Pt", "Au"]
functional = "EMT"
dispersion = "none"
licence = "LGPL-2.1-or-later"
citation = "Jacobsen et al., Surf. Sci. 366, 394 (1996)"

[environment]
"""
