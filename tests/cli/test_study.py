"""``mfb study``: one command from a study to its page."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from mace_ft_bench.cli.main import app
from mace_ft_bench.errors import TrainingError
from mace_ft_bench.finetune import study as studies

from ..finetune.test_study import files  # noqa: F401 - a fixture


@pytest.fixture
def invoke(files):  # noqa: F811 - the fixture above
    """Return a function that runs a study of one run."""
    text = (files / "study.toml").read_text()
    text = text.replace("[0.5, 1.0]", "[0.5]").replace("[1, 2]", "[1]").split("[variants.forces-first]")[0]
    (files / "study.toml").write_text(text)
    return lambda: CliRunner().invoke(app, ["study", "study.toml", "--out", "out"], env={"COLUMNS": "200"})


def test_a_study_becomes_a_page(invoke, files):  # noqa: F811 - as above
    result = invoke()
    assert result.exit_code == 0, result.output
    assert "test.xyz" in result.output
    assert (files / "out" / "study.html").read_text().count("<svg") == 3
    assert (files / "out" / "runs" / "full-0.5-1" / "full-0.5-1.safetensors").is_file()


def test_a_failed_run_is_named_and_ends_with_one(invoke, monkeypatch):
    def fails(*_, **__):
        raise TrainingError("It diverged.", fix="lower the learning rate.")

    monkeypatch.setattr(studies, "train", fails)
    result = invoke()
    assert result.exit_code == 1, result.output
    assert "full-0.5-1 failed: It diverged." in result.output
