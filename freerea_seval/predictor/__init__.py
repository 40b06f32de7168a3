"""Predictors of a metric from network strings. Importing the package is light; its modules need scikit-learn."""

from importlib.util import find_spec

from freerea_patch import InputError

for _package in ("sklearn", "xgboost"):
    if find_spec(_package) is None:
        raise InputError(f"predictors need the package {_package}: pip install 'freerea-seval[predictor]'")
