"""Fail if the wheel lacks a file that the package reads at run time."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
names = set(zipfile.ZipFile(sys.argv[1]).namelist())
needed = {
    f"mace_ft_bench/{prefix}/{path.relative_to(folder).as_posix()}"
    for prefix, folder in (
        ("_reference_data", ROOT / "reference_data"),
        ("zoo/cards", ROOT / "mace_ft_bench/zoo/cards"),
        ("zoo/weights", ROOT / "mace_ft_bench/zoo/weights"),
        ("leaderboard/templates", ROOT / "mace_ft_bench/leaderboard/templates"),
    )
    for path in folder.rglob("*")
    if path.is_file()
}
missing = sorted(needed - names)
if missing:
    sys.exit(f"missing in the wheel: {missing}")
sys.stdout.write(f"{len(needed)} data files in the wheel\n")
