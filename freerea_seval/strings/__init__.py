"""Networks written as strings, which predictors read. Importing the package is light; its modules need torch."""

from importlib.util import find_spec

from freerea_patch import InputError

if find_spec("torch") is None:
    raise InputError("network strings need the package torch: pip install 'freerea-seval[live]'")
