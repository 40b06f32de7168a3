"""Other people's search engines, with the objectives of a config of ours. Each module imports its library.

A module has two sides. For a program that uses the library itself, it makes what the library takes out of an
:class:`~freerea_seval.api.evaluator.Evaluator`: a problem of ``pymoo``, an objective of ``optuna``, a loss of
``nevergrad``, a trainable of ``ray``. For ``freerea-seval search --engine``, ``pymoo`` and ``optuna`` also have
subclasses of :class:`freerea_patch.Search`, so that the library's searches have our run folder, journal, budget and
report.
"""
