"""The model ``t5``: SEval-NAS's predictor (arXiv 2603.00099) on transformers, for the package's network strings.

A string passes through :mod:`.tokenization` (tokens, numbers, data flow) and :mod:`.encoder` (T5 encoder, mean, linear
head); :mod:`.training` fits it with ``transformers.Trainer``; :mod:`.estimator` is the scikit-learn estimator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch.imports import lazy_exports

if TYPE_CHECKING:
    from freerea_seval.predictor.t5.estimator import PUBLISHED, T5Predictor
else:
    __getattr__, __dir__ = lazy_exports(__name__, __file__)
