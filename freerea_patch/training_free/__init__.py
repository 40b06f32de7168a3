"""FreeREA's training-free metrics: computed on live networks, which needs torch.

``live`` is the metric source (batch of images or tokens, cache, device), ``metrics`` computes naswot and logsynflow on
one network, and ``embedding`` makes a language model a function of its embedding's output for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch.imports import lazy_exports

if TYPE_CHECKING:
    from freerea_patch.training_free.embedding import FromEmbedding, as_embedded
    from freerea_patch.training_free.live import (
        LENGTH,
        METRICS,
        NETWORK,
        Clock,
        Images,
        Inputs,
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
        load_inputs,
        load_tokens,
        rows_of,
    )
    from freerea_patch.training_free.metrics import (
        Forward,
        IdentityNorms,
        PatternKernel,
        as_parameters,
        cell_forward,
        depthwise,
        keep_memory,
        layer_weights,
        logsynflow,
        naswot,
        replace_forwards,
    )
else:
    __getattr__, __dir__ = lazy_exports(__name__, __file__)
