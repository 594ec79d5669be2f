"""Options of the benchmark suite, and the models and cases it runs over."""

from __future__ import annotations

from pathlib import Path

import pytest

from mace_ft_bench.results import runner
from mace_ft_bench.results.case import MODES, select_cases
from mace_ft_bench.results.store import RecordStore


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("mace_ft_bench")
    group.addoption("--models", default="mo-ft", help="Names or paths of models, separated by commas.")
    group.addoption("--cases", default="*", help="Shell patterns of cases, separated by commas.")
    group.addoption("--mode", default="standard", choices=MODES, help="Which cases run, and how long they take.")
    group.addoption("--device", default="auto", help="auto, cpu or cuda.")
    group.addoption("--data", default=None, type=Path, help="Mirror folder of datasets (default: $MFB_MIRROR).")
    group.addoption("--results", default=None, type=Path, help="Keep the records in this folder.")


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise over tasks (model and case) or over models."""
    if not {"task", "model"} & set(metafunc.fixturenames):
        return
    option = metafunc.config.getoption
    models = [runner.model_spec(name) for name in _split(option("--models"))]
    if "model" in metafunc.fixturenames:
        metafunc.parametrize("model", models, ids=[model.name for model in models])
        return
    options = runner.RunOptions(device=option("--device"), mirror=option("--data"))
    tasks = runner.plan(models, select_cases(_split(option("--cases")), mode=option("--mode")), options)
    metafunc.parametrize("task", tasks, ids=[f"{task.model.name}-{task.case.id}" for task in tasks])


@pytest.fixture(scope="session")
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RecordStore:
    """Where records go; a temporary folder unless ``--results`` names one."""
    return RecordStore(request.config.getoption("--results") or tmp_path_factory.mktemp("results"))
