"""``mfb run`` killed by signal 9 at ten moments and continued ends as one that was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest

from mace_ft_bench.results.store import RecordStore

CASES, KILLS = 30, 10
CASE = """
title = "Copper from {a} Angstrom"
property = "relaxation"
structure = {{ element = "Cu", lattice = "fcc", a = {a}, repeat = [2, 2, 2] }}
settings = {{ max_steps = {steps} }}
"""
SUPERVISOR = """
import os, signal, sys, time, types
from pathlib import Path

import torch
from ase.calculators.emt import EMT

from mace_ft_bench import paths
from mace_ft_bench.cli.main import main
from mace_ft_bench.leaderboard import report
from mace_ft_bench.properties.base import all_properties
from mace_ft_bench.results import runner
from mace_ft_bench.zoo import registry
from mace_ft_bench.zoo.card import ModelCard

root, out, moments = Path(sys.argv[1]), Path(sys.argv[2]), [float(text) for text in sys.argv[3:]]
sys.modules["fake_models"] = types.SimpleNamespace(emt=lambda *_: EMT())
card = ModelCard("emt", "factory", "", ("Cu",), "", "none", "", "", factory="fake_models:emt")
registry._embedded = lambda: [card]
all_properties()  # as the imports above, so that no process has to import them again
paths.reference_data = lambda: root


def start(folder):
    child = os.fork()
    if child:
        return child
    sys.argv = ["mfb", "run", "--models", "emt", "--device", "cpu", "--out", str(folder)]
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        main()
        code = 0
    except SystemExit as ending:
        code = ending.code or 0
    os._exit(code)


def records(folder):
    path = folder / "records.jsonl"
    return path.read_bytes().count(b"\\n") if path.is_file() else 0


began = time.perf_counter()
assert os.waitpid(start(out / "alone"), 0)[1] == 0
per_case = (time.perf_counter() - began) / records(out / "alone")
for moment in moments:  # so many cases, counted from the first, and a part of the next one
    child = start(out / "killed")
    while records(out / "killed") < int(moment) and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.001)
    time.sleep(moment % 1 * per_case)
    os.kill(child, signal.SIGKILL)
    ended = os.waitpid(child, 0)[1]
    print(records(out / "killed"), os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else 0, flush=True)
assert os.waitpid(start(out / "killed"), 0)[1] == 0
"""


@pytest.fixture
def root(tmp_path):
    """Return a folder of cases that EMT computes in some hundredths of a second each."""
    folder = tmp_path / "reference_data" / "copper"
    folder.mkdir(parents=True)
    for index in range(CASES):
        text = CASE.format(a=3.5 + 0.002 * index, steps=1 if index % 10 == 3 else 100)
        (folder / f"case-{index:02}.toml").write_text(text, encoding="utf-8")
    return folder.parent


def content(record):
    """Return all of a record but when it was made and how long it took."""
    found = asdict(record)
    del found["wall_s"], found["provenance"]["started"]
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, so that imports happen once")
def test_the_records_are_those_of_a_run_left_alone(tmp_path, root):
    moments = np.sort(np.random.default_rng(9).uniform(0, CASES - 3, KILLS))
    command = [sys.executable, "-c", SUPERVISOR, str(root), str(tmp_path), *map(str, moments)]
    environment = {**os.environ, "MFB_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    kills = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert [signal_number for _, signal_number in kills] == [signal.SIGKILL] * KILLS
    assert len({finished for finished, _ in kills}) > KILLS / 2, kills  # at many stages of the run
    alone, killed = (RecordStore(tmp_path / name).all() for name in ("alone", "killed"))
    assert Counter(record.case for record in killed) == Counter(record.case for record in alone)
    assert len(killed) == len(alone) == CASES
    assert {record.status for record in alone} == {"ok", "unconverged"}
    by_case = [sorted(map(content, records), key=lambda item: item["case"]) for records in (alone, killed)]
    assert by_case[0] == by_case[1]
