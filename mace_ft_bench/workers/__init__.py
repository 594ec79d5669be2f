"""Calculators in a Python environment of their own: the process that serves one, and its side here."""
