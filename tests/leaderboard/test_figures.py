"""Figures as accessible SVG that can be inlined."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import matplotlib as mpl
import pytest

from mace_ft_bench.leaderboard.figures import FIGURES, draw_figure
from mace_ft_bench.leaderboard.svg import _compact, caption_of, model_styles
from mace_ft_bench.results.case import Case, Metric, Reference

from .fabricated import (
    BOUNDARY,
    DEFECT,
    DIFFERENCE,
    DRIFT,
    DYNAMICS,
    ELASTIC,
    EOS,
    FORMATION,
    FRAMES,
    GSFE,
    MIGRATION,
    PAIRS,
    PHASES,
    PHONONS,
    SOURCE,
    SURFACE,
    THROUGHPUT,
    elastic_case,
    gsfe_case,
    make_case,
    published,
)

SVG = "{http://www.w3.org/2000/svg}"
NASTY = ["<script>alert(1)</script>", "$x^{", "_hidden", 'a "quoted" & name']


def eos_case() -> Case:
    values: dict[str, float | list[float]] = {"v0_angstrom3_per_atom": 15.8}
    reference = Reference("DFT", "dft", "PBE", SOURCE, values=values, scored=True)
    return make_case("eos", property="eos", metrics={"v0_percent": Metric("V0", "%", 1.0)}, references=(reference,))


def measured_against(name, metric, **values):
    """Return a case of the property ``name`` with one metric and DFT values."""
    reference = Reference("DFT", "dft", "PBE", SOURCE, values=values, scored=True)
    return make_case(name, property=name, metrics={metric: Metric("x", "%", 1.0)}, references=(reference,))


WATER = {"temperature": 300.0, "rdf": ["O", "H"], "diffusing": "O", "profile": {"species": "O", "above": "C"}}


def dynamics_case(**changes):
    values = {"mean_temperature_k": 300.0, "profile_first_peak_nm": 0.25}
    return replace(measured_against("molecular_dynamics", "mean_temperature_k", **values), settings=WATER, **changes)


EXAMPLES = [
    (dynamics_case(), DYNAMICS),
    (measured_against("phonons", "highest_percent", thz_at_G=[0.0, 5.0], thz_at_X=[3.0, 4.0]), PHONONS),
    (
        measured_against(
            "phases",
            "energy_rms_mev_per_atom",
            energy_mev_per_atom_bcc=35.0,
            volume_angstrom3_per_atom_bcc=18.2,
            energy_mev_per_atom_fcc=55.0,
        ),
        PHASES,
    ),
    (measured_against("surface", "surface_energy_percent", surface_energy_j_per_m2=2.0), SURFACE),
    (measured_against("diatomics", "flips_per_pair", flips_per_pair=0.0), PAIRS),
    (measured_against("grain_boundary", "boundary_energy_percent", boundary_energy_j_per_m2=1.0), BOUNDARY),
    (measured_against("point_defect", "formation_energy_ev", formation_energy_ev=3.0), DEFECT),
    (measured_against("energy_difference", "difference_ev", difference_ev=0.9), DIFFERENCE),
    (measured_against("formation_energy", "formation_rms_ev", formation_energy_ev_XT=5.5), FORMATION),
    (measured_against("vacancy_migration", "barrier_ev", barrier_ev=0.6, path_ev=[0.0, 0.6, 0.0]), MIGRATION),
    (make_case("drift", property="nve_drift", metrics={}, references=()), DRIFT),
    (elastic_case(), ELASTIC),
    (gsfe_case(), GSFE),
    (eos_case(), EOS),
    (make_case("frames", property="frame_errors"), FRAMES),
    (make_case("speed", property="throughput", metrics={}, references=()), THROUGHPUT),
]


def test_every_figure_has_an_example():
    assert {case.property for case, _ in EXAMPLES} == set(FIGURES)


@pytest.mark.parametrize(("case", "result"), EXAMPLES, ids=lambda item: getattr(item, "id", ""))
def test_a_figure_is_accessible_and_follows_the_page(case, result):
    svg = draw_figure(case, dict.fromkeys(["one", *NASTY], result))
    root = ET.fromstring(svg)  # noqa: S314 - our own output
    title, desc = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"
    assert case.title in title.text
    assert "one" in desc.text
    assert "currentColor" in svg
    assert "var(--m1, " in svg
    assert "#01020" not in svg
    assert "<script" not in svg
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    words = {"".join(text.itertext()).strip() for text in root.iter(f"{SVG}text")}
    assert {"one", *NASTY} <= words


@pytest.mark.parametrize(("case", "result"), EXAMPLES, ids=lambda item: getattr(item, "id", ""))
def test_identifiers_are_unique_and_resolve(case, result):
    other = make_case("other", property=case.property, metrics=case.metrics, references=case.references)
    page = draw_figure(case, {"m": result}) + draw_figure(other, {"m": result})
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    used = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', page)
    assert {a or b for a, b in used} <= set(ids)


def test_numbers_that_readers_read_keep_their_digits():
    case = measured_against("energy_difference", "difference_ev", difference_ev=0.9345)
    svg = draw_figure(case, {"m": DIFFERENCE | {"difference_ev": 0.3794}})
    assert {">0.934</text>", ">0.379</text>"} <= set(re.findall(r">[^<>]+</text>", svg))


def test_the_same_input_gives_the_same_figure():
    case, result = EXAMPLES[-1]
    assert draw_figure(case, {"m": result}) == draw_figure(case, {"m": result})


def test_matplotlib_is_left_as_it_was():
    before = dict(mpl.rcParams)
    draw_figure(elastic_case(), {"m": ELASTIC})
    assert dict(mpl.rcParams) == before


def test_published_bars_say_so_and_references_are_there():
    svg = draw_figure(elastic_case(), {"m": ELASTIC})
    words = " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg))
    assert "EAM (published)" in words
    assert "Experiment" in words
    assert "<pattern" in svg


def test_published_curves_say_so():
    case = gsfe_case()
    curve = published("Paper", values={"gamma_j_per_m2": [0.0, 1.0, 0.0]})
    case = make_case("curve", property="gsfe", metrics=case.metrics, references=(*case.references, curve))
    assert "Paper (published)" in draw_figure(case, {"m": GSFE})


def test_values_that_do_not_apply_leave_a_gap():
    assert "<svg" in draw_figure(elastic_case(), {"m": ELASTIC | {"c44_gpa": None}})


def test_frames_without_energies_show_forces():
    result = FRAMES | {"energy_pairs_ev_per_atom": [], "energy_offset_mev_per_atom": None}
    svg = draw_figure(make_case("frames", property="frame_errors"), {"m": result})
    assert "force components" in svg
    assert "energies, aligned" not in svg


@pytest.mark.parametrize("profile", [True, False])
@pytest.mark.parametrize("rdf", [True, False])
def test_dynamics_show_what_structure_they_have(profile, rdf):
    result = dict(DYNAMICS)
    if not profile:
        result |= {"profile_per_angstrom3": [], "profile_height_angstrom": []}
    if not rdf:
        result |= {"rdf": [], "rdf_r_angstrom": []}
    svg = draw_figure(dynamics_case(), {"m": result})
    assert ("O density [1/Å³]" in svg) is profile
    assert ("g(r) O–H" in svg) is rdf
    assert "O: displacement² [Å²]" in svg
    assert "temperature [K]" in svg


def test_no_figure_for_unknown_properties_and_without_results():
    assert draw_figure(make_case("one", property="unknown"), {"m": {}}) == ""
    assert draw_figure(gsfe_case(), {}) == ""


def test_many_models_stay_distinguishable():
    styles = model_styles([str(i) for i in range(24)])
    assert len(set(styles.values())) == 24


def test_phonons_show_references_at_every_visit_of_a_point_and_join_names_at_a_break():
    case, result = EXAMPLES[1]
    svg = draw_figure(case, {"m": result})
    words = set(re.findall(r"<text[^>]*>([^<]*)</text>", svg))
    assert {"Γ", "X|U"} <= words
    assert "G" not in words
    assert "−0.500 THz" in svg


def test_phases_are_the_rows_of_their_figure_lowest_first():
    case, result = next(item for item in EXAMPLES if item[0].property == "phases")
    words = re.findall(r"<text[^>]*>([^<]*)</text>", draw_figure(case, {"m": result, "n": result}))
    assert [word for word in words if word in {"ground", "bcc", "simple hexagonal", "fcc"}] == [
        "bcc",
        "fcc",  # of the reference alone: it has a row all the same
        "simple hexagonal",
    ]


@pytest.mark.parametrize("width", [4, 60], ids=["short names", "long names"])
def test_a_long_legend_leaves_room_for_the_curves(width):
    names = [f"{i:0{width}d}" for i in range(20)]
    svg = draw_figure(eos_case(), dict.fromkeys(names, EOS))  # matplotlib warns where it finds no room: an error here
    few = draw_figure(eos_case(), dict.fromkeys(names[:2], EOS))
    high, low = (float(re.search(r'viewBox="0 0 400 ([\d.]+)"', text)[1]) for text in (svg, few))
    assert high > low + 100


def test_dots_are_written_once_and_lines_as_they_are():
    dots = "M 1.04 2.00 \nL 1.04 2.00 \nM 1.01 2.02 \nL 1.01 2.02 \nM 5.00 6.00 \nL 5.00 6.00 \n"
    assert _compact(dots) == "M1.0 2.0h0M5.0 6.0h0"
    assert _compact("M 1.04 2.00 \nL 3.01 -4.25 \nz\n") == "M1.04 2.00L3.01 -4.25z"


def test_a_figure_says_what_it_shows():
    case, result = EXAMPLES[-1]
    assert caption_of(draw_figure(case, {"m": result})) == "Time per step against number of atoms."
