"""Measuring latency and memory on this machine, and predicting them."""
