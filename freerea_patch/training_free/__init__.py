"""FreeREA's training-free metrics: computed on live networks, which needs torch.

``live`` is the metric source (batch of images, cache, device), ``metrics`` computes naswot and logsynflow on one
network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch._lazy import lazy_exports

if TYPE_CHECKING:
    from freerea_patch.training_free.live import (
        METRICS,
        NETWORK,
        Clock,
        Images,
        MetricCache,
        TrainingFree,
        batch_digest,
        cache_key,
        check_device,
        code_digest,
        device_model,
        freerea_objectives,
        live_metric_key,
        load_batch,
    )
    from freerea_patch.training_free.metrics import (
        Forward,
        PatternKernel,
        cell_forward,
        depthwise,
        keep_memory,
        logsynflow,
        naswot,
        replace_forwards,
    )

# fmt: off
__all__ = [
    "METRICS", "NETWORK", "Clock", "Forward", "Images", "MetricCache", "PatternKernel", "TrainingFree",
    "batch_digest", "cache_key", "cell_forward", "check_device", "code_digest", "depthwise", "device_model",
    "freerea_objectives", "keep_memory", "live_metric_key", "load_batch", "logsynflow", "naswot", "replace_forwards",
]

if not TYPE_CHECKING:  # type checkers use the imports above
    __getattr__, __dir__ = lazy_exports(__name__, {
        "freerea_patch.training_free.live": [
            "METRICS", "NETWORK", "Clock", "Images", "MetricCache", "TrainingFree", "batch_digest", "cache_key",
            "check_device", "code_digest", "device_model", "freerea_objectives", "live_metric_key",
            "load_batch",
        ],
        "freerea_patch.training_free.metrics": [
            "Forward", "PatternKernel", "cell_forward", "depthwise", "keep_memory", "logsynflow", "naswot",
            "replace_forwards",
        ],
    })
