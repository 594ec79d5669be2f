"""Every case on every model: no embedded model falls behind its baseline, nor behind its parent.

Baselines are plain TOML files beside this one; docs/how-to/update-a-baseline.md says how they change.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mace_ft_bench import list_models
from mace_ft_bench.leaderboard.baseline import entry_name, fallen_behind, read_baseline
from mace_ft_bench.leaderboard.gate import compare_models
from mace_ft_bench.results.model_spec import model_spec
from mace_ft_bench.results.record import NOT_COVERED
from mace_ft_bench.results.tasks import Task, plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_ft_bench.results.record import Record

    Attempt = Callable[[Task], Record]

BASELINES = Path(__file__).parent / "baselines"
EMBEDDED = {card.name: card for card in list_models() if card.kind == "mace"}


def test_case(task: Task, attempt: Attempt, record_property: pytest.RecordProperty) -> None:
    """The case runs, and no scored error of an embedded model exceeds its baseline."""
    record = attempt(task)
    for name, error in record.errors.items():
        record_property(name, error)
    entry = read_baseline(BASELINES / f"{task.model.name}.toml").cases.get(entry_name(task.case))
    if record.status in {"missing_data", "too_slow"} or (record.status in NOT_COVERED and entry is None):
        pytest.skip(record.message)
    if task.model.name not in EMBEDDED:
        if record.status != "ok":
            pytest.xfail(f"{record.status}: {record.message}")
        return
    behind = fallen_behind(task.case, record, entry)
    assert not behind, f"{behind}; docs/how-to/update-a-baseline.md"


def test_gate(task: Task, attempt: Attempt) -> None:
    """A fine-tuned embedded model is no worse than its parent on its own studies, but where its file says why."""
    card = EMBEDDED.get(task.model.name)
    baseline = read_baseline(BASELINES / f"{task.model.name}.toml")
    if card is None or card.parent not in EMBEDDED or not task.case.metrics:
        pytest.skip("there is no embedded parent, or no score")
    if task.case.material not in baseline.studies:
        pytest.skip(f"{task.case.material} is no study of {card.name}")
    (other,) = plan([model_spec(card.parent)], [task.case], task.options)
    records = {(item.model.name, task.case.id): attempt(item) for item in (task, other)}
    (found,) = compare_models([task.case], records, model=card.name, parent=card.parent)
    if found.outcome == "not compared":
        pytest.skip(found.reason)
    if found.outcome in {"better", "as good"}:
        assert task.case.id not in baseline.worse_than_parent, (
            "no longer worse than the parent: take it out of the file"
        )
        return
    known = baseline.worse_than_parent.get(task.case.id)
    assert known, f"{found.outcome} than {card.parent}: {found.reason}"
    pytest.xfail(f"{known}: {found.reason}")
