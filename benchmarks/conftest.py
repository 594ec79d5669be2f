"""Options of the benchmark suite, and the models and cases it runs over.

Without options these are the embedded models that have a baseline, each on the cases of its own studies.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mace_ft_bench.leaderboard.baseline import read_baseline
from mace_ft_bench.results import runner
from mace_ft_bench.results.case import MODES, select_cases
from mace_ft_bench.results.model_spec import model_spec
from mace_ft_bench.results.store import RecordStore
from mace_ft_bench.results.tasks import RunOptions, Task, plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_ft_bench.results.record import Record

BASELINES = Path(__file__).parent / "baselines"
TIMED = "mo-ft"
"""Model that is timed where none is named."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("mace_ft_bench")
    group.addoption("--models", default=None, help="Names or paths, separated by commas (default: those of baselines).")
    group.addoption("--cases", default=None, help="Shell patterns, separated by commas (default: a model's studies).")
    group.addoption("--mode", default="quick", choices=MODES, help="Which cases run, and how long they take.")
    group.addoption("--device", default="auto", help="auto, cpu or cuda.")
    group.addoption("--data", default=None, type=Path, help="Mirror folder of datasets (default: $MFB_MIRROR).")
    group.addoption("--results", default=None, type=Path, help="Keep the records in this folder.")


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise over tasks (model and case) or over models."""
    named = metafunc.config.getoption("--models")
    if "model" in metafunc.fixturenames:
        models = [model_spec(name) for name in _split(named or TIMED)]
        metafunc.parametrize("model", models, ids=[model.name for model in models])
    if "task" in metafunc.fixturenames:
        names = _split(named) if named else sorted(path.stem for path in BASELINES.glob("*.toml"))
        tasks = [task for name in names for task in _tasks(name, metafunc.config)]
        metafunc.parametrize("task", tasks, ids=[f"{task.model.name}-{task.case.id}" for task in tasks])


def _tasks(model: str, config: pytest.Config) -> list[Task]:
    patterns = config.getoption("--cases")
    chosen = _split(patterns) if patterns else list(read_baseline(BASELINES / f"{model}.toml").studies) or ["*"]
    options = RunOptions(device=config.getoption("--device"), mirror=config.getoption("--data"))
    return plan([model_spec(model)], select_cases(chosen, mode=config.getoption("--mode")), options)


@pytest.fixture(scope="session")
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RecordStore:
    """Where records go; a temporary folder unless ``--results`` names one."""
    return RecordStore(request.config.getoption("--results") or tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="session")
def attempt(store: RecordStore) -> Callable[[Task], Record]:
    """Return a function that runs a task, once in a session."""
    calculators = runner.Calculators()
    made: dict[tuple[str, str], Record] = {}

    def run(task: Task) -> Record:
        name = (task.model.name, task.case.id)
        if name not in made:
            (made[name],) = runner.run([task], store, provide=calculators)
        return made[name]

    return run
