"""Deferred modules: they wait, they run once, they are what an ordinary import makes of them."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from types import ModuleType

import pytest

from mace_ft_bench.deferred_imports import defer


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return the name of a package with a slow start, which is on the path."""
    name = f"deferred_{tmp_path.name}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "import builtins, time\n"
        f"builtins.{name}_runs = getattr(builtins, '{name}_runs', 0) + 1\n"
        "time.sleep(0.05)\n"
        "from .part import inner\n"
        "answer = 42\n"
    )
    (folder / "part.py").write_text("inner = 'from the part'\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for module in [key for key in sys.modules if key.partition(".")[0] == name]:
        del sys.modules[module]


def runs(name):
    return getattr(__import__("builtins"), f"{name}_runs", 0)


def test_it_waits_until_something_is_taken(package):
    defer(package)
    module = importlib.import_module(package)
    assert runs(package) == 0
    assert module.answer == 42
    assert type(module) is ModuleType
    assert module is sys.modules[package]
    assert module.inner == "from the part"
    assert runs(package) == 1


def test_a_submodule_runs_its_package_first(package):
    defer(package)
    assert importlib.import_module(f"{package}.part").inner == "from the part"
    assert runs(package) == 1


def test_named_parts_are_had_without_the_package(package):
    defer(package, {"inner": f"{package}.part"})
    module = importlib.import_module(package)
    assert module.inner == "from the part"
    assert importlib.import_module(f"{package}.part").inner == "from the part"
    assert runs(package) == 0
    assert module.answer == 42
    assert runs(package) == 1


def test_what_is_missing_is_missed(package):
    defer(package)
    with pytest.raises(AttributeError, match="no attribute 'question'"):
        _ = importlib.import_module(package).question
    assert runs(package) == 1


def test_threads_wait_for_the_first(package):
    defer(package)
    module, found = importlib.import_module(package), []
    threads = [threading.Thread(target=lambda: found.append(module.answer)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [42] * 4
    assert runs(package) == 1


def test_one_that_fails_may_be_tried_again(package, tmp_path):
    source = tmp_path / package / "__init__.py"
    good = source.read_text()
    source.write_text("raise OSError('busy')\n")
    defer(package)
    with pytest.raises(OSError, match="busy"):
        _ = importlib.import_module(package).answer
    source.write_text(good)
    assert importlib.import_module(package).answer == 42


def test_imported_and_missing_modules_are_left_alone():
    before = sys.modules["subprocess"]
    defer("subprocess")
    assert sys.modules["subprocess"] is before
    defer("there_is_no_such_module")
    assert "there_is_no_such_module" not in sys.modules


AFTER_SERVING = """
import sys
from mace_ft_bench import get_calculator
calculator = get_calculator("mo-ft", device="cpu")
waiting = [name for name in ("mace.tools.train", "torchmetrics", "torch._dynamo.eval_frame") if name in sys.modules]
assert not waiting, waiting
import torch, torch._dynamo.config
import mace.tools
from mace.tools import train, utils
assert mace.tools.torch_tools.to_numpy is mace.tools.to_numpy
assert callable(mace.tools.train) and utils.AtomicNumberTable
import scipy.signal
assert scipy.signal.find_peaks([0, 1, 0])[0].tolist() == [1]
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item() == 2
from mace.calculators import MACECalculator
print("served")
"""


def test_serving_leaves_them_alone_and_they_work_afterwards():
    ran = subprocess.run([sys.executable, "-c", AFTER_SERVING], capture_output=True, text=True, check=False)
    assert ran.stdout == "served\n", ran.stderr
