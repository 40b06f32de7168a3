"""Architectures from the library transformers, built small and untrained from their configs: no download."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from freerea_patch import InputError
from freerea_seval.strings.graph.ir import Graph
from freerea_seval.strings.text.parse import parse_graph as read
from freerea_seval.strings.text.serialize import serialize_graph as write
from freerea_seval.strings.trace.tracer import trace_module
from tests.freerea_seval.strings.trace.autograd_walk import UnseenError, trace_by_autograd

Inputs = dict[str, Tensor]


def tokens(length: int = 7, **more: Tensor) -> Inputs:
    return {"input_ids": torch.arange(length)[None] % 50, **more}


def image(size: int = 32) -> Inputs:
    return {"pixel_values": torch.zeros(1, 3, size, size)}


def pair() -> Inputs:
    return tokens(decoder_input_ids=torch.arange(4)[None])


class Architecture(NamedTuple):
    """A family by the names of its classes.

    Attributes:
        family: config class without ``Config``.
        model: model class.
        config: small sizes.
        inputs: makes the example.
    """

    family: str
    model: str
    config: dict[str, Any]
    inputs: Callable[[], Inputs]


_SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
_TEXT = {**_SIZES, "vocab_size": 60, "hidden_size": 32, "max_position_embeddings": 16}
_LLAMA = {**_TEXT, "num_key_value_heads": 2}
_VISION = {**_SIZES, "hidden_size": 32, "image_size": 32, "patch_size": 8}

ARCHITECTURES = [
    Architecture(
        "ResNet", "ForImageClassification", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [2, 2]}, image
    ),
    Architecture(
        "RegNet",
        "ForImageClassification",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [2, 2], "groups_width": 4},
        image,
    ),
    Architecture("MobileNetV1", "ForImageClassification", {"depth_multiplier": 0.25, "image_size": 32}, image),
    Architecture("MobileNetV2", "ForImageClassification", {"depth_multiplier": 0.25, "image_size": 32}, image),
    Architecture(
        "EfficientNet",
        "ForImageClassification",
        {
            "image_size": 32,
            "width_coefficient": 0.25,
            "depth_coefficient": 0.5,
            "hidden_dim": 320,
        },
        image,
    ),
    Architecture(
        "ConvNext", "ForImageClassification", {"hidden_sizes": [8, 16], "depths": [2, 2], "num_stages": 2}, image
    ),
    Architecture(
        "ConvNextV2", "ForImageClassification", {"hidden_sizes": [8, 16], "depths": [2, 2], "num_stages": 2}, image
    ),
    Architecture("ViT", "ForImageClassification", _VISION, image),
    Architecture("DeiT", "ForImageClassificationWithTeacher", _VISION, image),
    Architecture("Dinov2", "ForImageClassification", {**_VISION, "mlp_ratio": 2}, image),
    Architecture(
        "Swin",
        "ForImageClassification",
        {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
        image,
    ),
    Architecture(
        "Segformer",
        "ForSemanticSegmentation",
        {
            "depths": [1, 1, 1, 1],
            "hidden_sizes": [8, 16, 16, 16],
            "num_attention_heads": [1, 2, 2, 2],
            "decoder_hidden_size": 16,
        },
        image,
    ),
    Architecture("Beit", "ForImageClassification", _VISION, image),
    Architecture(
        "DPT",
        "ForDepthEstimation",
        {
            **_VISION,
            "num_hidden_layers": 4,
            "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [8, 8, 16, 16],
            "fusion_hidden_size": 16,
            "is_hybrid": False,
        },
        image,
    ),
    Architecture("Bert", "ForSequenceClassification", _TEXT, tokens),
    Architecture(
        "DistilBert",
        "ForMaskedLM",
        {"vocab_size": 60, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 16},
        tokens,
    ),
    Architecture("Roberta", "ForMaskedLM", {**_TEXT, "max_position_embeddings": 20}, tokens),
    Architecture("Albert", "ForMaskedLM", {**_TEXT, "embedding_size": 16}, tokens),
    Architecture("Electra", "ForSequenceClassification", {**_TEXT, "embedding_size": 16}, tokens),
    Architecture(
        "DebertaV2",
        "ForSequenceClassification",
        {**_TEXT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
        tokens,
    ),
    Architecture(
        "GPT2", "LMHeadModel", {"vocab_size": 60, "n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 4}, tokens
    ),
    Architecture("GPTNeoX", "ForCausalLM", _TEXT, tokens),
    Architecture("Bloom", "ForCausalLM", {"vocab_size": 60, "hidden_size": 32, "n_layer": 2, "n_head": 4}, tokens),
    Architecture("OPT", "ForCausalLM", {**_TEXT, "ffn_dim": 48, "word_embed_proj_dim": 32}, tokens),
    Architecture(
        "T5",
        "ForConditionalGeneration",
        {"vocab_size": 60, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
        pair,
    ),
    Architecture(
        "Bart",
        "ForConditionalGeneration",
        {
            "vocab_size": 60,
            "d_model": 32,
            "max_position_embeddings": 16,
            **{
                f"{side}_{what}": n
                for side in ("encoder", "decoder")
                for what, n in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 48))
            },
        },
        pair,
    ),
    Architecture("Llama", "ForCausalLM", _LLAMA, tokens),
    Architecture("Qwen2", "ForCausalLM", _LLAMA, tokens),
    Architecture("Qwen3", "ForCausalLM", {**_LLAMA, "head_dim": 8}, tokens),
    Architecture("Mistral", "ForCausalLM", {**_LLAMA, "sliding_window": 4}, tokens),
    Architecture("Mixtral", "ForCausalLM", {**_LLAMA, "num_local_experts": 4}, tokens),
    Architecture("Gemma", "ForCausalLM", {**_LLAMA, "head_dim": 8}, tokens),
    Architecture("Phi", "ForCausalLM", _LLAMA, tokens),
    Architecture(
        "Mamba", "ForCausalLM", {"vocab_size": 60, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 2}, tokens
    ),
    Architecture(
        "CLIP",
        "Model",
        {"text_config": {**_TEXT, "eos_token_id": 6}, "vision_config": _VISION, "projection_dim": 16},
        lambda: {**tokens(), **image()},
    ),
    Architecture(
        "Whisper",
        "ForConditionalGeneration",
        {
            "vocab_size": 60,
            "d_model": 32,
            "num_mel_bins": 8,
            "max_source_positions": 10,
            "max_target_positions": 8,
            "pad_token_id": 0,
            **{
                f"{side}_{what}": n
                for side in ("encoder", "decoder")
                for what, n in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 48))
            },
        },
        lambda: {"input_features": torch.zeros(1, 8, 20), "decoder_input_ids": torch.arange(4)[None]},
    ),
    Architecture(
        "Wav2Vec2",
        "ForCTC",
        {
            **_SIZES,
            "hidden_size": 32,
            "vocab_size": 20,
            "conv_dim": [8, 8],
            "conv_stride": [5, 2],
            "conv_kernel": [10, 3],
            "num_conv_pos_embeddings": 8,
            "num_conv_pos_embedding_groups": 2,
        },
        lambda: {"input_values": torch.zeros(1, 400)},
    ),
]
NAMES = [architecture.family for architecture in ARCHITECTURES]


def build(architecture: Architecture) -> nn.Module:
    import transformers

    config = getattr(transformers, f"{architecture.family}Config")(**architecture.config, use_cache=False)
    network: nn.Module = getattr(transformers, architecture.family + architecture.model)(config)
    return network


#: Multiply-adds that FlopCounterMode leaves out: tokens times layers, each of two experts of three matrices.
UNCOUNTED = {"Mixtral": 7 * 2 * 2 * 3 * 32 * 48}
#: Architectures whose autograd graph shows everything. Others add numbers, or make masks and positions.
SEEN_BY_AUTOGRAD = {"ResNet", "RegNet", "ConvNext", "ViT", "DeiT", "Segformer", "Beit", "Wav2Vec2"}


class Case(NamedTuple):
    """A network, its example, and its graph."""

    network: nn.Module
    inputs: Inputs
    graph: Graph


@cache
def case(family: str) -> Case:
    """Return an architecture's case, made once for all tests."""
    architecture = next(architecture for architecture in ARCHITECTURES if architecture.family == family)
    network, inputs = build(architecture), architecture.inputs()
    return Case(network, inputs, trace_module(network, inputs))


