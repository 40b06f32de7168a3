"""Spaces of configs of transformers: strings and costs of families, and an example search."""
