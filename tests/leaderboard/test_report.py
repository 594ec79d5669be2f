"""The Markdown file and the page."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from mace_ft_bench.leaderboard import report
from mace_ft_bench.leaderboard.board import make_board
from mace_ft_bench.leaderboard.case_section import case_section
from mace_ft_bench.leaderboard.main_table import main_rows
from mace_ft_bench.leaderboard.provenance import provenance_rows
from mace_ft_bench.leaderboard.report import to_html, write_report
from mace_ft_bench.leaderboard.table import escape, markdown_table, to_markdown
from mace_ft_bench.results.case import Metric, load_cases
from mace_ft_bench.results.record import Provenance

from .fabricated import ELASTIC, GSFE, elastic_case, gsfe_case, make_case, make_record

ROOT = Path(report.__file__).parents[1]
VOID = {"meta", "br", "img", "link", "input", "hr"}
LOADING = {"src", "srcset", "poster", "data", "background", "action", "xlink:href"}


class Page(HTMLParser):
    """Collects what a test asks about, and insists on balanced tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        """Note an opened tag."""
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Note a tag that closes itself."""
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        """Insist that the tag closed is the last one opened."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Note text."""
        self.words.append(data)

    @property
    def text(self) -> str:
        """All text, spaces collapsed."""
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def board():
    elastic, gsfe, lattice = elastic_case(), gsfe_case(), make_case("lattice")
    records = [
        make_record(
            "good", elastic, result=ELASTIC, errors={"c11_percent": 10.0, "c12_percent": 0.0, "c44_percent": 0.0}
        ),
        make_record("good", gsfe, result=GSFE, errors={"barrier_j_per_m2": 0.1, "curve_rms_j_per_m2": 0.1}),
        make_record("good", lattice, "missing_data"),
        make_record("bad", elastic, "unstable"),
        make_record("bad", gsfe, "unsupported"),
        make_record("bad", lattice, case_hash="old"),
        make_record("<script>alert(1)</script>", elastic, "error"),
    ]
    info = {"good": {"functional": "PBE | VASP", "licence": "MIT", "parameters": "59,384", "description": "A model."}}
    return make_board(records, [elastic, gsfe, lattice], info)


def tables(markdown: str) -> list[list[str]]:
    blocks = [block.splitlines() for block in markdown.split("\n\n")]
    return [block for block in blocks if block[0].startswith("|")]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_the_page_is_well_formed_and_loads_nothing(board):
    page = Page(to_html(board))
    assert not [tag for tag, _ in page.seen if tag in {"link", "iframe", "object", "embed", "img"}]
    assert [attributes for tag, attributes in page.seen if tag == "script"] == [{}]
    for tag, attributes in page.seen:
        assert not LOADING & set(attributes)
        target = attributes.get("href") or "#"
        inside = target.startswith("#") or "download" in attributes
        assert inside or (tag == "a" and target.startswith("https://doi.org/"))
    assert "url(http" not in to_html(board)
    assert "@import" not in to_html(board)


def test_identifiers_of_the_page_are_unique_and_resolve(board):
    seen = Page(to_html(board)).seen
    ids = [attributes["id"] for _, attributes in seen if "id" in attributes]
    targets = {a["href"][1:] for _, a in seen if (a.get("href") or "").startswith("#")}
    assert len(ids) == len(set(ids))
    assert targets <= set(ids)


def test_names_are_escaped(board):
    assert "<script>alert" not in to_html(board)
    assert "<script>alert(1)</script>" in Page(to_html(board)).text
    assert "<script" not in to_markdown(board)


@pytest.mark.parametrize("render", [lambda board: Page(to_html(board)).text, to_markdown])
def test_failures_gaps_and_stale_records_are_told(board, render):
    text = render(board)
    for phrase in (
        "It ended unstable. To fix: try again.",
        "missing",
        "unsupported",
        "not run",
        "Stale records",
        "0.0",
    ):
        assert phrase in text
    assert "doi.org" in to_html(board)
    assert "a processor" in text
    assert "ase 3.29" in text
    assert "published" in text


def test_markdown_columns_are_consistent(board):
    found = tables(to_markdown(board))
    assert len(found) == 11
    for table in found:
        assert len({len(cells(line)) for line in table}) == 1, table[0]
        assert set(cells(table[1])) == {"---"}


