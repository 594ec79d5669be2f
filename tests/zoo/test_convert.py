"""From a pickle to data: exact, in a process of its own, and refused where the copy would differ."""

from __future__ import annotations

import os
import stat
import sys

import numpy as np
import pytest
import torch

from mace_ft_bench.errors import CheckpointError, UnknownNameError
from mace_ft_bench.torch_env import default_dtype, mace_environment
from mace_ft_bench.zoo import checkpoint, conversion, convert
from mace_ft_bench.zoo.conversion import TIMEOUT_VARIABLE

from ..conftest import FOUNDATION_LIKE, TWO_HEADS, build
from .conftest import rattled

NONLINEAR = {
    "interaction_cls": "RealAgnosticResidualNonLinearInteractionBlock",
    "interaction_cls_first": "RealAgnosticResidualNonLinearInteractionBlock",
    "edge_irreps": "2x0e+2x1o",
    "distance_transform": "Agnesi",
    "apply_cutoff": False,
    "use_agnostic_product": True,
    "use_last_readout_only": True,
    "readout_cls": "NonLinearBiasReadoutBlock",
    "correlation": 3,
    **TWO_HEADS,
}
"""The parts of MACE-MH-1, as far as mace-torch builds them."""

AGED = ("use_reduced_cg", "use_so3", "use_agnostic_product", "use_last_readout_only", "use_edge_irreps_first")
AGED += ("apply_cutoff", "edge_irreps", "cueq_config", "oeq_config", "heads", "lammps_mliap", "num_heads")


def aged(model):
    """Take away what releases of mace-torch before 0.3.10 did not store, and store the rest as they did."""
    for module in model.modules():
        for name in AGED:
            module.__dict__.pop(name, None)
        if type(module).__name__ == "Contraction":
            for name in [name for name in module._buffers if name.endswith("_zeroed")]:
                delattr(module, name)
    model.atomic_energies_fn.atomic_energies = model.atomic_energies_fn.atomic_energies.reshape(-1)
    model.scale_shift.scale, model.scale_shift.shift = (
        value.reshape(()) for value in (model.scale_shift.scale, model.scale_shift.shift)
    )
    model.radial_embedding.cutoff_fn.p = model.radial_embedding.cutoff_fn.p.float()
    for interaction in model.interactions:
        interaction.avg_num_neighbors = np.float64(interaction.avg_num_neighbors)
    return model


def by_mace(model, head=None):
    """Evaluate with mace-torch's own calculator in double precision."""
    atoms = rattled()
    with mace_environment(), default_dtype(torch.float64):
        from mace.calculators import MACECalculator

        options = {} if head is None else {"head": head}
        atoms.calc = MACECalculator(models=[model], device="cpu", default_dtype="float64", **options)
        return atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()


