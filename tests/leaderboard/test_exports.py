"""The page, the Markdown, the CSV and the JSON carry the same numbers."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import re

import pytest

from mace_ft_bench.leaderboard.board import make_board
from mace_ft_bench.leaderboard.case_section import case_section
from mace_ft_bench.leaderboard.exports import to_csv, to_json
from mace_ft_bench.leaderboard.report import to_html
from mace_ft_bench.leaderboard.rows import COLUMNS
from mace_ft_bench.leaderboard.score import case_score
from mace_ft_bench.leaderboard.table import to_markdown
from mace_ft_bench.results.case import load_cases
from mace_ft_bench.results.record import NOT_COVERED

from .fabricated import ELASTIC, GSFE, elastic_case, gsfe_case, make_case, make_record

NASTY = 'a "quoted", <b>bold</b> & | name'


@pytest.fixture
def board():
    elastic, gsfe, shown = elastic_case(), gsfe_case(), make_case("shown", metrics={}, references=())
    errors = {"c11_percent": 12.345678901234567, "c12_percent": -1e-7, "c44_percent": 0.0}
    records = [
        make_record("good", elastic, result=ELASTIC, errors=errors),
        make_record("good", gsfe, result=GSFE, errors={"barrier_j_per_m2": 0.1}),
        make_record("good", shown),
        make_record(NASTY, elastic, "unstable"),
        make_record(NASTY, gsfe, "unsupported"),
    ]
    return make_board(records, [elastic, gsfe, shown], {"good": {"functional": "PBE"}})


def lines_of_csv(text):
    rows = list(csv.DictReader(io.StringIO(text)))
    for row in rows:
        row.update({name: float(row[name]) if row[name] else None for name in ("error", "score")})
    return rows


def lines_of_page(text):
    table = text[text.index('id="results-table"') :]
    body = table[table.index("<tbody>") : table.index("</tbody>")]
    for line in re.findall(r"<tr.*?</tr>", body, re.DOTALL):
        cells = re.findall(r"<t[hd]([^>]*)>(.*?)</t[hd]>", line, re.DOTALL)
        yield [
            (re.search(r'data-v="([^"]*)"', options), html.unescape(re.sub(r"<[^>]*>", "", inner)))
            for options, inner in cells
        ]


def lines_of_markdown(text):
    part = text.partition("## All results\n\n")[2].partition("\n\n")[0]
    for line in part.splitlines()[2:]:
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        yield [html.unescape(re.sub(r"\\(.)", r"\1", cell)) for cell in cells]


def number(text):
    return float(text.replace("−", "-"))


def test_all_four_carry_the_same_numbers(board):
    exported = json.loads(to_json(board))["results"]
    assert lines_of_csv(to_csv(board)) == exported
    assert exported == [row.plain() for row in board.rows]
    page, markdown = list(lines_of_page(to_html(board))), list(lines_of_markdown(to_markdown(board)))
    assert len(page) == len(markdown) == len(exported) > 8
    for row, shown, written in zip(exported, page, markdown, strict=True):
        assert [text for _, text in shown] == written
        for place, name in enumerate(COLUMNS):
            exact, text = shown[place]
            if name not in {"error", "score"}:
                assert text == (row[name] or ("" if name == "unit" else "—"))
            elif row[name] is None:
                assert (exact[1], text) == ("", "—")
            else:
                assert float(exact[1]) == row[name]
                assert number(text) == pytest.approx(row[name], rel=5e-3, abs=5e-4 if name == "score" else 0)


def test_the_page_brings_the_csv_file_along(board):
    found = re.search(r'download="leaderboard.csv" href="data:text/csv;charset=utf-8;base64,([^"]+)"', to_html(board))
    assert base64.b64decode(found[1]).decode() == to_csv(board)


def test_the_rows_of_a_case_score_what_the_case_scores(board):
    for (model, name), record in board.records.items():
        case = next(case for case in board.cases if case.id == name)
        scores = [r.score for r in board.rows if (r.model, r.case, r.kind) == (model, name, "measured")]
        expected = case_score(case, record)
        if expected is None:
            assert set(scores) == {None}
        else:
            assert sum(scores) / len(scores) == pytest.approx(expected, rel=1e-12)


def test_the_tables_of_cases_show_the_errors_of_the_rows(board):
    shown = {
        (row.name, row.kind, case.id, column.label): cell.error
        for case in board.cases
        for values in [case_section(board, case)]
        for row in values.rows
        for column, cell in zip(values.columns, row.cells, strict=False)
    }
    compared = [row for row in board.rows if row.case == "mo/elastic" and row.error is not None]
    assert len(compared) > 8
    for row in compared:
        assert shown[row.model, row.kind, row.case, row.metric] == f"{row.error_text} %"


def test_statuses_keep_their_meaning(board):
    found = {(row.model, row.case, row.metric): row for row in board.rows}
    assert (found[NASTY, "mo/elastic", "C11"].score, found[NASTY, "mo/elastic", "C11"].status) == (0.0, "unstable")
    assert (found[NASTY, "mo/gsfe", "rms"].score, found[NASTY, "mo/gsfe", "rms"].status) == (None, "unsupported")
    assert (found[NASTY, "mo/shown", ""].score, found[NASTY, "mo/shown", ""].status) == (None, "not run")
    assert found["good", "mo/gsfe", "rms"].score == 0.0  # an error that an ok record lacks
    assert found["EAM", "mo/elastic", "C11"].kind == "published"
    assert ("MACE-MP-0b3", "mo/gsfe", "rms") not in found  # nobody printed it
    assert all(row.score is None for row in board.rows if row.status in NOT_COVERED)


def test_the_json_file_tells_where_every_number_comes_from(board):
    content = json.loads(to_json(board))
    assert content["format"] == 1
    origin = {(item["model"], item["case"]): item["provenance"] for item in content["records"]}
    assert set(origin) == set(board.records)
    assert {item["model_sha256"] for item in origin.values()} == {"ab" * 32}
    assert {item["case"]: item["commands"] for item in content["cases"]}["mo/shown"][0].startswith("mfb run --models ")
    standing = board.ranking.ranked[0]
    assert content["models"][0]["score"] == standing.score
    assert content["models"][0]["rank"] == 1
    assert content["models"][-1]["rank"] is None


def test_labels_tell_the_metrics_of_a_case_apart():
    for case in load_cases().values():
        labels = [metric.label for metric in case.metrics.values()]
        assert len(labels) == len(set(labels)), case.id


def test_without_records_the_files_are_empty_tables(cases):
    empty = make_board([], cases)
    assert to_csv(empty) == ",".join(COLUMNS) + "\n"
    assert json.loads(to_json(empty))["records"] == []
