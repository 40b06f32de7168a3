"""What learns: models from network strings to scores of metrics, behind one contract, and the scales of scores."""