CASES = {
    "today": ({}, None),
    "aged": ({"use_reduced_cg": False}, None),
    "aged-foundation": ({"use_reduced_cg": False, **FOUNDATION_LIKE}, None),
    "foundation-float64": ({**FOUNDATION_LIKE, "dtype": "float64"}, None),
    "multihead": (NONLINEAR, "r2scan"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_copy_is_bit_equal_for_mace_itself(tmp_path, case):
    options, head = CASES[case]
    model = aged(build(**options)) if case.startswith("aged") else build(**options)
    source, target = tmp_path / "m.model", tmp_path / "m.safetensors"
    checkpoint.save_mace_model(model, source)
    facts = convert.convert(source, target)
    assert facts.elements == ("Si", "Mo")
    assert facts.heads == tuple(TWO_HEADS["heads"] if head else ["default"] if "aged" in case else ["Default"])
    assert facts.e0s_ev == ({} if head else {"Si": -1.25, "Mo": -2.5})
    assert facts.architecture.startswith("MACE, 2 layers, 4x0e+4x1o, r_max 4.5 A, correlation")
    with mace_environment():
        original = torch.load(source, weights_only=False)
    for found, wanted in zip(by_mace(checkpoint.load_checkpoint(target), head), by_mace(original, head), strict=True):
        assert np.array_equal(found, wanted)


def test_a_buffer_of_higher_precision_keeps_it(tmp_path):
    """Old models mix dtypes; the copy is as wide as the widest."""
    model, target = build(), tmp_path / "m.safetensors"
    model.atomic_energies_fn.atomic_energies = torch.tensor([[-1.0 - 1e-12, -2.0]], dtype=torch.float64)
    checkpoint.save_checkpoint(model, target)
    assert checkpoint.load_checkpoint(target).atomic_energies_fn.atomic_energies[0, 0].item() == -1.0 - 1e-12


def test_a_copy_that_would_differ_is_refused(tmp_path):
    model = build()
    model.interactions[1].avg_num_neighbors *= 1.01  # configurations hold that of the first layer
    checkpoint.save_mace_model(model, tmp_path / "m.model")
    with pytest.raises(CheckpointError, match="differs from the original by"):
        convert.convert(tmp_path / "m.model", tmp_path / "m.safetensors")
    assert not (tmp_path / "m.safetensors").exists()


def test_an_unknown_gate_is_refused(tmp_path):
    model = build()
    model.readouts[-1].non_linearity.acts[0].f = torch.nn.functional.relu
    with pytest.raises(CheckpointError, match="Unknown gate"):
        checkpoint.save_checkpoint(model, tmp_path / "m.safetensors")


class Raising:
    """Unpickling it raises."""

    def __reduce__(self):
        return (int, ("no number\nat all",))


def test_the_error_of_the_process_reaches_the_user(tmp_path):
    torch.save(Raising(), tmp_path / "m.model")
    with pytest.raises(CheckpointError, match=r"cannot be unpickled: invalid literal.*no number.*exit status 2"):
        conversion.convert(tmp_path / "m.model", tmp_path / "m.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["m.model"]


@pytest.mark.parametrize("content", [b"PK\x03\x04 garbage", b"\x80garbage", b""], ids=["zip", "pickle", "empty"])
def test_garbage_is_no_model(tmp_path, content, capsys):
    (tmp_path / "m.model").write_bytes(content)
    assert convert.main([str(tmp_path / name) for name in ("m.model", "m.safetensors", "facts.json")]) == 2
    assert "cannot be unpickled" in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["m.model"]


def interpreter(folder, monkeypatch, script):
    """Let the conversion run a shell script instead of Python: what a hostile pickle can make of the process."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(path))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 0", "ended without a result"),
        ("echo first >&2; echo; exit 3", r"first \(exit status 3\)"),
        ("touch $5; echo '{\"heads\": 1}' > $6", "said nonsense"),
        ("touch $5; echo '{' > $6", "said nonsense"),
        ("kill -SEGV $$", r"it said nothing \(exit status -11\)"),
    ],
)
def test_a_process_that_dies(tmp_path, monkeypatch, script, message):
    interpreter(tmp_path, monkeypatch, script)
    with pytest.raises(CheckpointError, match=message):
        conversion.convert(tmp_path / "m.model", tmp_path / "m.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["python"]


def test_a_process_that_hangs_is_ended(tmp_path, monkeypatch):
    interpreter(tmp_path, monkeypatch, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    monkeypatch.setenv(TIMEOUT_VARIABLE, "0.5")
    with pytest.raises(CheckpointError, match="not converted within 0.5 s") as caught:
        conversion.convert(tmp_path / "m.model", tmp_path / "m.safetensors")
    assert TIMEOUT_VARIABLE in caught.value.fix
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan"])
def test_a_timeout_is_a_positive_number(tmp_path, monkeypatch, value):
    monkeypatch.setenv(TIMEOUT_VARIABLE, value)
    with pytest.raises(UnknownNameError, match="is no time"):
        conversion.convert(tmp_path / "m.model", tmp_path / "m.safetensors")
