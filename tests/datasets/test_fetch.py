"""Where files come from, and that no wrong one is ever kept."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pooch
import pytest
import requests

from mace_ft_bench.datasets import fetch as fetcher
from mace_ft_bench.datasets.card import DataFile, DatasetCard, Member, sha256_of_members
from mace_ft_bench.datasets.fetch import MIRROR_VARIABLE, fetch, load_frames
from mace_ft_bench.errors import CardError, ChecksumError, DataError, MissingDataError, UnknownNameError

CONTENT = b"[]"
WRONG = b"<html>not found</html>"


@pytest.fixture
def card():
    file = DataFile(
        url="https://host.example/owner/repo/abc/frames.json?raw=true",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        bytes=len(CONTENT),
        split="train",
        reader="mlearn-json",
        options={"stress_order": ["xx", "yy", "zz", "xy", "xz", "yz"]},
    )
    return DatasetCard("tiny", "A tiny set", "EMT", "MIT", "nobody", (file,))


@pytest.fixture
def mirror(tmp_path):
    path = tmp_path / "mirror" / "owner" / "repo" / "abc" / "frames.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    return tmp_path / "mirror"


def downloader(monkeypatch, *chunks, error=None):
    """Let pooch's downloader write the chunks and then fail; return the urls it was asked for."""
    asked = []

    class Downloader:
        def __init__(self, **options):
            assert options["timeout"] > 0

        def __call__(self, url, target, _pooch):
            asked.append(url)
            with Path(target).open("wb") as file:
                file.writelines(chunks)
                file.flush()
                if error:
                    raise error

    monkeypatch.setattr(pooch, "HTTPDownloader", Downloader)
    return asked


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_mirror_is_used_in_place(card, mirror, cache, monkeypatch):
    expected = [mirror / "owner" / "repo" / "abc" / "frames.json"]
    assert fetch(card, mirror=mirror) == expected
    monkeypatch.setenv(MIRROR_VARIABLE, str(mirror))
    assert fetch(card) == expected
    assert not cache.exists()


def test_a_download_is_checked_cached_and_not_repeated(card, cache, monkeypatch):
    asked = downloader(monkeypatch, CONTENT)
    (path,) = fetch(card)
    assert path.read_bytes() == CONTENT
    assert path.name == "frames.json"
    assert path.is_relative_to(cache)
    assert fetch(card) == [path]
    assert asked == [card.files[0].url]
    assert files_in(cache) == [path]


def test_wrong_bytes_are_an_error_and_not_kept(card, cache, monkeypatch):
    asked = downloader(monkeypatch, WRONG)
    for _ in range(2):
        with pytest.raises(ChecksumError, match=hashlib.sha256(WRONG).hexdigest()):
            fetch(card)
    assert len(asked) == 2
    assert files_in(cache) == []


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.ChunkedEncodingError("cut"),
        requests.exceptions.ConnectionError("no route"),
        requests.exceptions.HTTPError("404"),
        OSError(28, "No space left on device"),
    ],
)
def test_a_download_that_dies_half_way_leaves_nothing(card, cache, monkeypatch, error):
    downloader(monkeypatch, CONTENT[:1], error=error)
    with pytest.raises(MissingDataError, match=type(error).__name__) as caught:
        fetch(card)
    assert MIRROR_VARIABLE in caught.value.fix
    assert files_in(cache) == []
    downloader(monkeypatch, CONTENT)
    assert fetch(card)[0].read_bytes() == CONTENT


def test_a_truncated_download_leaves_nothing(card, cache, monkeypatch):
    downloader(monkeypatch, CONTENT[:1])
    with pytest.raises(ChecksumError):
        fetch(card)
    assert files_in(cache) == []


