# mypy: disable-error-code="import-untyped, import-not-found, unused-ignore"
"""Ray: an executor on the machines of a cluster; an evaluator as a trainable of Ray Tune, with genes to choose.

References:
    Moritz 2018: Moritz et al., Ray: A Distributed Framework for Emerging AI Applications, arXiv 1712.05889.
    Liaw 2018: Liaw, Liang, Nishihara, Moritz, Gonzalez, Stoica, Tune: A Research Platform for Distributed Model
        Selection and Training, arXiv 1807.05118.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from freerea_patch import InputError, SearchSpace
from freerea_seval.integrations.points import choices_of, compose

try:
    import ray
    from ray import tune
except ImportError:
    raise InputError("this needs the package ray: pip install 'freerea-seval[ray]'") from None

if TYPE_CHECKING:
    from freerea_seval.api.evaluator import Evaluator


def param_space(space: SearchSpace) -> dict[str, Any]:
    """Return the genes of a space as choices, for the argument ``param_space`` of a tuner.

    Raises:
        InputError: the search space does not have ``choices``, ``compose`` and ``genes``.
    """
    return {name: tune.choice(list(values)) for name, values in choices_of(space).items()}


def trainable(evaluator: Evaluator) -> Callable[[Mapping[str, str]], dict[str, Any]]:
    """Return a trainable that reports the genotype, whether it is feasible, and the value of every objective.

    Values have their own units and directions; NaN is a value that is unsupported, or was not evaluated because a
    constraint was violated before. Every process of a tuner opens the sources of the evaluator again.

    Example:
        >>> import freerea_seval as fs  # doctest: +SKIP
        >>> from ray import tune
        >>> from freerea_seval.integrations.ray import param_space, trainable
        >>> evaluator = fs.Evaluator.from_config("search.yaml")
        >>> tuner = tune.Tuner(trainable(evaluator), param_space=param_space(evaluator.space),
        ...     tune_config=tune.TuneConfig(num_samples=20))
        >>> table = tuner.fit().get_dataframe()
    """

    def evaluate(genes: Mapping[str, str]) -> dict[str, Any]:
        genotype = compose(evaluator.space, dict(genes))
        row = evaluator([genotype]).iloc[0]
        values = {term.name: float(row[term.name]) for term in evaluator.objectives}
        return {"genotype": genotype, "feasible": bool(row["feasible"]), **values}

    return evaluate


@contextmanager
def connected(address: str | None) -> Iterator[int]:
    """Yield the number of cores of a Ray cluster, of which this process is a member as long as the context is open.

    Args:
        address: of the cluster, such as ``ray://HOST:10001``; None for the one in the environment variable
            ``RAY_ADDRESS`` or on this machine, and where there is none, for one of this process alone.

    Raises:
        InputError: the cluster cannot be reached.
    """
    joins = not ray.is_initialized()
    if joins:
        try:
            ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
        except Exception as error:  # whatever Ray raises
            line = " ".join(str(error).split())[:200]
            raise InputError(f"--executor: Ray cannot be reached at {address or 'this machine'} ({line})") from None
    try:
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call, unused-ignore]
        yield int(resources.get("CPU", 1))
    finally:
        if joins:
            ray.shutdown()  # type: ignore[no-untyped-call, unused-ignore]


class RayExecutor(Executor):
    """Carries out tasks on the machines of a Ray cluster (Moritz 2018), on which the same packages are installed.

    A task whose process or machine is lost is done again by Ray; where that fails, too, the executor counts as broken.
    This process is :func:`connected`.
    """

    def __init__(self) -> None:
        self._outcome = ray.remote(_outcome)

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Schedule a task; a task that is cancelled before it ends is ended on the cluster."""
        reference = self._outcome.remote(function, arguments, options)
        future: Future[Any] = Future()

        def answer(answered: Future[tuple[Any, BaseException | None]]) -> None:
            if not future.set_running_or_notify_cancel():
                return
            if (lost := answered.exception()) is not None:
                future.set_exception(BrokenExecutor(f"Ray lost a task: {type(lost).__name__}"))
                return
            result, error = answered.result()
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        future.add_done_callback(lambda done: ray.cancel(reference) if done.cancelled() else None)
        reference.future().add_done_callback(answer)
        return future


def _outcome(
    function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]
) -> tuple[Any, BaseException | None]:
    """Return the result of a task or its error, to which Ray would add a traceback."""
    try:
        return function(*arguments, **options), None
    except Exception as error:
        return None, error
