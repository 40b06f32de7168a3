"""From a PyTorch module to its graph: recording, and normalising what was recorded."""
