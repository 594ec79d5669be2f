"""Datasets: cards, readers, labelled frames, splits."""
