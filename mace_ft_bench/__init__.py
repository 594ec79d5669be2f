"""Fine-tune MACE interatomic potentials, serve them as ASE calculators, benchmark them against DFT.

``get_calculator("mo-ft")`` returns an ASE calculator, ``list_models()`` the cards of all models. torch and mace are
imported on first use. Importing this package also registers ``mace_ft_bench`` in ASE's list of calculators.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mace_ft_bench._version import __version__
from mace_ft_bench.calculators.ase_plugin import register as _register_in_ase

if TYPE_CHECKING:
    from mace_ft_bench.calculators.factory import get_calculator
    from mace_ft_bench.zoo.registry import list_models

__all__ = ["__version__", "get_calculator", "list_models"]

_LAZY = {
    "get_calculator": "mace_ft_bench.calculators.factory",
    "list_models": "mace_ft_bench.zoo.registry",
}

_register_in_ase()


def __getattr__(name: str) -> Any:  # noqa: ANN401 - functions, imported on first use (PEP 562)
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
