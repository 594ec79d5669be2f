"""The page of a table of timed dynamics, from fabricated records: numbers, refusals, published times, all formats."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import asdict

import pytest

from mace_ft_bench.errors import CardError, StoreError
from mace_ft_bench.leaderboard import timing_page
from mace_ft_bench.leaderboard.timing_rows import PublishedTimes, power_laws, published_times, timing_rows
from mace_ft_bench.results.record import Provenance, Record
from mace_ft_bench.results.timing_record import PROPERTY, TimingResult
from mace_ft_bench.toml_schema import parse


def record(atoms, *samples, accelerate="fused", device="cpu", status="ok", system="graphene-water", **changes):
    thermostat = {"timestep_fs": 2.0, "temperature_k": 300.0, "friction_per_fs": 0.01}
    result = TimingResult(system, atoms, accelerate, "off", 20, **thermostat, ms_per_step=samples, load_average=0.1)
    result = json.loads(json.dumps(asdict(result) | changes))
    origin = Provenance(
        dtype="float32",
        device=device,
        accelerator="e3nn",
        hardware="a <processor>",
        threads=2,
        package_versions={"torch": "2"},
        started="2026-01-01T00:00:00+00:00",
    )
    message = "" if status == "ok" else "no | Wigner <symbols>"
    key = f"{system}{atoms}{accelerate}{device}"
    return Record(key, "mo<del>", f"{system}-{atoms}", PROPERTY, "hash", status, message, result, provenance=origin)


RECORDS = [
    record(100, 9.0, 10.0, 14.0, 11.0, 10.5),
    record(100, status="unsupported", accelerate="cueq"),
    record(200, 20.0, 21.0, 22.0),
    record(200, status="unsupported", accelerate="cueq"),
    record(400, 44.0),
]


def test_numbers_of_a_row():
    (row, *_) = timing_rows(RECORDS)
    assert row.quartiles == (10.0, 10.5, 11.0)
    assert row.us_per_atom == pytest.approx(105.0)
    assert row.seconds == pytest.approx(105.0)  # ten thousand steps
    # 8.64e7 ms a day / 10.5 ms a step * 2 fs a step = 1.646e7 fs
    assert row.ns_per_day == pytest.approx(16.457, abs=1e-3)


def test_a_row_without_times_has_no_numbers():
    row = timing_rows(RECORDS)[1]
    assert (row.quartiles, row.ms_per_step, row.us_per_atom, row.seconds, row.ns_per_day) == (None,) * 5
    assert row.reason == "no | Wigner <symbols>"


def test_a_failed_record_is_no_time_whatever_samples_it_has():
    (row,) = timing_rows([record(100, 1.0, 2.0, status="unstable")])
    assert row.samples == ()
    assert list(power_laws([row])) == []


def test_power_laws_are_those_of_the_medians():
    laws = power_laws(timing_rows(RECORDS))
    assert [way.accelerate for way in laws] == ["fused"]
    (law,) = laws.values()
    assert law.exponent == pytest.approx(1.0335, abs=1e-3)  # ln(44 / 10.5) / ln(4), the middle point cancels
    assert law.sizes == 3


def test_published_times_are_as_printed_and_their_exponents_both():
    published = published_times("graphene-water")
    assert published.atoms == (128, 372, 1038, 2900)
    first, second = published.curves
    assert first.seconds == (710.0, 800.0, 1126.0, 2619.0)
    assert second.seconds == (658.0, 1008.0, 2031.0, 5084.0)
    assert [round(published.law(curve).exponent, 2) for curve in (first, second)] == [0.41, 0.66]
    assert [curve.exponent_as_printed for curve in (first, second)] == [0.41, 0.76]
    assert published.ms_per_step(first)[0] == pytest.approx(71.0)
    assert published_times("molybdenum") is None


def test_published_times_without_one_time_per_size_are_refused():
    table = {"system": "a", "label": "b", "source": "c", "task": "d", "steps": 1, "timestep_fs": 1.0, "atoms": [1, 2]}
    with pytest.raises(CardError, match="one time per size"):
        parse({**table, "curves": [{"name": "e", "seconds": [1.0]}]}, PublishedTimes, where="a card")


def test_all_formats_show_the_same(tmp_path):
    page = timing_page.write_timing(RECORDS, tmp_path)
    texts = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert set(texts) == {f"timing.{end}" for end in ("html", "svg", "md", "csv", "json")}
    assert page.name == "timing.html"
    for end in ("html", "md"):
        assert "10.5" in texts[f"timing.{end}"]
        assert "10.0 to 11.0" in texts[f"timing.{end}"]
        assert "5084" in texts[f"timing.{end}"]
        assert "fused (e3nn)" in texts[f"timing.{end}"]
    rows = list(csv.DictReader(io.StringIO(texts["timing.csv"])))
    data = json.loads(texts["timing.json"])
    assert [row["ms_per_step"] for row in rows] == ["10.5", "", "21.0", "", "44.0"]
    assert [row["ms_per_step"] for row in data["rows"]] == [10.5, None, 21.0, None, 44.0]
    assert data["rows"][0]["samples_ms_per_step"] == [9.0, 10.0, 14.0, 11.0, 10.5]
    assert data["published"]["curves"][1]["exponent_fitted"] == pytest.approx(0.66, abs=0.005)


def test_the_page_stands_alone_and_escapes_what_others_wrote():
    report = timing_page.TimingReport.of(RECORDS)
    text = timing_page.to_html(report, "<svg></svg>")
    assert "mo<del>" not in text
    assert "mo&lt;del&gt;" in text
    assert "Wigner &lt;symbols&gt;" in text
    assert not re.findall(r'(?:src|href)="?(?!#)', text)


def test_markdown_tables_keep_their_columns():
    lines = timing_page.to_markdown(timing_page.TimingReport.of(RECORDS)).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    refused = next(line for line in rows if "Wigner" in line)
    assert "no \\| Wigner" in refused
    assert refused.startswith("| 100, 200 | cpu |")


def test_what_could_not_run_is_listed_with_its_sizes_and_all_its_accelerators():
    refused = [record(atoms, status="unsupported", accelerate="e3nn") for atoms in (100, 200)]
    lone = record(200, status="unsupported", accelerate="auto")
    rows = timing_page.refused_table(timing_page.TimingReport.of([*RECORDS, *refused, lone])).rows
    shared = ("cpu", "float32", "no D3")
    reason = "no | Wigner <symbols>"
    assert rows == (("100, 200", *shared, "cueq, e3nn", reason), ("200", *shared, "auto", reason))


def test_the_summary_has_one_row_per_way_and_one_column_per_size():
    table = timing_page.summary_table(timing_page.TimingReport.of([*RECORDS, record(100, 1.0, device="cuda")]))
    assert table.titles[4:7] == ("100 atoms [s]", "200 atoms [s]", "400 atoms [s]")
    assert table.rows == (
        ("cpu", "float32", "no D3", "fused", "105", "210", "440", "1.03 ± 0.02"),
        ("cuda", "float32", "no D3", "fused", "10.0", "—", "—", "—"),
    )


def test_a_busy_machine_is_said_and_an_idle_one_is_not():
    assert timing_page.TimingReport.of(RECORDS).warnings == []
    (warning,) = timing_page.TimingReport.of([record(100, 9.0, load_average=3.2)]).warnings
    assert "load average was 3.2" in warning


def test_memory_is_shown_where_it_was_measured():
    assert "peak memory [MB]" not in timing_page.times_table(timing_page.TimingReport.of(RECORDS)).titles
    table = timing_page.times_table(timing_page.TimingReport.of([record(100, 9.0, peak_memory_mb=612.3)]))
    assert dict(zip(table.titles, table.rows[0], strict=True))["peak memory [MB]"] == "612"


def test_the_figure_has_a_panel_per_device_and_names_what_was_published():
    rows = timing_rows([*RECORDS, record(100, 1.0, device="cuda"), record(200, 1.5, device="cuda")])
    figure = timing_page.draw_times(rows, published_times("graphene-water"), title="a < b")
    assert figure.count("cuda, float32<") == 1
    assert figure.count("cpu, float32<") == 1
    assert "published: with cuEquivariance" in figure
    assert "a &lt; b" in figure
    assert "exponent 1.03" in figure
    assert "published" not in timing_page.draw_times(rows, None, title="a")


def test_nothing_that_ran_is_no_figure(tmp_path):
    timing_page.write_timing([record(100, status="unsupported")], tmp_path)
    assert "<figure>" not in (tmp_path / "timing.html").read_text(encoding="utf-8")
    assert not (tmp_path / "timing.svg").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(StoreError, match="cannot be written"):
        timing_page.write_timing(RECORDS, tmp_path / "nowhere")
