"""Scores, tables, figures and the page; reads records, computes nothing expensive."""
