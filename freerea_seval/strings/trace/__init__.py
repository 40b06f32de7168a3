"""From a PyTorch module, or an ONNX file, to its graph, by recording one forward pass.

:mod:`.tracer` runs the module under the :mod:`.recorder`, a :mod:`.dispatch_mode` that observes every operation.
:mod:`.operations` normalises names and arguments; :mod:`.peephole` removes what frameworks insert around operations.
:mod:`.sevalnas_format` writes the string format of SEval-NAS instead, from the autograd graph.

An ONNX file becomes a module, :mod:`.onnx_network`, that runs its operations under the same recorder: :mod:`.onnx_file`
reads it and decides what its parameters are, :mod:`.onnx_patterns` puts decomposed operations together again, and
:mod:`.onnx_operators` is what each operator computes.
"""
