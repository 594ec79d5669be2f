"""``mace_ft_bench.atomic``: files are whole or not there, whoever else writes them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from mace_ft_bench.atomic import replacing, write_whole


def test_an_error_leaves_what_was_there_and_nothing_beside_it(tmp_path):
    path = tmp_path / "numbers.json"
    write_whole(path, "1")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("2")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "1"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_looks_for_the_temporary_file(tmp_path):
    with replacing(tmp_path / "0001.json") as temporary:
        temporary.touch()
        assert list(tmp_path.glob("*.json")) == []
        assert temporary.name.startswith(".")
    assert list(tmp_path.glob("*")) == [tmp_path / "0001.json"]


def test_many_may_write_one_file(tmp_path):
    path = tmp_path / "numbers.json"
    texts = [str(number) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write_whole(path, text), texts * 10))
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]
