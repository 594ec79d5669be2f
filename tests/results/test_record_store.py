"""The store survives kills, several writers and readers of another version; it holds no NaN."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from filelock import FileLock

from mace_ft_bench.errors import StoreError
from mace_ft_bench.results.record import Provenance, Record
from mace_ft_bench.results.store import RecordStore

RECORD = Record(
    key="k0",
    model="emt",
    case="copper/eos",
    property="eos",
    case_hash="c",
    status="ok",
    message="é\u2028\n[x]",
    result={"volumes": [1.5, 2], "nested": {"a": None}, "name": "µ"},
    errors={"b0_percent": -1e-300},
    wall_s=0.1,
    provenance=Provenance(package_versions={"ase": "3.29.0"}, threads=1),
)


def numbered(number, **changes):
    return replace(RECORD, key=f"k{number}", **changes)


def test_what_is_written_is_read(store):
    assert store.all() == []
    records = [numbered(number) for number in range(3)]
    for record in records:
        store.append(record)
    assert store.all() == records
    assert RecordStore(store.folder).all() == records
    assert len(store.path.read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.parametrize("kept", [1, 40, -2])
def test_a_torn_line_is_skipped_with_one_warning_and_closed(store, caplog, kept):
    store.append(numbered(1))
    store.append(numbered(2))
    content = store.path.read_bytes()
    second = content.index(b"\n") + 1
    store.path.write_bytes(content[: second + kept] if kept > 0 else content[:kept])
    with caplog.at_level(logging.WARNING):
        assert store.all() == [numbered(1)]
    assert len(caplog.records) == 1
    assert "line 2" in caplog.text
    store.append(numbered(3))
    assert store.all() == [numbered(1), numbered(3)]


def test_a_line_that_lacks_only_its_end_is_whole(store):
    store.append(numbered(1))
    store.path.write_bytes(store.path.read_bytes()[:-1])
    store.append(numbered(2))
    assert store.all() == [numbered(1), numbered(2)]


WRITER = """
import sys, time
from pathlib import Path
from mace_ft_bench.results.record import Record
from mace_ft_bench.results.store import RecordStore
folder, name = Path(sys.argv[1]), sys.argv[2]
store = RecordStore(folder / "results")
(folder / f"{name}.ready").touch()
while not (folder / "go").exists():
    time.sleep(0.001)
for number in range(200):
    payload = {"values": [number] * (1 if number % 10 else 20_000)}
    store.append(Record(f"{name}{number}", name, "c", "p", "h", "ok", result=payload))
"""


def test_two_writers_lose_and_tear_nothing(tmp_path, caplog):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in ("a", "b")]
    try:
        while not all((tmp_path / f"{name}.ready").exists() for name in ("a", "b")):
            assert all(writer.poll() is None for writer in writers)
        (tmp_path / "go").touch()
        assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    finally:
        for writer in writers:
            writer.kill()
    records = RecordStore(tmp_path / "results").all()
    assert caplog.text == ""
    for name in ("a", "b"):
        assert [record.key for record in records if record.model == name] == [f"{name}{n}" for n in range(200)]
    order = "".join(record.model for record in records)
    assert "ab" in order, "the writers did not overlap: the test proves nothing"
    assert "ba" in order, "the writers did not overlap: the test proves nothing"


def test_a_writer_waits_for_the_lock_of_another(store):
    """On a local disk Linux appends a line in one piece anyway; a network file system does not."""
    store.folder.mkdir()
    with ThreadPoolExecutor(1) as executor:
        with FileLock(store.folder / ".records.lock"):
            appended = executor.submit(store.append, RECORD)
            with pytest.raises(TimeoutError):
                appended.result(timeout=0.3)
            assert store.all() == []
        appended.result(timeout=10)
    assert store.all() == [RECORD]


@pytest.mark.parametrize(
    "bad",
    [{"errors": {"x": float("nan")}}, {"result": {"x": [float("inf")]}}, {"wall_s": float("nan")}],
)
def test_nan_is_refused_and_nothing_is_written(store, bad):
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.append(numbered(1, **bad))
    assert not store.path.exists()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="not a folder"):
        RecordStore(tmp_path / "file")
    with pytest.raises(StoreError, match="cannot be written"):
        RecordStore(tmp_path / "file" / "below").append(RECORD)


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain | {"colour": "red"},
        lambda plain: plain | {"status": "fine"},
        lambda plain: plain | {"wall_s": "0.1"},
        lambda plain: {key: value for key, value in plain.items() if key != "case_hash"},
        lambda _plain: 3,
        lambda _plain: ["a"],
    ],
)
def test_a_record_of_another_version_is_a_store_error(store, change):
    store.append(RECORD)
    with store.path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(change(json.loads(RECORD.to_json()))) + "\n")
    with pytest.raises(StoreError, match="line 2") as caught:
        store.all()
    assert "new results folder" in caught.value.fix


def test_a_folder_that_cannot_be_written_is_found_before_any_work(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    with pytest.raises(StoreError, match="cannot be written.*give another folder"):
        RecordStore(blocked / "results").check_writable()


def test_checking_writes_no_record(tmp_path):
    store = RecordStore(tmp_path / "results")
    store.check_writable()
    assert store.all() == []
    (tmp_path / "results" / "records.jsonl").write_text('{"torn', encoding="utf-8")
    store.check_writable()
    assert store.all() == []
