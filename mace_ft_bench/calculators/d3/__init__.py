"""The parts of DFT-D3; the public module is :mod:`mace_ft_bench.calculators.dispersion`."""
