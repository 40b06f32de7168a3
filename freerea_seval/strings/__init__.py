"""Networks as strings, which predictors read.

Data passes through the rooms in this order::

    module --trace--> graph --views--> graph --text--> string --text--> tokens
    space  --spaces (cached parts)-----------------------^

- :mod:`.graph`: the intermediate representation, shape inference, simplification and canonical order;
- :mod:`.trace`: from a module or an ONNX file to its graph, and the string format of SEval-NAS;
- :mod:`.text`: grammar, parser, serialiser, compression and tokenizer;
- :mod:`.spaces`: strings of whole search spaces, from parts that are traced once.

``graph`` imports none of the others, and ``text`` and ``trace`` import only ``graph``. Only tracing needs torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch.imports import lazy_exports

if TYPE_CHECKING:
    from freerea_seval.strings.encode import SpaceStrings, encode_module
    from freerea_seval.strings.graph.ir import Graph, Node, Ref, Spec, Weight
    from freerea_seval.strings.text.parse import parse_graph
    from freerea_seval.strings.text.serialize import serialize_graph
    from freerea_seval.strings.text.tokenizer import Tokenizer
    from freerea_seval.strings.trace.dispatch_mode import DispatchMode, tensors_in
    from freerea_seval.strings.trace.onnx_network import OnnxNetwork
    from freerea_seval.strings.trace.operations import Schema
    from freerea_seval.strings.trace.sevalnas_format import sevalnas_string
    from freerea_seval.strings.trace.tracer import Inputs, trace_module
    from freerea_seval.strings.views import VIEWS, View, check_view, default_view, view_of
else:
    __getattr__, __dir__ = lazy_exports(__name__, __file__)
