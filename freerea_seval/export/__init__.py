"""Networks as files for use without this package: Python source, ONNX, and PyTorch's ``.pt2``.

``source`` writes a module as Python source; ``formats`` writes a file of any of the three kinds, loads it again and
compares its outputs with those of the network.
"""

from freerea_seval.export.formats import check_target, export_network

__all__ = ["check_target", "export_network"]
