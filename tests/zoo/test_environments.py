"""Environments of isolated models: made when asked, proved, and told apart by what determines results."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from mace_ft_bench.errors import CardError, MissingDependencyError, WorkerError
from mace_ft_bench.zoo import environments
from mace_ft_bench.zoo.add import add_model, remove_model
from mace_ft_bench.zoo.card import load_card
from mace_ft_bench.zoo.environments import environment_folder, find_installation, install, installation
from mace_ft_bench.zoo.registry import find_model, whereabouts
from mace_ft_bench.zoo.user import user_folder

from ..peers import ODD, SITE, isolated_card

EMT = "ase.calculators.emt:EMT"
OURS = Path(sys.prefix)


@pytest.fixture
def card():
    """Return an isolated model of packages that our own environment has."""
    return isolated_card(user_folder(), "peer", calculator=EMT, device="")


def test_an_environment_that_exists_is_taken_as_it_is(card):
    assert (find_installation(card), whereabouts(card)) == (None, "not installed")
    with pytest.raises(MissingDependencyError, match="mfb models install peer"):
        installation(card)
    found = install(card, environment=OURS)
    assert found == installation(card)
    assert whereabouts(card) == "installed"
    assert found.implemented_properties == ("energy", "free_energy", "forces", "stress", "energies")
    assert set(found.pinned()) == {"ase", "numpy"}
    assert "torch" in found.packages
    assert sorted(path.name for path in environment_folder(card).iterdir()) == [".lock", "installation.json"]


def test_another_card_is_another_installation(card):
    install(card, environment=OURS)
    changed = isolated_card(user_folder(), "peer", calculator=EMT, device="", arguments={"asap_cutoff": True})
    assert find_installation(changed) is None
    first, second = installation(card).identity(), install(changed, environment=OURS).identity()
    assert first != second
    assert first.startswith(f"{EMT}@")
    assert second.replace('"asap_cutoff": true', "") == first  # and nothing else
    weights = {
        "weights": "ase/__init__.py",
        "weights_sha256": hashlib.sha256((SITE / "ase/__init__.py").read_bytes()).hexdigest(),
    }
    checked = isolated_card(user_folder(), "peer", calculator=EMT, device="", **weights)
    assert install(checked, environment=OURS).identity().startswith(weights["weights_sha256"])
    wrong = isolated_card(
        user_folder(), "peer", calculator=EMT, device="", weights="ase/__init__.py", weights_sha256="0"
    )
    with pytest.raises(WorkerError, match="not 0"):
        install(wrong, environment=OURS)
    assert whereabouts(wrong) == "not installed"


def test_what_does_not_work_is_not_installed(card, tmp_path):
    pinned = isolated_card(user_folder(), "peer", calculator=EMT, device="", pins=["ase==3.0"])
    with pytest.raises(MissingDependencyError, match=r"ase is .* installed in .*; peer needs 3.0"):
        install(pinned, environment=OURS)
    missing = isolated_card(user_folder(), "peer", calculator=EMT, device="", pins=["no-such-package==1"])
    with pytest.raises(MissingDependencyError, match="no-such-package is not installed"):
        install(missing, environment=OURS)
    broken = isolated_card(user_folder(), "peer", calculator="ase.calculators.emt:EMTT", device="")
    with pytest.raises(WorkerError, match="EMTT"):
        install(broken, environment=OURS)
    with pytest.raises(MissingDependencyError, match="does not exist"):
        install(card, environment=tmp_path)
    with pytest.raises(MissingDependencyError, match="cannot be made"):
        install(card, python=str(tmp_path / "python"))
    with pytest.raises(CardError, match="needs no environment"):
        install(find_model("mo-ft"))
    assert whereabouts(card) == "not installed"


def test_a_failed_attempt_takes_the_earlier_installation_away(card, monkeypatch):
    """Its packages may have been changed half-way."""
    install(card, environment=OURS)

    def killed(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(environments, "_proved", killed)
    assert install(card) == installation(card)  # nothing to do
    with pytest.raises(KeyboardInterrupt):
        install(card, environment=OURS)
    assert whereabouts(card) == "not installed"


def test_a_damaged_record_says_what_to_do(card):
    install(card, environment=OURS)
    (environment_folder(card) / environments.RECORD_NAME).write_text("{", encoding="utf-8")
    with pytest.raises(CardError, match="not valid JSON.*install peer --force"):
        installation(card)
    assert whereabouts(card) == "not installed"
    assert install(card, environment=OURS) == installation(card)


def wheel(folder, name, files):
    """Write a wheel of version 1.0."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {path: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()) for path, text in files.items()}
    record = "".join(f"{path},sha256={digest.decode().rstrip('=')},\n" for path, digest in digests.items())
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, text in (files | {f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}).items():
            archive.writestr(path, text)


