"""Measuring networks on a machine: latency, and peak memory and energy where the machine tells them."""
