"""From a PyTorch module to its graph, by recording one forward pass.

:mod:`.tracer` runs the module under the :mod:`.recorder`, a :mod:`.dispatch_mode` that observes every operation.
:mod:`.operations` normalises names and arguments; :mod:`.peephole` removes what frameworks insert around operations.
:mod:`.sevalnas_format` writes the string format of SEval-NAS instead, from the autograd graph.
"""
