"""The inputs of predictors: network strings and zero-cost proxies as the columns of a matrix.

A string is read as a chain of blocks. :mod:`.path_features` counts the paths between two cut vertices,
:mod:`.segment_features` adds what each operation costs and what follows what, :mod:`.sparse_counts` sums these counts
into rows, and :mod:`.vectorizer` is the scikit-learn transformer around them. :mod:`.dataflow` tells a language model
which operations read which. :mod:`.proxies` standardises proxies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch.imports import lazy_exports

if TYPE_CHECKING:
    from freerea_seval.predictor.features.dataflow import (
        number_operations,
        operands,
        strip_operands,
        token_offsets,
        word_tokenizer,
    )
    from freerea_seval.predictor.features.proxies import ProxyColumns, as_table
    from freerea_seval.predictor.features.segment_features import describe
    from freerea_seval.predictor.features.vectorizer import (
        Matrix,
        StringFeatures,
        check_strings,
        share_features,
        sizes,
    )
else:
    __getattr__, __dir__ = lazy_exports(__name__, __file__)
