"""get_calculator, and the registration in ASE."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
import torch
from ase.calculators.calculator import get_calculator_class

import mace_ft_bench
from mace_ft_bench import get_calculator
from mace_ft_bench.calculators import ase_plugin
from mace_ft_bench.calculators.mace import MaceCalculator
from mace_ft_bench.errors import CardError, MissingDependencyError, UnknownNameError
from mace_ft_bench.zoo import registry


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name_or_path": "mo-tf"}, 'did you mean "mo-ft"'),
        ({"name_or_path": "mo-ft", "device": "cdua"}, 'did you mean "cuda"'),
        ({"name_or_path": "mo-ft", "dtype": "float16"}, "did you mean"),
        ({"name_or_path": "mo-ft", "head": "pbe"}, 'no head "pbe"'),
        ({"name_or_path": "chgnet", "head": "pbe"}, 'no head "pbe"'),
        ({"name_or_path": "./none.safetensors"}, "does not exist"),
        ({"name_or_path": "none.model"}, "does not exist"),
    ],
)
def test_unknown_names(arguments, message):
    with pytest.raises(UnknownNameError, match=message):
        get_calculator(**arguments)


def test_no_cuda_here(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UnknownNameError, match="No CUDA device"):
        get_calculator("mo-ft", device="cuda")


def test_chgnet_has_one_dtype():
    with pytest.raises(CardError, match="float32 only"):
        get_calculator("chgnet", dtype="float64")


def test_missing_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "chgnet.model.dynamics", None)
    monkeypatch.delitem(sys.modules, "mace_ft_bench.calculators.chgnet", raising=False)
    with pytest.raises(MissingDependencyError, match=r"mace-ft-bench\[chgnet\]"):
        get_calculator("chgnet")


def test_ase_knows_us_by_name():
    calculator = get_calculator_class("mace_ft_bench")(model="mo-ft", dtype="float32")
    assert isinstance(calculator, MaceCalculator)


def test_registration_is_idempotent():
    ase_plugin.register()
    ase_plugin.register()


def test_ase_plugin_entry_point():
    from ase._4.plugins import PluginCollection

    found = [plugin for plugin in PluginCollection.from_entry_points() if plugin.name == "mace_ft_bench"]
    assert len(found) == 1
    assert isinstance(found[0]()(model="mo-ft"), MaceCalculator)


def test_ase_without_plugins(monkeypatch):
    monkeypatch.setitem(sys.modules, "ase._4.plugins.plugin", None)
    assert ase_plugin.__ase_plugins__ == set()


def test_public_names():
    assert set(dir(mace_ft_bench)) == {"__version__", "get_calculator", "list_models"}
    with pytest.raises(AttributeError, match="get_calculater"):
        mace_ft_bench.get_calculater  # noqa: B018 - the access itself is the test


def test_import_loads_nothing_heavy():
    code = (
        "import sys, mace_ft_bench\n"
        "heavy = {'torch', 'mace', 'e3nn', 'pydantic', 'matplotlib', 'typer', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_dtypes_and_devices_of_torch_are_understood():
    assert get_calculator("mo-ft", dtype=torch.float32, device=torch.device("cpu")).dtype == torch.float32


def test_a_broken_package_does_not_take_our_models_away(monkeypatch, caplog):
    class Broken(EntryPoint):
        def load(self):
            raise ImportError("half installed")

    entry = Broken(name="bad", value="bad:models", group=registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == entry.group else [])
    assert isinstance(get_calculator("mo-ft"), MaceCalculator)
    assert "mo-ft" in {card.name for card in mace_ft_bench.list_models()}
    assert "bad:models" in caplog.text