def test_packages_are_installed_and_an_interrupted_installation_goes_on(tmp_path, monkeypatch):
    """From wheels on this machine; ASE comes from ours, through the path file of a wheel."""
    wheels = tmp_path / "wheels"
    wheel(wheels, "torch", {"torch.py": ""})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    card = isolated_card(user_folder(), "peer", pins=["odd-peer==1.0", "torch==1.0"])
    with pytest.raises(MissingDependencyError, match="pip did not install odd-peer==1.0 torch==1.0"):
        install(card)
    (site,) = (environment_folder(card) / "venv").glob("lib/python*/site-packages")
    assert (site / "torch.py").is_file()  # went first
    assert whereabouts(card) == "not installed"
    wheel(wheels, "odd_peer", {"odd_peer.py": ODD, "odd_peer.pth": f"{SITE}\n"})
    found = install(card)
    assert found.pinned() == {"odd-peer": "1.0", "torch": "1.0"}
    assert "energies" in found.implemented_properties
    assert install(card, python="none") == found  # nothing to do
    (site / "torch.py").unlink()
    assert install(card, force=True) == found
    assert (site / "torch.py").is_file()


def test_a_card_of_an_isolated_model_is_added_and_removed(tmp_path):
    card = isolated_card(tmp_path, "peer", calculator=EMT, device="", arguments={"asap_cutoff": True, "x": "y"})
    added = add_model(card.folder / "card.toml", {})
    assert added.folder == user_folder() / "peer"
    assert replace(added, folder=card.folder) == card
    with pytest.raises(CardError, match="choose another name"):
        add_model(card.folder / "card.toml", {})
    assert add_model(card.folder / "card.toml", {"functional": "none"}, replace=True).functional == "none"
    remove_model("peer")
    assert not added.folder.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pins": ["ase>=3"]}, "not all pinned"),
        ({"pins": []}, "not all pinned"),
        ({"calculator": "EMT"}, "module:callable"),
        ({"weights": "ase/x.pth"}, "belong together"),
        ({"colour": "red"}, "colour"),
        ({"arguments": {"x": [1]}}, "arguments"),
    ],
)
def test_malformed_environments(tmp_path, change, message):
    with pytest.raises(CardError, match=message):
        isolated_card(tmp_path, "peer", **change)


def test_isolated_models_and_no_others_have_environments(tmp_path):
    path = isolated_card(tmp_path, "peer").folder / "card.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.partition("[environment]")[0], encoding="utf-8")
    with pytest.raises(CardError, match=r"is of kind isolated.*\[environment\]"):
        load_card(path)
    path.write_text(text.replace('"isolated"', '"factory"\nfactory = "a:b"'), encoding="utf-8")
    with pytest.raises(CardError, match="is of kind factory"):
        load_card(path)


def test_a_record_is_plain_data(card):
    install(card, environment=OURS)
    table = json.loads((environment_folder(card) / environments.RECORD_NAME).read_text(encoding="utf-8"))
    assert Path(table["python"]) == OURS / "bin" / "python"
    assert table["environment"]["calculator"] == EMT
