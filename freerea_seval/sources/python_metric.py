"""The source ``python``: a function of the user's."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from freerea_patch import InputError, Measured, import_object, importable_from
from freerea_patch.errors import USERS_EXCEPTIONS
from freerea_seval.sources.registry import Context, MetricInfo


class PythonSource:
    """A callable that returns a network's metric; NaN means unsupported. Its wall-clock seconds are charged.

    It gets the genotype, or, if its first parameter is named ``network``, the built torch module.

    Args:
        context: the search that it serves; modules beside the config are found.
        argument: ``pkg.module:callable``.

    Raises:
        InputError: no such callable, or it cannot be called with one argument.
    """

    def __init__(self, context: Context, argument: Any) -> None:
        if not isinstance(argument, str):
            raise InputError(f"source 'python': expected pkg.module:callable, got {argument!r}")
        self._base = context.base
        with importable_from(self._base):
            function = import_object(argument, "source 'python'")
        if not callable(function):
            raise InputError(f"source 'python': {argument!r} is not callable, but a {type(function).__name__}")
        self._function: Callable[[Any], Any] = function
        self._name = argument
        self._space = context.space
        self._takes_network = _first_parameter(function, argument) == "network"

    def describe(self, metric: str) -> MetricInfo:
        """Return the metric under any name; its direction is for the user to say."""
        return MetricInfo(metric, description=f"returned by {self._name}")

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
        """Yield what the callable returns, network by network; under several names it is the same value.

        Raises:
            InputError: the callable fails, or returns something that is not a number.
        """
        for genotype in genotypes:
            began = time.perf_counter()
            value = self._call(genotype)
            seconds = (time.perf_counter() - began) / len(metrics)
            yield {metric: Measured(value, seconds) for metric in metrics}

    def _call(self, genotype: str) -> float:
        try:
            with importable_from(self._base):  # it may import more as it runs
                value = self._function(self._space.build(genotype) if self._takes_network else genotype)
        except InputError:
            raise
        except USERS_EXCEPTIONS as error:  # a user's function may raise anything
            message = next(iter(str(error).splitlines()), "")
            raise InputError(
                f"source 'python': {self._name} failed for {genotype!r} ({type(error).__name__}: {message});"
                " correct it, or return float('nan') for a network without a value"
            ) from error
        # Tensors and arrays of one element have __float__; strings and None do not.
        if not isinstance(value, bool) and hasattr(value, "__float__"):
            try:
                return float(value)
            except (TypeError, ValueError, RuntimeError, OverflowError):
                pass
        raise InputError(
            f"source 'python': {self._name} returned a {type(value).__name__} for {genotype!r};"
            " expected a number, or float('nan') for a network without a value"
        )


def _first_parameter(function: Callable[..., Any], name: str) -> str | None:
    """Return the name of the first parameter, None if the signature is not available.

    Raises:
        InputError: the callable does not take exactly one argument.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # many callables written in C have no signature
        return None
    try:
        signature.bind(None)
    except TypeError as error:
        raise InputError(f"source 'python': {name} must take one argument, a genotype or a network ({error})") from None
    return next(iter(signature.parameters))
