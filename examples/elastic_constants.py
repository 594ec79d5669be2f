"""Elastic constants of bcc Mo with any two models side by side: a drop-in ASE script.

Run it with: python examples/elastic_constants.py [model ...]
"""

from __future__ import annotations

import sys

from ase.build import bulk

from mace_ft_bench import get_calculator
from mace_ft_bench.properties import elastic

for name in sys.argv[1:] or ["mo-ft"]:
    result = elastic.compute(bulk("Mo", cubic=True), get_calculator(name), elastic.Settings())
    print(
        f"{name}: a = {result.a_angstrom:.4f} Å, C11 = {result.c11_gpa:.0f}, C12 = {result.c12_gpa:.0f}, "
        f"C44 = {result.c44_gpa:.0f}, B = {result.bulk_modulus_gpa:.0f} GPa, ν = {result.poisson_ratio:.2f} (Hill)"
    )