def test_ctrl_c_during_a_download_leaves_nothing(card, cache, monkeypatch):
    downloader(monkeypatch, CONTENT[:1], error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        fetch(card)
    assert files_in(cache) == []


def test_without_mirror_cache_and_network_the_data_is_missing(card):
    with pytest.raises(MissingDataError, match="mfb data fetch tiny") as caught:
        fetch(card, download=False)
    assert MIRROR_VARIABLE in caught.value.fix


def test_a_mirror_that_lacks_the_file_falls_back_to_the_cache(card, cache, tmp_path, monkeypatch):
    downloader(monkeypatch, CONTENT)
    (path,) = fetch(card)
    (tmp_path / "empty").mkdir()
    assert fetch(card, mirror=tmp_path / "empty", download=False) == [path]
    assert files_in(cache) == [path]


@pytest.mark.parametrize("place", ["mirror", "cache"])
def test_a_damaged_copy_is_an_error_that_names_it(card, mirror, monkeypatch, place):
    downloader(monkeypatch, CONTENT)
    (path,) = fetch(card, mirror=mirror if place == "mirror" else None)
    path.write_bytes(WRONG)
    with pytest.raises(ChecksumError, match=r"frames\.json") as caught:
        fetch(card, mirror=mirror if place == "mirror" else None, download=False)
    assert "delete" in caught.value.fix


def test_a_damaged_cached_file_is_downloaded_again(card, cache, monkeypatch):
    downloader(monkeypatch, CONTENT)
    (path,) = fetch(card)
    intact = path.read_bytes()
    path.write_bytes(WRONG)
    assert fetch(card) == [path]
    assert path.read_bytes() == intact
    assert files_in(cache) == [path]


def test_a_mirror_that_does_not_exist_is_no_silent_download(card, tmp_path, monkeypatch):
    asked = downloader(monkeypatch, CONTENT)
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(MissingDataError, match=f"correct {MIRROR_VARIABLE}"):
        fetch(card)
    assert asked == []


def test_names_are_checked_before_anything_is_read(card, monkeypatch):
    with pytest.raises(UnknownNameError, match='did you mean "mlearn-mo"'):
        load_frames("mlearn_mo", "train")
    with pytest.raises(UnknownNameError, match='did you mean "train"'):
        load_frames("mlearn-mo", "trian")
    monkeypatch.setattr(fetcher, "find_dataset", lambda _name: card)
    with pytest.raises(MissingDataError):
        load_frames("tiny", "train")
    assert issubclass(MissingDataError, DataError)


def test_frames_are_read_from_the_mirror(card, mirror, monkeypatch):
    monkeypatch.setattr(fetcher, "find_dataset", lambda _name: card)
    assert load_frames("tiny", "train", mirror=mirror) == []


MEMBERS = {"type.raw": b"0\n", "set.000/energy.npy": b"1", "set.000/coord.npy": b"2"}


@pytest.fixture
def folder_card():
    members = tuple(Member(path, hashlib.sha256(data).hexdigest(), len(data)) for path, data in MEMBERS.items())
    folder = DataFile(
        url="https://host.example/owner/repo/abc/system.000",
        sha256=sha256_of_members(members),
        bytes=sum(map(len, MEMBERS.values())),
        split="train",
        reader="deepmd-npy",
        members=members,
    )
    return DatasetCard("tiny", "A tiny set", "EMT", "MIT", "nobody", (folder,))


@pytest.fixture
def folder_mirror(tmp_path):
    for name, data in MEMBERS.items():
        path = tmp_path / "mirror" / "owner" / "repo" / "abc" / "system.000" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "mirror"


def member_downloader(monkeypatch):
    class Downloader:
        def __init__(self, **_options):
            pass

        def __call__(self, url, target, _pooch):
            Path(target).write_bytes(MEMBERS[url.split("/system.000/")[1]])

    monkeypatch.setattr(pooch, "HTTPDownloader", Downloader)


def test_a_folder_is_used_in_place_from_a_mirror(folder_card, folder_mirror, cache):
    assert fetch(folder_card, mirror=folder_mirror) == [folder_mirror / "owner" / "repo" / "abc" / "system.000"]
    assert not cache.exists()


def test_a_folder_is_downloaded_with_its_paths(folder_card, cache, monkeypatch):
    member_downloader(monkeypatch)
    (folder,) = fetch(folder_card)
    assert folder.is_relative_to(cache)
    assert folder.name == "system.000"
    assert {str(path.relative_to(folder)): path.read_bytes() for path in files_in(folder)} == MEMBERS
    assert fetch(folder_card, download=False) == [folder]


def test_a_folder_with_a_damaged_or_missing_file_is_an_error(folder_card, folder_mirror):
    damaged = next(folder_mirror.rglob("coord.npy"))
    damaged.write_bytes(WRONG)
    with pytest.raises(ChecksumError, match=r"coord\.npy"):
        fetch(folder_card, mirror=folder_mirror)
    damaged.unlink()
    with pytest.raises(MissingDataError, match="not on this machine"):
        fetch(folder_card, mirror=folder_mirror, download=False)


def test_a_folder_is_not_put_together_from_two_places(folder_card, folder_mirror, monkeypatch):
    next(folder_mirror.rglob("coord.npy")).unlink()
    member_downloader(monkeypatch)
    with pytest.raises(MissingDataError, match="some in the cache") as caught:
        fetch(folder_card, mirror=folder_mirror)
    assert MIRROR_VARIABLE in caught.value.fix


def test_a_file_that_the_card_does_not_name_is_not_read(folder_card, folder_mirror):
    (next(folder_mirror.rglob("type.raw")).parent / "nopbc").touch()
    with pytest.raises(DataError, match="nopbc is in a folder whose card does not name it"):
        fetch(folder_card, mirror=folder_mirror)


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a//b", "./x", ""])
def test_members_lie_inside_their_folder(path):
    with pytest.raises(CardError, match="no path inside a folder"):
        Member(path, "0", 1)


def test_the_sum_of_a_folder_is_that_of_its_members(folder_card):
    folder = folder_card.files[0]
    for change, match in [({"sha256": "0" * 64}, "is not that of its members"), ({"bytes": 3}, "other bytes")]:
        with pytest.raises(CardError, match=match):
            replace(folder, **change)


@pytest.mark.parametrize("split", ["held-out", "replay"])
@pytest.mark.parametrize("dataset", ["mace-nano-domain", "mace-nano-2-domain"])
def test_frames_that_are_shipped_need_neither_network_nor_mirror(dataset, split, cache):
    frames = load_frames(dataset, split)
    assert len(frames) >= 1000
    assert all({"REF_energy", "REF_stress", "config_type"} <= set(frame.info) for frame in frames)
    assert max(abs(frame.arrays["REF_forces"]).max() for frame in frames) <= 25.0  # of the recipe
    assert files_in(cache) == []


def test_a_shipped_file_that_was_changed_is_refused(card, tmp_path, monkeypatch):
    monkeypatch.setattr(fetcher, "folder_of_cards", lambda: tmp_path)
    (tmp_path / "tiny.json").write_bytes(WRONG)
    (file,) = card.files
    shipped = replace(card, files=(replace(file, url="", shipped="tiny.json"),))
    with pytest.raises(ChecksumError):
        fetch(shipped)
    (tmp_path / "tiny.json").write_bytes(CONTENT)
    assert fetch(shipped) == [tmp_path / "tiny.json"]
