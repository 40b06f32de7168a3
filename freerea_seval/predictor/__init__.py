"""Predictors of a metric from network strings. Importing the package is light; its modules need scikit-learn."""
