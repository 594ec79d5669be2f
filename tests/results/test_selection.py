"""One leaderboard row never mixes weights, heads, devices or versions of a property."""

from __future__ import annotations

from mace_ft_bench.results.record import Provenance, Record
from mace_ft_bench.results.selection import Identity, consistent_records

VERSIONS = {"elastic": 2, "eos": 1}


def record(*, model="m", case="mo/elastic", kind="elastic", **provenance):
    provenance = {"sha256": "a", "device": "cpu", "version": 2, **provenance}
    provenance["model_sha256"], provenance["property_version"] = provenance.pop("sha256"), provenance.pop("version")
    provenance = Provenance(**provenance)
    return Record("key", model, case, kind, "hash", "ok", provenance=provenance)


def test_the_last_record_says_what_a_name_stands_for():
    records = [record(sha256="a"), record(case="mo/eos", sha256="b", kind="eos", version=1)]
    assert consistent_records(records, versions=VERSIONS) == records[1:]


def test_a_run_says_what_a_name_stands_for_now():
    """Weights restored after others were tried: nothing is computed again, and the old numbers count again."""
    records = [record(sha256="a"), record(sha256="b")]
    assert consistent_records(records, versions=VERSIONS, chosen={"m": Identity("a", "", "cpu")}) == records[:1]


def test_heads_and_devices_are_not_mixed():
    records = [record(head="pbe"), record(head="r2scan"), record(head="r2scan", device="cuda")]
    assert consistent_records(records, versions=VERSIONS) == records[2:]


def test_other_models_are_left_alone():
    records = [record(model="x", sha256="x"), record(sha256="a"), record(sha256="b")]
    assert consistent_records(records, versions=VERSIONS) == [records[0], records[2]]


def test_records_of_another_version_of_the_property_do_not_count():
    records = [record(version=1), record(version=3), record(kind="gone")]
    assert consistent_records(records, versions=VERSIONS) == []
