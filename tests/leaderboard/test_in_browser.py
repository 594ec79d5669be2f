"""The page in a real browser: sorting, filtering, links, dark, phone, keyboard; no complaint, no request."""

from __future__ import annotations

import pytest

from mace_ft_bench.leaderboard.report import write_report
from mace_ft_bench.results.record import Provenance

from .browser import Browser, find
from .fabricated import ELASTIC, GSFE, THROUGHPUT, elastic_case, gsfe_case, make_case, make_record

pytestmark = pytest.mark.skipif(not find(), reason="no Chromium on this machine; Debian's package is chromium")

DESK, PHONE = 1200, 390
LONG = "models/" + "a-very-long-name-" * 6 + ".safetensors"
VISIBLE = "[...document.querySelectorAll('#results-table tbody tr')].filter(row => row.getClientRects().length)"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    mo = [elastic_case(), gsfe_case(), make_case("speed", property="throughput", metrics={}, references=())]
    si = make_case("one", id="si/one", description="word " * 80)
    errors = {"c11_percent": 10.0, "c12_percent": -5.0, "c44_percent": 0.0}
    origin = Provenance(model_sha256="ab" * 32, device="cpu", hardware="a processor", package_versions={"ase": "3"})
    records = [
        make_record("good", mo[0], result=ELASTIC, errors=errors, provenance=origin),
        make_record("good", mo[1], result=GSFE, errors={"barrier_j_per_m2": 0.1, "curve_rms_j_per_m2": 0.1}),
        make_record("good", mo[2], result=THROUGHPUT),
        make_record("good", si),
        make_record(LONG, mo[0], "unstable"),
        make_record(LONG, si, error=1.0),
        make_record("lost", si, "unsupported"),
    ]
    info = {"good": {"functional": "PBE", "licence": "MIT", "parameters": "59,384", "description": "A model."}}
    paths = write_report(records, [*mo, si], tmp_path_factory.mktemp("page"), model_info=info)
    return paths.html.as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def desk(browser, page):
    """Return the browser with the page on a desk; whatever a test does, the page neither complains nor loads."""
    browser.look(DESK)
    browser.open(page)
    yield browser
    assert browser.complaints() == []
    assert [address.partition("#")[0] for address in browser.requests() if address != "about:blank"] == [page]
    assert browser.run("performance.getEntriesByType('resource').length") == 0


def column(browser, name):
    place = f"[...document.querySelectorAll('#results-table th[data-key]')].findIndex(h => h.dataset.key === '{name}')"
    return browser.run(f"{VISIBLE}.map(row => row.cells[{place}].textContent)")


def numbers(browser, name):
    return [None if text == "—" else float(text.replace("−", "-")) for text in column(browser, name)]


def sort_of(browser, name):
    return browser.run(f"document.querySelector('#results-table th[data-key={name}]').getAttribute('aria-sort')")


def click_head(browser, name):
    browser.run(f"document.querySelector('#results-table th[data-key={name}] button').click()")


def fill(browser, name, value):
    browser.run(
        f"(field => {{ field.value = {value!r}; field.dispatchEvent(new Event('input', {{bubbles: true}})) }})"
        f"(document.getElementById('filters').elements.{name})"
    )


def test_the_page_is_silent_and_loads_nothing(desk):
    assert desk.run("document.title") == "mace_ft_bench leaderboard"
    assert len(numbers(desk, "score")) > 10


def test_a_browser_that_is_asked_to_load_or_complain_is_noticed(browser, page):
    browser.look(DESK)
    browser.open(page)
    browser.run("console.error('so'); new Promise(r => { const i = new Image(); i.onerror = r; i.src = 'none.png' })")
    complaints = browser.complaints()
    assert any("so" in text for text in complaints)
    assert any("Content Security Policy" in text for text in complaints)


def test_numbers_sort_as_numbers_and_missing_ones_come_last(desk):
    click_head(desk, "score")
    rising = numbers(desk, "score")
    click_head(desk, "score")
    falling = numbers(desk, "score")
    known = [score for score in rising if score is not None]
    assert len(set(known)) > 4
    assert rising == sorted(known) + [None] * (len(rising) - len(known))
    assert falling == sorted(known, reverse=True) + [None] * (len(rising) - len(known))
    assert sort_of(desk, "score") == "descending"
    assert sort_of(desk, "error") == "none"


def test_errors_sort_by_their_size(desk):
    click_head(desk, "error")
    known = [abs(error) for error in numbers(desk, "error") if error is not None]
    assert known == sorted(known)
    assert any(error is not None and error < 0 for error in numbers(desk, "error"))


