"""Training-free metrics, computed on live networks. Importing the metrics needs torch; the cache does not."""
