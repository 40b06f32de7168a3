"""Networks written as strings, which predictors read.

:mod:`.graph` is the network's graph, :mod:`.grammar` its string, :mod:`.trace` the way from a module to its graph.
Strings are written and read without torch; only tracing needs it.
"""