def test_markdown_main_table(board):
    header, _, first, *rest = tables(to_markdown(board))[0]
    row = dict(zip(cells(header), cells(first), strict=True))
    assert row["model"] == "good"
    assert row["kind"] == "measured"
    assert row["score"] == f"{(0.5 + 1 + 1) / 3:.3f}"
    assert row["coverage"] == "2/3"
    assert row["level of theory"] == r"PBE \| VASP"
    assert row["lattice"] == "missing data"
    ranks = {cells(line)[2]: cells(line)[0] for line in rest}
    assert ranks == {"measured": "2", "published": "—"}
    assert "0.000 (unstable)" in "".join(rest)


def test_values_stand_beside_their_errors(board):
    rows = {(row.name, row.kind): row for row in case_section(board, elastic_case()).rows}
    assert (rows["good", "measured"].cells[0].value, rows["good", "measured"].cells[0].error) == ("440", "+10.0 %")
    assert rows["EAM", "published"].cells[0].error == "+10.0 %"
    assert rows["EAM", "published"].theory == "MACE, PBE"
    assert rows["bad", "measured"].status == "unstable"
    assert rows["bad", "measured"].score == "0.000"
    columns = [column.label for column in case_section(board, elastic_case()).columns]
    assert columns == ["C11", "C12", "C44", "B", "ν", "Born stable"]


def test_the_reference_of_a_curve_shows_its_barrier(board):
    rows = {(row.name, row.kind): row for row in case_section(board, gsfe_case()).rows}
    assert rows["DFT", "DFT"].cells[0].value == "1.50"
    assert rows["MACE-MP-0b3", "published"].cells[0].error == "error 0.200"
    assert rows["good", "measured"].cells[1].value == "0.100"


def test_no_number_of_a_model_is_shown_as_one_of_an_experiment():
    scored = replace(make_case("water").references[0], kind="experiment", values={})
    case = make_case("water", references=(scored,), metrics={"a_angstrom": Metric("a", "Å", 1.0)})
    record = replace(make_record("m", case), result={"a_angstrom": 3.2}, errors={"a_angstrom": 0.0})
    rows = {row.name: row for row in case_section(make_board([record], [case]), case).rows}
    assert rows["m"].cells[0].value == "3.200"
    assert rows["DFT"].cells[0].value == "—"


def test_failed_cells_are_marked_as_failed(board):
    bad = next(row for row in main_rows(board) if row.model == "bad")
    assert [(cell.text, cell.failed) for cell in bad.cells] == [
        ("unstable", True), ("unsupported", False), ("not run", False)
    ]  # fmt: skip


def test_identifiers_keep_the_material_where_there_are_several():
    mo, si = make_case("lattice"), make_case("lattice", id="si/lattice")
    assert make_board([], [mo]).short(mo) == "lattice"
    assert make_board([], [mo, si]).short(mo) == "mo/lattice"


def test_files_are_written_together(tmp_path, cases):
    paths = write_report([make_record("m", cases[0])], cases, tmp_path / "new" / "folder")
    names = sorted(path.name for path in paths.html.parent.iterdir())
    assert names == [f"leaderboard.{end}" for end in ("csv", "html", "json", "md")]
    assert paths.markdown.read_text(encoding="utf-8").startswith("# mace_ft_bench leaderboard")
    again = write_report([make_record("m", cases[0])], cases, paths.html.parent)
    assert again.html.read_text(encoding="utf-8") == paths.html.read_text(encoding="utf-8")


