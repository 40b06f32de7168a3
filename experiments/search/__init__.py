"""Searches with and without the plugin: fidelity to FreeREA, integration, search time."""
