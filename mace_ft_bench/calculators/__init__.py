"""Calculators behind one call: serving MACE models and peers through ASE."""