@contextmanager
def by_products() -> Iterator[None]:
    """Let attention run as the matrix products that FlopCounterMode counts."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@pytest.mark.parametrize("family", NAMES)
def test_an_architecture_converts_and_its_string_is_its_graph(family: str) -> None:
    graph = case(family).graph
    assert read(write(graph)) == graph


@pytest.mark.parametrize("family", NAMES)
def test_parameters_read_off_the_string_are_the_modules(family: str) -> None:
    network, _, graph = case(family)
    assert read(write(graph)).parameters == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("family", NAMES)
def test_multiply_adds_read_off_the_string_are_those_that_torch_counts(family: str) -> None:
    network, inputs, graph = case(family)
    network = deepcopy(network).eval().requires_grad_(False)
    with torch.no_grad(), FlopCounterMode(display=False) as counter, by_products():
        network(**inputs)
    assert 2 * (read(write(graph)).macs - UNCOUNTED.get(family, 0)) == counter.get_total_flops()


@pytest.mark.parametrize("family", NAMES)
def test_the_recorder_equals_the_autograd_walk_where_that_shows_everything(family: str) -> None:
    network, inputs, graph = case(family)
    try:
        walked = trace_by_autograd(network, inputs)
    except (UnseenError, InputError) as error:
        assert family not in SEEN_BY_AUTOGRAD, error  # noqa: PT017
    else:
        assert family in SEEN_BY_AUTOGRAD
        assert walked == graph


@pytest.mark.parametrize("family", ["ResNet", "Swin", "Bert", "GPT2", "T5", "Llama"])
def test_an_architecture_on_the_meta_device_costs_the_same(family: str) -> None:
    _, inputs, graph = case(family)
    with torch.device("meta"):
        network = build(next(architecture for architecture in ARCHITECTURES if architecture.family == family))
    meta = trace_module(network, {name: tensor.to("meta") for name, tensor in inputs.items()})
    assert (meta.parameters, meta.macs) == (graph.parameters, graph.macs)
    assert read(write(meta)) == meta


def test_layers_that_repeat_are_written_once() -> None:
    llama = next(architecture for architecture in ARCHITECTURES if architecture.family == "Llama")
    lengths = []
    for layers in (4, 12):
        config = llama.config | {"num_hidden_layers": layers}
        lengths.append(len(write(trace_module(build(llama._replace(config=config)), tokens())).split()))
    assert lengths[0] == lengths[1]
