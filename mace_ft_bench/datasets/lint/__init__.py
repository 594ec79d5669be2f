"""Lint of labelled frames: one function per check, what each found, and the safe repairs."""
