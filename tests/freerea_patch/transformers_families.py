"""Small configs of eleven families of transformers, each with some of its keys varied."""

from __future__ import annotations

from functools import cache
from typing import Any

from freerea_patch.spaces import make_space

_DECODER: dict[str, Any] = {"vocab_size": 97, "max_position_embeddings": 64}
_SIZES = {"hidden_size": [16, 32], "num_attention_heads": [2, 4]}
_GROUPED = {"num_hidden_layers": [2, 5, 6], **_SIZES, "num_key_value_heads": [2, 4], "intermediate_size": [24]}

#: The content of a config and ``vary``, by family.
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, list[Any]]]] = {
    "llama": ({"model_type": "llama", **_DECODER}, _GROUPED),
    "qwen2": ({"model_type": "qwen2", **_DECODER}, _GROUPED),
    "qwen3": ({"model_type": "qwen3", **_DECODER, "head_dim": 8}, _GROUPED),
    "mistral": ({"model_type": "mistral", **_DECODER}, _GROUPED),
    "gemma2": (
        {
            **{"model_type": "gemma2", **_DECODER, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 2},
            **{"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 24},
        },
        {"num_hidden_layers": [2, 8, 10], "hidden_size": [16, 24]},
    ),
    "gpt2": (
        {"model_type": "gpt2", "vocab_size": 97, "n_positions": 64},
        {"n_layer": [2, 5, 6], "hidden_size": [16, 24], "n_head": [2, 3]},
    ),
    "bert": (
        {"model_type": "bert", **_DECODER, "num_attention_heads": 2},
        {
            "num_hidden_layers": [2, 5, 6],
            "hidden_size": [16, 32],
            "hidden_act": ["gelu", "relu"],
        },
    ),
    "vit": (
        {"model_type": "vit", "image_size": 16, "num_labels": 10},
        {"num_hidden_layers": [2, 5, 6], "hidden_size": [16, 32], "num_attention_heads": [2], "patch_size": [4, 8]},
    ),
    "mamba": (
        {"model_type": "mamba", "vocab_size": 97},
        {"num_hidden_layers": [2, 5, 6], "hidden_size": [16, 32]},
    ),
    "whisper": (
        {
            "model_type": "whisper",
            **{"vocab_size": 97, "num_mel_bins": 8, "max_source_positions": 12, "max_target_positions": 8},
            **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
        },
        {
            **{"encoder_layers": [2, 5], "decoder_layers": [1, 4, 6], "d_model": [16, 24]},
            **{"encoder_attention_heads": [2], "decoder_attention_heads": [2, 3]},
        },
    ),
    "t5": (
        {"model_type": "t5", "vocab_size": 97, "d_kv": 8, "d_ff": 24},
        {"num_layers": [2, 5], "num_decoder_layers": [4, 5], "d_model": [16, 24]},
    ),
}


@cache  # what is valid is found once
def family(name: str) -> Any:
    """Return the space of a family, of inputs of four tokens where these are tokens."""
    config, vary = FAMILIES[name]
    return make_space({"transformers": config, "vary": vary, "context": 4})
