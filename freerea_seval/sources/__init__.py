"""Metric sources: where the values of objectives come from."""
