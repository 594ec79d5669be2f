"""The dependency rule, read from the imports: who may know whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mace_ft_bench.paths import PACKAGE

if TYPE_CHECKING:
    from pathlib import Path

OURS = "mace_ft_bench"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if not path.relative_to(PACKAGE).parts[0].startswith("_rec"))

FORBIDDEN = {
    # properties build the structures of results.case, which holds the cards and imports neither ASE nor torch
    "properties": [
        *("calculators", "zoo", "finetune", "leaderboard", "datasets", "cli", "!mace", "!torch"),
        *(
            "results.record",
            "results.store",
            "results.model_spec",
            "results.tasks",
            "results.runner",
            "results.machine",
        ),
    ],
    "datasets": ["calculators", "properties", "results", "leaderboard", "finetune", "cli", "!mace", "!torch"],
    "zoo": ["calculators", "properties", "results", "leaderboard", "finetune", "datasets", "timing", "cli"],
    "calculators": ["properties", "results", "leaderboard", "finetune", "datasets", "timing", "cli"],
    # run by the Python of another environment, where nothing of ours is installed
    "workers": [
        *("calculators", "zoo", "properties", "results", "leaderboard", "finetune", "datasets", "timing", "cli"),
        *("!torch", "!mace"),
    ],
    "timing": ["properties", "results", "leaderboard", "finetune", "datasets", "cli"],
    "download.py": [
        "calculators",
        "zoo",
        "finetune",
        "datasets",
        "properties",
        "results",
        "leaderboard",
        "cli",
        "!ase",
    ],
    "finetune": ["results", "leaderboard", "cli"],
    "learning": [
        *("calculators", "zoo", "properties", "results", "leaderboard", "finetune", "timing", "cli"),
        *("!mace", "!torch", "!chgnet"),
    ],
    "labelling": [
        *("zoo", "properties", "results", "leaderboard", "finetune", "learning", "timing", "cli"),
        *("!mace", "!torch"),
    ],
    "results": ["leaderboard", "finetune", "cli", "!mace"],
    "leaderboard": ["calculators", "zoo", "finetune", "datasets", "properties", "cli", "!torch", "!mace", "!ase"],
    "errors.py": ["calculators", "zoo", "finetune", "datasets", "properties", "results", "leaderboard", "cli", "!ase"],
    "units.py": ["calculators", "zoo", "finetune", "datasets", "properties", "results", "leaderboard", "cli"],
    "toml_schema.py": ["calculators", "zoo", "finetune", "datasets", "properties", "results", "leaderboard", "cli"],
}
"""By folder or file: our packages and (with !) libraries that it never imports, not even inside a function."""


def imports(source: str) -> set[str]:
    """Return the dotted names that a module imports anywhere; of ``from a import b`` both ``a`` and ``a.b``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "the package uses absolute imports"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def offends(imported: set[str], rule: str) -> set[str]:
    banned = rule[1:] if rule.startswith("!") else f"{OURS}.{rule}"
    return {name for name in imported if name == banned or name.startswith(f"{banned}.")}


def modules_of(part: str) -> list[Path]:
    found = [path for path in MODULES if path.relative_to(PACKAGE).parts[0] == part]
    assert found, part
    return found


@pytest.mark.parametrize("part", FORBIDDEN)
def test_nobody_imports_what_it_must_not_know(part):
    broken = {
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in modules_of(part)
        for rule in FORBIDDEN[part]
        for name in offends(imports(path.read_text(encoding="utf-8")), rule)
    }
    assert not broken


def test_a_worker_needs_nothing_of_ours():
    assert not offends(imports((PACKAGE / "workers" / "serve.py").read_text(encoding="utf-8")), f"!{OURS}")


def test_the_reader_of_imports_sees_them_all():
    source = (
        "import torch.nn\ndef f():\n    from mace_ft_bench import zoo\n    from mace_ft_bench.zoo.card import ModelCard"
    )
    assert offends(imports(source), "!torch") == {"torch.nn"}
    assert offends(imports(source), "zoo") == {
        "mace_ft_bench.zoo",
        "mace_ft_bench.zoo.card",
        "mace_ft_bench.zoo.card.ModelCard",
    }
    assert not offends(imports("import macecalc, mace_ft_bench.zoology"), "!mace")


def calls(path: Path, name: str) -> list[int]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
    ]


def test_only_the_command_line_prints():
    printing = {
        str(path.relative_to(PACKAGE)): calls(path, "print") for path in MODULES if path.parent != PACKAGE / "cli"
    }
    assert not {name: lines for name, lines in printing.items() if lines}
    assert any(calls(path, "print") for path in modules_of("cli"))


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        (
            "import mace_ft_bench",
            ["torch", "mace", "e3nn", "numba", "pydantic", "matplotlib", "typer", "rich", "pooch", "sklearn"],
        ),
        ("import mace_ft_bench.cli.main", ["torch", "mace", "e3nn", "numba", "matplotlib", "pooch"]),
        ("import mace_ft_bench.leaderboard.report", ["torch", "mace", "e3nn"]),
        ("import mace_ft_bench.results.case, mace_ft_bench.results.store", ["torch", "mace", "matplotlib"]),
        ("import mace_ft_bench.properties.elastic, mace_ft_bench.properties.gsfe", ["torch", "mace", "e3nn"]),
    ],
)
def test_what_an_import_loads(statement, absent):
    code = f"import sys\n{statement}\nprint(*sorted(set({absent!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_module_says_what_it_is_for():
    silent = [path.name for path in MODULES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert set(silent) <= {"_version.py"}
