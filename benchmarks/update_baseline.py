"""Write the baselines of embedded models from the records of a results folder; see docs/how-to/update-a-baseline.md.

Only records of the weights, settings and references of today are taken. Entries of other modes, and of cases whose data
is not on this machine or that it is too slow for, stay as they are.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mace_ft_bench.errors import StoreError
from mace_ft_bench.leaderboard.baseline import Baseline, Entry, entry_name, entry_of, read_baseline, to_toml
from mace_ft_bench.properties.base import get_property
from mace_ft_bench.results.case import MODES, load_cases, select_cases
from mace_ft_bench.results.model_spec import model_spec
from mace_ft_bench.results.store import RecordStore
from mace_ft_bench.results.tasks import RunOptions, plan

if TYPE_CHECKING:
    from mace_ft_bench.results.record import Record

BASELINES = Path(__file__).parent / "baselines"


def main() -> None:
    """Write the files and print what changed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="names of embedded models")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of `mfb run`")
    parser.add_argument("--mode", choices=MODES, default="quick", help="mode of that run")
    parser.add_argument("--studies", nargs="+", help="materials to hold from now on (default: as stored)")
    parser.add_argument("--device", default="auto", help="device of that run")
    chosen = parser.parse_args()
    latest = {(record.key, record.model, record.case): record for record in RecordStore(chosen.results).all()}
    for model in chosen.models:
        path = BASELINES / f"{model}.toml"
        before = read_baseline(path)
        after = updated(model, replace(before, studies=tuple(chosen.studies or before.studies)), chosen, latest)
        part = path.with_suffix(".part")
        part.write_text(to_toml(model, after), encoding="utf-8")
        part.replace(path)
        print(f"{path}: {len(after.cases)} cases")
        for name in sorted(before.cases.keys() | after.cases.keys()):
            old, new = before.cases.get(name), after.cases.get(name)
            if _words(old) != _words(new):
                print(f"  {name}: {_words(old)} → {_words(new)}")


def updated(
    model: str, baseline: Baseline, chosen: argparse.Namespace, latest: dict[tuple[str, str, str], Record]
) -> Baseline:
    """Return a baseline with the records of a model in place of what it held.

    Raises
    ------
    StoreError
        If a scored case of the studies has no record.
    """
    if not baseline.studies:
        raise StoreError(f"{model} has no baseline yet.", fix="name the materials to hold with --studies.")
    cases = [case for case in select_cases(list(baseline.studies), mode=chosen.mode) if case.metrics]
    tasks = plan([model_spec(model)], cases, RunOptions(device=chosen.device))
    found = [(task.case, latest.get((task.key, task.model.name, task.case.id))) for task in tasks]
    if missing := [case.id for case, record in found if record is None]:
        raise StoreError(
            f"{chosen.results} has no record of {model} as it is now on {', '.join(missing)}.",
            fix=f"run `mfb run --models {model} --mode {chosen.mode} --out {chosen.results}` first.",
        )
    known = load_cases()
    entries = {name: entry for name, entry in baseline.cases.items() if name.partition(" ")[0] in known}
    for case, record in found:
        if record is None or record.status in {"missing_data", "too_slow"}:
            continue
        entry = entry_of(case, record, dynamics=get_property(case.property).single_precision)
        entries.pop(entry_name(case), None)
        if entry is not None:
            entries[entry_name(case)] = entry
    return replace(baseline, cases=entries)


def _words(entry: Entry | None) -> str:
    if entry is None:
        return "none"
    return ", ".join(f"{name} {error:+.4g}" for name, error in entry.errors.items()) or entry.status


if __name__ == "__main__":
    main()
