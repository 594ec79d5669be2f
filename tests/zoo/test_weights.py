"""Foundation models: downloaded once, converted once, checked ever after. The server is on this machine."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mace_ft_bench import get_calculator
from mace_ft_bench.checksum import sha256_of
from mace_ft_bench.errors import (
    CardError,
    CheckpointError,
    ChecksumError,
    LicenceError,
    MissingWeightsError,
    UnknownNameError,
    UntrustedFileError,
)
from mace_ft_bench.results.model_spec import model_spec
from mace_ft_bench.torch_env import default_dtype, mace_environment
from mace_ft_bench.zoo import conversion, registry
from mace_ft_bench.zoo.card import ModelCard
from mace_ft_bench.zoo.checkpoint import load_checkpoint
from mace_ft_bench.zoo.registry import find_model
from mace_ft_bench.zoo.weights import model_folder, on_this_machine, source_path, weights_path

from .conftest import rattled

TERMS = "https://host.example/terms"


@pytest.fixture
def card(server):
    return ModelCard("tiny-f", "foundation", "d", (), "PBE", "none", "MIT", "c", url=server.url, heads=())


def files(card):
    """Names of the files of a model; the lock does not count."""
    return sorted(path.name for path in model_folder(card).rglob("*") if path.name != ".lock")


def test_by_name_from_the_network_to_forces(card, server, tiny_pickle, monkeypatch):
    """One real conversion: the served model is that of mace-torch itself, and only data is read afterwards."""
    embedded = registry._embedded
    monkeypatch.setattr(registry, "_embedded", lambda: [*embedded(), on_this_machine(card)])
    with pytest.raises(MissingWeightsError, match="mfb models fetch tiny-f --trust"):
        model_spec("tiny-f")
    get_calculator("tiny-f", trust=True)
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ
    source_path(card).unlink()
    atoms = rattled()
    atoms.calc = get_calculator("tiny-f", accelerate="off")
    with mace_environment(), default_dtype(torch.float64):
        from mace.calculators import MACECalculator

        theirs = rattled()
        original = torch.load(tiny_pickle, weights_only=False)
        theirs.calc = MACECalculator(models=[original], device="cpu", default_dtype="float64")
        assert atoms.get_potential_energy() == pytest.approx(theirs.get_potential_energy(), abs=1e-10)
        assert np.abs(atoms.get_forces() - theirs.get_forces()).max() < 1e-12
    found = registry.find_model("tiny-f")
    assert (found.elements, found.heads) == (("Si", "Mo"), ("Default",))
    assert found.parameters == sum(item.numel() for item in original.parameters())
    assert model_spec("tiny-f").sha256 == found.sha256 == sha256_of(found.path)
    assert server.requests == 1


def test_a_download_is_not_repeated(card, server, quick):
    path = weights_path(card, trust=True)
    assert weights_path(card) == weights_path(card, trust=True) == path
    assert (server.requests, len(quick)) == (1, 1)
    assert files(card) == ["record.json", "tiny-f.safetensors", "tiny.model"]
    record = json.loads((model_folder(card) / "record.json").read_text())
    assert (record["source_sha256"], record["weights_sha256"]) == (sha256_of(source_path(card)), sha256_of(path))
    source_path(card).unlink()
    assert weights_path(card) == path


def test_nothing_is_asked_of_the_network_without_trust(card, server):
    with pytest.raises(UntrustedFileError, match="runs whatever code.*trust=True.*mfb models fetch tiny-f --trust"):
        weights_path(card)
    assert server.requests == 0
    assert not model_folder(card).exists()


def test_academic_terms_are_accepted_once(card, server, quick):
    card = replace(card, licence="LicenseRef-ASL", licence_terms=TERMS)
    with pytest.raises(LicenceError, match=f"LicenseRef-ASL.*{TERMS}.*accept_licence=True"):
        weights_path(card, trust=True)
    assert server.requests == 0
    path = weights_path(card, trust=True, accept_licence=True)
    assert weights_path(card) == path
    with pytest.raises(LicenceError, match="other-terms"):
        weights_path(replace(card, licence_terms=f"{TERMS}/other-terms"))
    assert len(quick) == 1


def test_terms_stay_accepted_when_the_download_fails(card, server, quick):
    card = replace(card, licence_terms=TERMS)
    server.status = 503
    with pytest.raises(MissingWeightsError):
        weights_path(card, trust=True, accept_licence=True)
    server.status = 200
    assert weights_path(card, trust=True).is_file()
    assert quick


def test_an_interrupted_download_leaves_nothing(card, server, quick):
    server.announced = len(server.body) + 1
    with pytest.raises(MissingWeightsError, match=r"tiny\.model\?raw=true cannot be downloaded"):
        weights_path(card, trust=True)
    assert files(card) == ["record.json"]
    server.announced = None
    assert weights_path(card, trust=True).is_file()
    assert server.requests == 2
    assert len(quick) == 1


def test_a_page_in_place_of_the_file_is_not_kept(card, server, quick):
    server.body = b"<html>Please log in</html>"
    with pytest.raises(CheckpointError, match="no torch file"):
        weights_path(card, trust=True)
    assert files(card) == ["record.json"]
    assert quick == []


def test_offline_says_where_to_put_the_file_and_takes_it_from_there(card, server, quick):
    body = server.body
    server.status, server.body = 404, b""
    dead = replace(card, url="http://127.0.0.1:9/releases/tiny.model")
    for offline in (dead, card):
        with pytest.raises(MissingWeightsError) as caught:
            weights_path(offline, trust=True)
        assert offline.url in caught.value.message
        assert str(source_path(offline)) in caught.value.fix
        (model_folder(offline) / "record.json").unlink()
    source_path(dead).write_bytes(body)
    assert weights_path(dead, trust=True).is_file()
    assert json.loads((model_folder(dead) / "record.json").read_text())["source_sha256"] == sha256_of(source_path(dead))
    assert quick == [source_path(dead)]


def test_the_first_checksum_is_enforced(card, server, monkeypatch):
    def fail(*_arguments):
        raise CheckpointError("no", fix="no")

    monkeypatch.setattr(conversion, "convert", fail)
    with pytest.raises(CheckpointError, match="no"):
        weights_path(card, trust=True)
    first = sha256_of(source_path(card))
    source_path(card).write_bytes(server.body + b"changed")
    with pytest.raises(ChecksumError, match=f"{first} was recorded"):
        weights_path(card, trust=True)
    source_path(card).unlink()
    server.body += b"changed at its source"
    with pytest.raises(ChecksumError, match=f"{first} was recorded"):
        weights_path(card, trust=True)
    assert not source_path(card).exists()


def test_a_pinned_checksum_is_enforced_on_the_first_download(card, server, quick):
    pinned = replace(card, url_sha256="0" * 64)
    with pytest.raises(ChecksumError, match="0{64} was recorded"):
        weights_path(pinned, trust=True)
    assert files(card) == ["record.json"]
    assert (server.requests, quick) == (1, [])


def test_changed_weights_are_refused(card, quick):
    path = weights_path(card, trust=True)
    path.write_bytes(b"changed")
    with pytest.raises(ChecksumError, match=f"delete the folder {model_folder(card)}"):
        weights_path(card, trust=True)
    assert len(quick) == 1


def test_deleted_weights_are_converted_again(card, server, quick):
    weights_path(card, trust=True).unlink()
    assert on_this_machine(card) == card
    assert weights_path(card, trust=True).is_file()
    assert (server.requests, len(quick)) == (1, 2)


@pytest.mark.parametrize("text", ["{", "[]", '{"url": 1}', '{"url": "u", "extra": 1}'])
def test_a_damaged_record_breaks_that_model_only(card, quick, text, caplog):
    weights_path(card, trust=True)
    (model_folder(card) / "record.json").write_text(text)
    assert on_this_machine(card) == card
    assert "record.json" in caplog.text
    with pytest.raises(CardError, match="record.json"):
        weights_path(card, trust=True)
    assert len(quick) == 1


def test_a_card_that_names_another_file_takes_no_old_weights(card, quick):
    weights_path(card, trust=True)
    newer = replace(card, url=card.url.replace("releases", "newer"))
    assert on_this_machine(newer) == newer
    with pytest.raises(ChecksumError, match="is now .*newer"):
        weights_path(newer, trust=True)
    assert len(quick) == 1


def test_two_processes_download_and_convert_once(card, server, tiny_file):
    code = (
        "import shutil, sys, time\n"
        "from mace_ft_bench.zoo import conversion, weights\n"
        "from mace_ft_bench.zoo.card import ModelCard\n"
        "def slow(source, target):\n"
        "    print('converted'); time.sleep(0.5)\n"
        f"    shutil.copyfile({str(tiny_file)!r}, target)\n"
        "    return conversion.Facts(('Si', 'Mo'), ('Default',), 7, 'tiny', {})\n"
        "conversion.convert = slow\n"
        f"card = ModelCard('tiny-f', 'foundation', 'd', (), 'PBE', 'none', 'MIT', 'c', url={card.url!r})\n"
        "print(weights.weights_path(card, trust=True))\n"
    )
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = [line for process in running for line in process.communicate()[0].splitlines()]
    assert [process.returncode for process in running] == [0, 0]
    path = weights_path(card)
    assert sorted(lines) == sorted(["converted", str(path), str(path)])
    assert server.requests == 1
    assert Path(path).parent == model_folder(card)


def test_heads_are_unknown_until_the_weights_are_here():
    """Not: "has no head"."""
    with pytest.raises(MissingWeightsError, match="mfb models fetch mace-mh-1 --trust --accept-licence"):
        model_spec("mace-mh-1", head="omat_pbe")


def test_a_name_that_nearly_exists():
    with pytest.raises(UnknownNameError, match='did you mean "mace-mp-0b3"'):
        get_calculator("mace-mp-0b33")


def test_most_channels_of_the_foundation_model_are_alive():
    """Weight decay once took most angular channels of the second layer, for good."""
    model = load_checkpoint(find_model("mace-nano").verified_path())
    for interaction in model.interactions:
        linear = interaction.linear
        blocks = linear.weight.split([math.prod(block.path_shape) for block in linear.instructions])
        for weights, block in zip(blocks, linear.instructions, strict=True):
            sizes = weights.view(*block.path_shape).square().mean(dim=0).sqrt()
            assert (sizes > 1e-3).double().mean() > 2 / 3
