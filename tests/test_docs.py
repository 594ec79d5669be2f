"""What the documents show is run, page by page and in order: Python, `$ mfb` lines, and files with a title."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r'^```(python|console|toml title="([^"]+)")\n(.*?)^```', re.MULTILINE | re.DOTALL)
MFB = [sys.executable, "-m", "mace_ft_bench.cli.main"]


def identifier(page):
    return str(page.relative_to(ROOT))


def commands(text):
    lines = [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]
    words = [shlex.split(line) for line in lines]
    assert all(program == "mfb" for program, *_ in words)
    return [arguments for _, *arguments in words]


def script(page):
    """Return a page as one program: its Python, its `$ mfb` lines, and its files, in order."""
    lines = []
    for kind, name, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if name:
            lines.append(f"__import__('pathlib').Path({name!r}).write_text({text!r}, encoding='utf-8')")
        elif kind == "python":
            lines.append(text)
        else:
            lines += [f"__import__('subprocess').run({MFB + words!r}, check=True)" for words in commands(text)]
    return "\n".join(lines)


@pytest.mark.parametrize("page", [page for page in PAGES if script(page)], ids=identifier)
def test_what_a_page_shows_runs(page, tmp_path):
    program = tmp_path / "page.py"
    program.write_text(script(page), encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if key != "MFB_MIRROR"}
    environment["MFB_MODELS"] = str(tmp_path / "models")
    subprocess.run([sys.executable, "-W", "error", str(program)], check=True, cwd=tmp_path, env=environment)


def test_links_lead_somewhere():
    links = [
        (page, target)
        for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
        if "://" not in target
    ]
    assert links
    assert not [f"{identifier(page)}: {target}" for page, target in links if not (page.parent / target).exists()]


def test_nav_lists_every_page():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    missing = [page for page in (ROOT / "docs").rglob("*.md") if str(page.relative_to(ROOT / "docs")) not in navigation]
    assert not missing
