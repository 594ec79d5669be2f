"""Fine-tune MACE interatomic potentials, serve them as ASE calculators, benchmark them against DFT."""

from mace_ft_bench._version import __version__

__all__ = ["__version__"]
