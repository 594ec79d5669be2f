"""Make our models known to ASE: through its plugin entry point, and by name once we are imported.

ASE calls the plugin interface experimental and its ``get_calculator_class`` ignores it, so the class is registered
there as well: ``get_calculator_class("mace_ft_bench")(model="mo-ft")``.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

ASE_NAME = "mace_ft_bench"
CITATION = "mace_ft_bench: fine-tuned MACE potentials, served and benchmarked"

_log = logging.getLogger("mace_ft_bench")


def create(model: str, **options: Any) -> Calculator:  # noqa: ANN401 - the options of get_calculator
    """Return ``get_calculator(model, **options)``."""
    from mace_ft_bench.calculators.factory import get_calculator  # noqa: PLC0415 - keeps ASE's start-up fast

    return get_calculator(model, **options)


def calculator_class() -> type[Calculator]:
    """Return a calculator class whose constructor takes ``model=`` and the options of ``get_calculator``."""
    from ase.calculators.calculator import Calculator  # noqa: PLC0415 - keeps `import mace_ft_bench` fast

    class MaceFtBench(Calculator):
        """``MaceFtBench(model="mo-ft")`` returns the calculator of that model."""

        def __new__(cls, model: str, **options: Any) -> Any:  # noqa: ANN401 - the calculator of the model
            return create(model, **options)

    return MaceFtBench


def register() -> None:
    """Register the class under :data:`ASE_NAME` in ASE's list of external calculators; once."""
    from ase.calculators import calculator  # noqa: PLC0415 - keeps `import mace_ft_bench` fast

    if ASE_NAME not in calculator.external_calculators:
        calculator.register_calculator_class(ASE_NAME, calculator_class())


def _plugins() -> set[Any]:
    try:
        from ase._4.plugins.plugin import CalculatorPlugin  # noqa: PLC0415 - ASE has no public form yet
    except ImportError:
        _log.debug("This ASE has no calculator plugins; use get_calculator.")
        return set()
    with contextlib.suppress(TypeError):  # the experimental constructor may change
        return {CalculatorPlugin(ASE_NAME, citation=CITATION, implementation=calculator_class)}
    return set()


def __getattr__(name: str) -> Any:  # noqa: ANN401 - ASE reads __ase_plugins__; importing us must not import ASE 4
    if name == "__ase_plugins__":
        return _plugins()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
