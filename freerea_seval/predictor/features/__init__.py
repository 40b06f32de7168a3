"""What predictors read: network strings, and proxies, as the columns of a matrix."""
