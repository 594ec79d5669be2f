"""Exports give the energies of the model they came from, in the programs they are meant for."""

from __future__ import annotations

import functools
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mace_ft_bench.calculators.mace import MaceCalculator
from mace_ft_bench.cli.main import app
from mace_ft_bench.errors import CheckpointError, MaceFtBenchError, UnknownNameError, UntrustedFileError
from mace_ft_bench.torch_env import default_dtype, mace_environment
from mace_ft_bench.zoo import checkpoint, export_formats
from mace_ft_bench.zoo.export_formats import CONFIG, export_model

from ..conftest import FOUNDATION_LIKE, TWO_HEADS, build
from .conftest import rattled


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Return files of a tiny model, and of one like the foundation models with two heads."""
    folder = tmp_path_factory.mktemp("sources")
    variants = {
        "plain": {"num_interactions": 1, "max_ell": 1, "hidden_irreps": "4x0e"},
        "foundation": {**FOUNDATION_LIKE, **TWO_HEADS},
    }
    for name, changes in variants.items():
        checkpoint.save_checkpoint(build(**changes), folder / f"{name}.safetensors")
    return folder


@functools.cache
def served(path, head):
    """Return energy, forces and stress of our own calculator."""
    atoms = rattled()
    atoms.calc = MaceCalculator(
        checkpoint.load_checkpoint(path), name="m", device="cpu", dtype=torch.float64, head=head, accelerate="off"
    )
    return atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()


def test_maces_own_calculator_agrees(sources, tmp_path, monkeypatch):
    source, target = sources / "foundation.safetensors", tmp_path / "m.model"
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # what importing mace does for a user
    export_model(str(source), target, kind="mace")
    atoms = rattled()
    with mace_environment(), default_dtype(torch.get_default_dtype()):
        from mace.calculators import MACECalculator

        atoms.calc = MACECalculator(model_paths=str(target), device="cpu", default_dtype="float64", head="r2scan")
        found = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    for mine, wanted in zip(found, served(source, "r2scan"), strict=True):
        np.testing.assert_allclose(mine, wanted, atol=1e-10, rtol=0)


def batch_of(atoms, source, head):
    """Return mace's dictionary of tensors of a structure, in float64."""
    with mace_environment(), default_dtype(torch.float64):
        from mace.data import AtomicData, config_from_atoms
        from mace.tools import AtomicNumberTable
        from mace.tools.torch_geometric import Batch

        config = checkpoint.read_config(source)
        table = AtomicNumberTable(config["atomic_numbers"])
        graph = AtomicData.from_config(
            config_from_atoms(atoms, head_name=head or config["heads"][0]),
            table,
            config["r_max"],
            heads=config["heads"],
        )
        batch = Batch.from_data_list([graph]).to_dict()
    return {key: value for key, value in batch.items() if torch.is_tensor(value)}


def test_torchscript_agrees(sources, tmp_path):
    source, target = sources / "foundation.safetensors", tmp_path / "m.pt"
    export_model(str(source), target, kind="torchscript", dtype="float64")
    extra = {CONFIG: ""}
    with mace_environment():
        loaded = torch.jit.load(str(target), _extra_files=extra)
        found = loaded(batch_of(rattled(), source, "r2scan"), compute_stress=True, training=False)
    energy, forces, stress = served(source, "r2scan")
    assert float(found["energy"].detach()) == pytest.approx(energy, abs=1e-10)
    np.testing.assert_allclose(found["forces"].detach().numpy(), forces, atol=1e-10)
    xx, yy, zz, yz, xz, xy = stress
    tensor = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    np.testing.assert_allclose(found["stress"].detach().numpy()[0], tensor, atol=1e-10)
    assert json.loads(extra[CONFIG])["dtype"] == "float64"
    assert json.loads(extra[CONFIG])["heads"] == checkpoint.read_config(source)["heads"]


def test_torchscript_runs_without_mace(sources, tmp_path):
    """Another process that never imports mace or e3nn loads the file and computes."""
    source, target = sources / "plain.safetensors", tmp_path / "m.pt"
    export_model(str(source), target, kind="torchscript", dtype="float64")
    torch.save(batch_of(rattled(), source, None), tmp_path / "batch.pt")
    code = (
        "import sys, warnings, torch; warnings.simplefilter('ignore')\n"
        "batch = torch.load(sys.argv[2], weights_only=True)\n"
        "print(torch.jit.load(sys.argv[1])(batch)['energy'].item(), *sorted({'mace', 'e3nn'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(target), str(tmp_path / "batch.pt")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert [float(word) for word in printed] == [pytest.approx(served(source, None)[0], abs=1e-10)]


def test_the_dtype_is_kept_unless_another_is_asked_for(sources, tmp_path):
    source = str(sources / "plain.safetensors")
    for dtype, expected in ((None, torch.float32), ("float64", torch.float64)):
        export_model(source, tmp_path / f"{dtype}.model", kind="mace", dtype=dtype)
        model = checkpoint.load_mace_model(tmp_path / f"{dtype}.model", trust=True)
        assert next(model.parameters()).dtype == expected


def test_what_is_refused(sources, tmp_path):
    source, target = str(sources / "plain.safetensors"), tmp_path / "m.model"
    with pytest.raises(CheckpointError, match='no format "onnx"'):
        export_model(source, target, kind="onnx")
    with pytest.raises(CheckpointError, match='no dtype "float16"'):
        export_model(source, target, kind="mace", dtype="float16")
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        export_model(source, tmp_path / "nowhere" / "m.model", kind="mace")
    with pytest.raises(UnknownNameError, match="mo-fft"):
        export_model("mo-fft", target, kind="mace")
    with pytest.raises(CheckpointError, match="chgnet is no MACE model"):
        export_model("chgnet", target, kind="mace")
    target.write_text("mine", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"m\.model exists"):
        export_model(source, target, kind="mace")
    with pytest.raises(UntrustedFileError):
        export_model(str(target), tmp_path / "other.model", kind="mace")
    assert target.read_text(encoding="utf-8") == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["m.model"]


def test_a_failure_leaves_nothing_behind(sources, tmp_path, monkeypatch):
    def full(_model, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(export_formats.FORMATS, "mace", full)
    with pytest.raises(OSError, match="No space left"):
        export_model(str(sources / "plain.safetensors"), tmp_path / "m.model", kind="mace")
    assert list(tmp_path.iterdir()) == []


def test_the_command(sources, tmp_path):
    arguments = ["models", "export", str(sources / "plain.safetensors"), "--format", "mace", "--out"]
    result = CliRunner().invoke(app, [*arguments, str(tmp_path / "m.model")], env={"COLUMNS": "250"})
    assert result.exit_code == 0, result.output
    assert result.output.strip() == f"wrote {tmp_path / 'm.model'}"
    again = CliRunner().invoke(app, [*arguments, str(tmp_path / "m.model")])
    assert isinstance(again.exception, MaceFtBenchError)
