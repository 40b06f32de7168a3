"""From a PyTorch module to its graph, by recording one forward pass.

:mod:`.tracer` runs the module under the :mod:`.recorder`, a :mod:`.dispatch_mode` that observes every operation.
:mod:`.operations` normalises names and arguments; :mod:`.peephole` removes what frameworks insert around operations.
:mod:`.sevalnas_format` writes the string format of SEval-NAS instead, from the autograd graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch._lazy import lazy_exports

if TYPE_CHECKING:
    from freerea_seval.strings.trace.dispatch_mode import DispatchMode, tensors_in
    from freerea_seval.strings.trace.operations import Schema, spec_of
    from freerea_seval.strings.trace.sevalnas_format import format_result, sevalnas_string
    from freerea_seval.strings.trace.tracer import Inputs, record, trace_module

__all__ = [
    "DispatchMode",
    "Inputs",
    "Schema",
    "format_result",
    "record",
    "sevalnas_string",
    "spec_of",
    "tensors_in",
    "trace_module",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "freerea_seval.strings.trace.dispatch_mode": ["DispatchMode", "tensors_in"],
        "freerea_seval.strings.trace.operations": ["Schema", "spec_of"],
        "freerea_seval.strings.trace.sevalnas_format": ["format_result", "sevalnas_string"],
        "freerea_seval.strings.trace.tracer": ["Inputs", "record", "trace_module"],
    },
)
