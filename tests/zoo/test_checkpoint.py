"""Weights without pickles: exact, and safe against foreign files."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from ase.build import bulk
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mace_ft_bench import get_calculator, list_models, paths
from mace_ft_bench.calculators.mace import MaceCalculator
from mace_ft_bench.errors import CheckpointError, UntrustedFileError
from mace_ft_bench.zoo import checkpoint

from ..conftest import FOUNDATION_LIKE, TWO_HEADS, build
from .conftest import rattled

VARIANTS = [{}, TWO_HEADS, FOUNDATION_LIKE, {"dtype": "float64"}, {**FOUNDATION_LIKE, **TWO_HEADS}]


def results_of(model, dtype, head=None):
    atoms = rattled()
    atoms.calc = MaceCalculator(model, name="m", device="cpu", dtype=dtype, head=head)
    return atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()


@pytest.mark.parametrize("variant", VARIANTS, ids=["plain", "heads", "foundation", "float64", "foundation-heads"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip_is_bit_equal(tmp_path, variant, dtype):
    head = variant.get("heads", [None])[-1]
    path = tmp_path / "m.safetensors"
    checkpoint.save_checkpoint(build(**variant), path)
    expected = results_of(build(**variant), dtype, head)
    for found, wanted in zip(results_of(checkpoint.load_checkpoint(path), dtype, head), expected, strict=True):
        assert np.array_equal(found, wanted)


def test_weights_are_as_readable_as_any_file(tmp_path):
    (tmp_path / "plain").touch()
    checkpoint.save_checkpoint(build(), tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_round_trip_through_mace_model_is_bit_equal(tmp_path, tiny_file):
    pickled, back = tmp_path / "m.model", tmp_path / "back.safetensors"
    checkpoint.save_mace_model(checkpoint.load_checkpoint(tiny_file), pickled)
    checkpoint.save_checkpoint(checkpoint.load_mace_model(pickled, trust=True), back)
    assert checkpoint.read_config(back) == checkpoint.read_config(tiny_file)
    first, second = load_file(tiny_file), load_file(back)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_agrees_with_the_calculator_of_mace(tiny_file):
    """Same model, dtype and structure through mace-torch's own calculator."""
    from mace_ft_bench.torch_env import default_dtype, mace_environment

    atoms = rattled()
    with mace_environment(), default_dtype(torch.get_default_dtype()):
        from mace.calculators import MACECalculator

        atoms.calc = MACECalculator(
            models=[checkpoint.load_checkpoint(tiny_file)], device="cpu", default_dtype="float64"
        )
        expected = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    atoms.calc = get_calculator(tiny_file)
    assert atoms.get_potential_energy() == pytest.approx(expected[0], abs=1e-10)
    assert atoms.get_forces() == pytest.approx(expected[1], abs=1e-12)
    assert atoms.get_stress() == pytest.approx(expected[2], abs=1e-12)


def test_embedded_weights_keep_their_energies(pytestconfig):
    """A new version of mace-torch, e3nn or torch that changes the served model fails here."""
    stored = json.loads((pytestconfig.rootpath / "tests/zoo/embedded_energies.json").read_text())
    embedded = [card for card in list_models() if card.kind == "mace"]
    assert set(stored) == {card.name for card in embedded}
    for card in embedded:
        atoms = bulk("Cu", "fcc", a=4.5, cubic=True) * (2, 2, 1)
        atoms.symbols = [card.elements[site % len(card.elements)] for site in range(len(atoms))]
        atoms.rattle(0.1, seed=1)
        atoms.calc = get_calculator(card.name, accelerate="off")
        reference = sum(card.e0s_ev[symbol] for symbol in atoms.symbols)
        assert atoms.get_potential_energy() - reference == pytest.approx(stored[card.name], abs=1e-6), card.name


def test_embedded_weights_are_small():
    sizes = {path.name: path.stat().st_size for path in (paths.PACKAGE / "zoo" / "weights").glob("*.safetensors")}
    assert sizes
    assert max(sizes.values()) <= 3e6