def test_heads_sort_by_keyboard_with_a_visible_focus(desk):
    desk.run("document.getElementById('results-link').focus()")
    for _ in range(3):  # past the box that scrolls and the head of the models
        desk.press("Tab")
    assert desk.run("document.activeElement.closest('th').dataset.key") == "study"
    assert desk.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert desk.run("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2
    desk.press("Enter")
    assert sort_of(desk, "study") == "ascending"
    assert column(desk, "study") == sorted(column(desk, "study"))


def test_filters_leave_what_fits_and_say_how_many(desk):
    every = len(column(desk, "model"))
    fill(desk, "model", "good")
    assert set(column(desk, "model")) == {"good"}
    fill(desk, "q", "C11 MO/elastic")
    assert column(desk, "metric") == ["C11"]
    assert desk.run("document.getElementById('results-count').textContent") == f"1 of {every} results"
    desk.run("document.querySelector('#filters [type=reset]').click()")
    assert len(column(desk, "model")) == every
    fill(desk, "status", "unstable")
    assert set(column(desk, "model")) == {LONG}
    assert set(numbers(desk, "score")) == {0.0}


def test_a_link_reproduces_the_selection(desk, page):
    fill(desk, "study", "mo")
    fill(desk, "kind", "measured")
    click_head(desk, "score")
    click_head(desk, "score")
    rows, address = column(desk, "metric"), desk.run("location.href")
    assert address == desk.run("document.getElementById('results-link').href")
    assert "#results?" in address
    desk.open(address)
    assert column(desk, "metric") == rows
    assert desk.run("document.getElementById('filters').elements.study.value") == "mo"
    assert sort_of(desk, "score") == "descending"
    assert abs(desk.run("document.getElementById('results').getBoundingClientRect().top")) < 100
    desk.open(page + "#results?model=nobody&sort=nothing")
    assert len(column(desk, "model")) > len(rows)


def test_cases_have_links(desk, page):
    desk.open(f"{page}#si/one")
    assert desk.run("document.querySelector(':target h3').textContent").startswith("Title of one")
    assert desk.run("document.querySelector(':target').getBoundingClientRect().top") < 800


def test_the_command_is_copied_or_selected(desk):
    desk.run("document.querySelector('[data-copies=\"command-1-mo/elastic\"]').click()")
    told = "document.querySelector('[data-copies=\"command-1-mo/elastic\"]').textContent"
    label = desk.run(f"new Promise(done => setTimeout(() => done({told}), 300))")
    assert label in {"copied", "selected"}
    if label == "copied":
        desk.ask("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
        copied = desk.run("navigator.clipboard.readText()")
    else:
        copied = desk.run("getSelection().toString()")
    assert copied.startswith("mfb run --models good,")
    assert "--cases mo/elastic" in copied


def test_the_page_follows_the_scheme_of_the_reader(desk, page):
    ink = "getComputedStyle(document.body).color"
    ground = "getComputedStyle(document.body).backgroundColor"
    light = desk.run(ink), desk.run(ground)
    desk.look(DESK, dark=True)
    desk.open(page)
    dark = desk.run(ink), desk.run(ground)
    assert dark == ("rgb(229, 232, 236)", "rgb(18, 21, 24)")
    assert light == ("rgb(26, 31, 37)", "rgb(247, 248, 249)")
    assert desk.run("getComputedStyle(document.querySelector('figure svg text')).fill") == dark[0]


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_scrolls_tables_but_not_the_page(desk, page, dark):
    desk.look(PHONE, 844, dark=dark)
    desk.open(page)
    desk.run("document.querySelectorAll('details').forEach(item => item.open = true)")
    assert desk.run("innerWidth") == PHONE
    assert desk.run("document.documentElement.scrollWidth") == PHONE
    assert desk.run("[...document.querySelectorAll('.scroll')].some(box => box.scrollWidth > box.clientWidth)")
    boxes = "[...document.querySelectorAll('.scroll, figure, .command, form')]"
    assert desk.run(f"{boxes}.every(box => box.getBoundingClientRect().right <= innerWidth)")


def test_without_scripts_everything_is_there(desk, page):
    with_scripts = len(column(desk, "model"))
    desk.look(DESK, scripts=False)
    desk.open(page)
    document = desk.ask("DOM.getDocument", depth=0)["root"]["nodeId"]
    rows = desk.ask("DOM.querySelectorAll", nodeId=document, selector="#results-table tbody tr")["nodeIds"]
    controls = desk.ask(
        "DOM.querySelectorAll", nodeId=document, selector="#filters[hidden], button[data-copies][hidden]"
    )
    assert len(rows) == with_scripts
    assert len(controls["nodeIds"]) > 3
    desk.look(DESK)
