"""The T5 encoder as a predictor of metrics from network strings."""