def test_browsers_may_run_the_script_of_the_page_and_no_other(board):
    text = to_html(board)
    script = text[text.index("<script>") + len("<script>") : text.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(a["content"] for tag, a in Page(text).seen if tag == "meta" and "http-equiv" in a)
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_headings_descend_one_level_at_a_time(board):
    levels = [int(tag[1]) for tag, _ in Page(to_html(board)).seen if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_tables_are_told_to_those_who_do_not_see_them(board):
    seen = Page(to_html(board)).seen
    assert {attributes.get("scope") for tag, attributes in seen if tag == "th"} == {"row", "col"}
    boxes = [attributes for _, attributes in seen if "scroll" in (attributes.get("class") or "").split()]
    assert len(boxes) == sum(tag == "table" for tag, _ in seen)
    assert all(box["role"] == "region" and box["tabindex"] == "0" and box["aria-label"] for box in boxes)
    figures = [tag for tag, _ in seen if tag in {"figure", "figcaption"}]
    assert figures == ["figure", "figcaption"] * (len(figures) // 2)
    assert len(figures) >= 4
    assert ("html", {"lang": "en"}) in seen


def test_what_ended_for_one_reason_is_told_once(cases):
    failed = [make_record("m", case, "unsupported", message="No.") for case in cases]
    (told,) = make_board(failed, cases).attempts({"unsupported"})
    assert (told.model, told.cases, told.message) == ("m", ("mo/one", "mo/shown", "mo/two"), "No.")


def test_settings_of_records_that_computed_nothing_are_not_shown(cases):
    fast, none = (Provenance(accelerator=name) for name in ("fused", "none"))
    records = [
        make_record("m", cases[0], provenance=fast),
        make_record("m", cases[1], "unsupported", provenance=none),
    ]
    (row,) = provenance_rows(make_board(records, cases))
    assert row.facts["accelerator"] == "fused"


def test_nothing_is_written_if_rendering_fails(tmp_path, cases, monkeypatch):
    def fail(*_args):
        raise RuntimeError("no page")

    monkeypatch.setattr(report, "to_html", fail)
    with pytest.raises(RuntimeError, match="no page"):
        write_report([make_record("m", cases[0])], cases, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path, cases, monkeypatch):
    paths = write_report([], cases, tmp_path)
    before = paths.markdown.read_text(encoding="utf-8")

    def fail(*_args):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report([make_record("m", cases[0])], cases, tmp_path)
    assert paths.markdown.read_text(encoding="utf-8") == before
    assert len(list(tmp_path.iterdir())) == 4


def test_without_records_the_page_says_so(tmp_path, cases):
    paths = write_report([], cases, tmp_path)
    assert "Nothing was run." in Page(paths.html.read_text(encoding="utf-8")).text
    assert "Nothing was run." in paths.markdown.read_text(encoding="utf-8")


def test_without_cases_there_is_still_a_page(tmp_path):
    assert "Nothing was run." in write_report([], [], tmp_path).html.read_text(encoding="utf-8")


def test_models_without_a_shared_case_are_not_ranked(cases):
    text = to_markdown(make_board([make_record("a", cases[0]), make_record("b", cases[1])], cases))
    assert "No scored case is covered by all models" in text


def test_unscored_cases_are_not_ranked(cases):
    assert "None of these cases is scored" in to_markdown(make_board([make_record("a", cases[2])], cases[2:]))


def test_the_cards_of_the_project_render(tmp_path):
    cards = load_cases()
    records = [replace(make_record("m", case, "error")) for case in cards.values()]
    paths = write_report(records, cards.values(), tmp_path)
    assert all(case.title in Page(paths.html.read_text(encoding="utf-8")).text for case in cards.values())


@pytest.mark.parametrize("text", ["a|b", "<b>", "*x*", "line\nbreak", "[link](x)", "back\\slash|"])
def test_cells_stay_in_their_column(text):
    line = markdown_table(("a", "b"), [(text, "c")]).splitlines()[-1]
    assert len(cells(line.replace("\\\\", ""))) == 2
    assert "<" not in escape(text)


def test_neither_torch_nor_ase_is_imported(tmp_path):
    """Results are read and shown without either; the parent package, which registers with ASE, is a stub here."""
    code = f"""
import pathlib, sys, types
package = types.ModuleType("mace_ft_bench")
package.__path__ = [{str(ROOT)!r}]
sys.modules["mace_ft_bench"] = package
import mace_ft_bench.leaderboard.report as report
from mace_ft_bench.results.case import load_cases
from mace_ft_bench.results.record import Provenance
report.write_report([], load_cases().values(), pathlib.Path({str(tmp_path)!r}))
print(*{{name.split(".")[0] for name in sys.modules}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "ase", "mace"}.isdisjoint(done.stdout.split())
    assert (tmp_path / "leaderboard.html").is_file()


def test_the_leaderboard_adds_nothing_heavy_to_its_package():
    code = """
import sys, mace_ft_bench
before = set(sys.modules)
import mace_ft_bench.leaderboard.report
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "ase", "mace"}.isdisjoint(done.stdout.split())
