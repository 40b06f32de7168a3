"""The graph of a network, without torch.

:mod:`.ir` defines nodes and graphs. :mod:`.shape_inference` infers the shapes of results and parameters, and
:mod:`.printer` prints what cannot be inferred. :mod:`.simplify` makes the functional view of a graph, in the order of
:mod:`.canonical_order`.
"""