class Bomb:
    """Unpickling it creates a file: what a malicious .model would do."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


def test_pickle_needs_trust_and_runs_nothing_without(tmp_path):
    path, target = tmp_path / "evil.model", tmp_path / "was-run"
    torch.save(Bomb(target), path)
    with pytest.raises(UntrustedFileError, match="runs whatever code.*trust=True"):
        get_calculator(path)
    assert not target.exists()


def test_trusted_pickle_that_is_no_model(tmp_path):
    path = tmp_path / "list.model"
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="holds a list"):
        get_calculator(path, trust=True)
    path.write_bytes(b"no pickle at all")
    with pytest.raises(CheckpointError, match="cannot be unpickled"):
        get_calculator(path, trust=True)


def test_damaged_and_foreign_files(tmp_path, tiny_file):
    data = tiny_file.read_bytes()
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        get_calculator(broken)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(1)}, foreign)
    with pytest.raises(CheckpointError, match="not written by mace_ft_bench"):
        get_calculator(foreign)
    with pytest.raises(CheckpointError, match="does not exist"):
        checkpoint.load_checkpoint(tmp_path / "none.safetensors")


def rewritten(source, target, *, tensors=None, **config):
    header = header_of(source) | {
        "version": str(config.pop("version", checkpoint.VERSION)),
        "config": json.dumps({**checkpoint.read_config(source), **config}),
    }
    save_file(tensors or load_file(source), target, metadata=header)
    return target


def header_of(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def test_zeros_of_couplings_are_not_stored(tmp_path):
    path, plain = tmp_path / "m.safetensors", tmp_path / "plain.safetensors"
    state = build().state_dict()
    checkpoint.save_checkpoint(build(), path)
    couplings = json.loads(header_of(path)["couplings"])
    assert couplings == {name: list(tensor.shape) for name, tensor in state.items() if ".U_matrix_" in name}
    assert not couplings.keys() & load_file(path).keys()
    header = {key: value for key, value in header_of(path).items() if key != "couplings"} | {"version": "1"}
    save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, plain, metadata=header)
    assert path.stat().st_size < plain.stat().st_size - 1000
    for found in (checkpoint.load_checkpoint(path).state_dict(), checkpoint.load_checkpoint(plain).state_dict()):
        assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("shape", ["null", "[-1, 2]", '"x"', "[1, 1]", "[]", "{}"])
def test_unreadable_couplings(tmp_path, tiny_file, shape):
    path, header = tmp_path / "m.safetensors", header_of(tiny_file)
    first = min(json.loads(header["couplings"]))
    for couplings in (shape, f'{{"{first}": {shape}}}', f'{{"no-such-tensor": {shape}}}'):
        save_file(load_file(tiny_file), path, metadata=header | {"couplings": couplings})
        with pytest.raises(CheckpointError, match="coupling|do not fit"):
            checkpoint.load_checkpoint(path)


def test_newer_version(tmp_path, tiny_file):
    with pytest.raises(CheckpointError, match="format version 99.*update"):
        checkpoint.load_checkpoint(rewritten(tiny_file, tmp_path / "m.safetensors", version=99))


@pytest.mark.parametrize("change", [{"gate": "eval"}, {"interaction_cls": "os.system"}])
def test_only_known_classes_are_built(tmp_path, tiny_file, change):
    with pytest.raises(CheckpointError, match="Unknown"):
        checkpoint.load_checkpoint(rewritten(tiny_file, tmp_path / "m.safetensors", **change))


def test_tensors_must_fit(tmp_path, tiny_file):
    tensors = load_file(tiny_file)
    tensors.pop(min(tensors))
    with pytest.raises(CheckpointError, match="do not fit"):
        checkpoint.load_checkpoint(rewritten(tiny_file, tmp_path / "m.safetensors", tensors=tensors))


@pytest.mark.parametrize("change", [{"no_such_argument": 1}, {"dtype": "float16"}, {"hidden_irreps": "nonsense"}])
def test_malformed_configuration(tmp_path, tiny_file, change):
    with pytest.raises(CheckpointError, match="configuration"):
        checkpoint.load_checkpoint(rewritten(tiny_file, tmp_path / "m.safetensors", **change))


@pytest.mark.parametrize("header", [{}, {"config": "{"}, {"config": "[]"}, {"version": "abc"}], ids=str)
def test_malformed_header(tmp_path, tiny_file, header):
    complete = {"format": checkpoint.FORMAT, "version": str(checkpoint.VERSION)}
    path = tmp_path / "m.safetensors"
    save_file(load_file(tiny_file), path, metadata=complete | header)
    with pytest.raises(CheckpointError):
        checkpoint.load_checkpoint(path)


@pytest.mark.parametrize("change", [{"heads": []}, {"MLP_irreps": ""}, {"num_interactions": 0}, {"cueq_config": {}}])
def test_hostile_configuration(tmp_path, tiny_file, change):
    with pytest.raises(CheckpointError):
        checkpoint.load_checkpoint(rewritten(tiny_file, tmp_path / "m.safetensors", **change))


def test_configuration_and_tensors_must_agree(tmp_path, tiny_file):
    with pytest.raises(CheckpointError, match="tensors say.*the configuration says"):
        checkpoint.load_checkpoint(rewritten(tiny_file, tmp_path / "m.safetensors", atomic_numbers=[14, 74]))


@pytest.mark.parametrize(
    "variant", [{"keep_last_layer_irreps": True}, {"correlation": [3, 2]}, {"radial_type": "gaussian"}]
)
def test_a_model_that_could_not_be_read_back_is_not_written(tmp_path, variant):
    with pytest.raises(CheckpointError, match="not describe|cannot be described"):
        checkpoint.save_checkpoint(build(**variant), tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_other_models_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="class Linear"):
        checkpoint.save_checkpoint(torch.nn.Linear(1, 1), tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_loading_leaves_no_trace_in_the_process(tiny_file):
    """Neither torch's default dtype nor mace's switch that allows unpickling stays changed."""
    code = (
        "import os, torch\n"
        f"from mace_ft_bench import get_calculator\nget_calculator({str(tiny_file)!r})\n"
        "assert torch.get_default_dtype() == torch.float32\n"
        "assert 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD' not in os.environ\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
