"""PyTorch networks of the NATS-Bench spaces, and how their weights are drawn. Importing these needs torch."""
