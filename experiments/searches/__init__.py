"""What ``experiments.integration`` carries out: benchmarks, methods, and what their searches find."""
