"""Every case on every model: errors are recorded, and an embedded model must not fall behind its baseline.

Baselines are plain TOML files beside this one; docs/how-to/update-a-baseline.md says how they change.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mace_ft_bench import list_models
from mace_ft_bench.leaderboard.gate import RELATIVE_SLACK, TOLERANCE_SLACK
from mace_ft_bench.results import runner
from mace_ft_bench.results.record import NOT_COVERED

if TYPE_CHECKING:
    from mace_ft_bench.results.case import Case
    from mace_ft_bench.results.store import RecordStore

BASELINES = Path(__file__).parent / "baselines"


def baseline(model: str, case: Case) -> dict[str, float]:
    """Return the stored errors of an embedded model on a case; empty when none are stored.

    A case whose settings differ between modes is stored as ``"<case> (<mode>)"``.
    """
    path = BASELINES / f"{model}.toml"
    stored: dict[str, dict[str, float]] = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return stored.get(f"{case.id} ({case.mode})" if case.mode else case.id, {})


def test_case(task: runner.Task, store: RecordStore, record_property: pytest.RecordProperty) -> None:
    """The case runs, and no scored error exceeds the baseline."""
    (record,) = runner.run([task], store)
    for name, error in record.errors.items():
        record_property(name, error)
    embedded = any(card.name == task.model.name and card.kind == "mace" for card in list_models())
    expected = baseline(task.model.name, task.case)
    if record.status == "missing_data" or (record.status in NOT_COVERED and not expected):
        pytest.skip(record.message)
    if record.status != "ok" and not embedded:
        pytest.xfail(f"{record.status}: {record.message}")
    assert record.status == "ok", record.message
    assert not embedded or set(task.case.metrics) <= set(expected), "no baseline: docs/how-to/update-a-baseline.md"
    for name, metric in task.case.metrics.items():
        if name in expected:
            allowed = (1 + RELATIVE_SLACK) * abs(expected[name]) + TOLERANCE_SLACK * metric.tolerance
            assert abs(record.errors[name]) <= allowed, f"{name}: {record.errors[name]:.4g} against {allowed:.4g}"
