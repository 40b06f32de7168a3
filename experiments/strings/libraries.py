"""Whether models of timm, torchvision and transformers have right strings and costs, and come back as they were.

``python -m experiments.strings.libraries [--packages timm torchvision transformers] [--models N]``

Parameters are compared with those of the module, multiply-adds with half of what torch's flop counter reports. Large
models are built on the meta device. A package that is not installed is named and left out.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from experiments.tables import RowJournal, as_command, experiment_parser, markdown

#: Parameters of the largest model that is built on the CPU.
_ON_META = 30_000_000
COLUMNS = ("package", "model", "parameters", "macs", "counter", "operations", "characters", "right", "problem")
#: One model a family, so that sixty cover as many families as possible.
_TIMM = """
beit_base_patch16_224 bat_resnext26ts botnet26t_256 caformer_s18 cait_xxs24_224 coat_tiny coatnet_nano_rw_224
convit_tiny convmixer_768_32 convnext_atto convnextv2_atto crossvit_9_240 cspresnet50 darknet53 davit_tiny
deit_tiny_patch16_224 densenet121 dla34 dm_nfnet_f0 dpn48b eca_nfnet_l0 edgenext_xx_small efficientformer_l1
efficientformerv2_s0 efficientnet_b0 efficientvit_b0 efficientvit_m0 eva02_tiny_patch14_224 fastvit_t8 fbnetc_100
focalnet_tiny_srf gcvit_xxtiny gernet_s ghostnet_100 halonet26t hardcorenas_a hgnetv2_b0 hrnet_w18_small
inception_next_atto inception_v3 inception_v4 lcnet_050 levit_128s maxvit_rmlp_pico_rw_256 mixer_s16_224 mixnet_s
mnasnet_050 mobilenetv3_small_050 mobilenetv4_conv_small mobileone_s0 mobilevit_xxs mobilevitv2_050 mvitv2_tiny
nest_tiny nextvit_small nf_resnet50 pit_ti_224 poolformer_s12 pvt_v2_b0 regnety_002 repvgg_a0 res2net50_26w_4s
resmlp_12_224 resnest14d resnet18 rexnet_100 rdnet_tiny selecsls42 sequencer2d_s skresnet18
swin_tiny_patch4_window7_224 tiny_vit_5m_224 tinynet_e tnt_s_patch16_224 twins_pcpvt_small vgg11 visformer_tiny
vit_tiny_patch16_224 volo_d1_224 xception41 xcit_nano_12_p16_224
"""
_TRANSFORMERS = """
albert bart beit bert big_bird bigbird_pegasus blenderbot bloom camembert clip_vision_model codegen convbert
convnext ctrl cvt data2vec-text deberta deberta-v2 deit distilbert dinov2 electra ernie falcon flaubert fnet
focalnet funnel gemma gpt2 gpt_neo gpt_neox gptj granite hubert ibert levit llama longformer m2m_100 mamba marian
mistral mixtral mobilebert mobilenet_v2 mobilevit mpnet mpt nystromformer olmo openai-gpt opt phi pvt qwen2 qwen3
rembert regnet resnet roberta roformer segformer splinter squeezebert stablelm swin t5 vit wav2vec2 whisper xglm
xlm-roberta xlnet yoso
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Examine the models and print a table."""
    parser = experiment_parser("strings.libraries", __doc__)
    parser.add_argument("--packages", nargs="+", default=list(PACKAGES), choices=list(PACKAGES))
    parser.add_argument("--models", type=int, help="number of models of each package (default: all that are listed)")
    parser.output("runs/strings/libraries")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # those of the packages
    jobs: list[tuple[str, str]] = []
    for package in options.packages:
        try:
            names = list(PACKAGES[package][0]())
        except ImportError as error:
            print(f"{package} is left out: {error}; install it with: pip install {package}")
            continue
        jobs += [(package, name) for name in names[: options.models]]
    journal = RowJournal(options.output, {}, COLUMNS)
    for package, name in journal.missing(("package", "model"), jobs, "models"):
        journal.append({"package": package, "model": name, **examine(partial(PACKAGES[package][1], name))})
    print(summary(journal.frame()))


def examine(build: Callable[[], tuple[Any, Mapping[str, Any]]]) -> dict[str, object]:
    """Return the row of one model.

    Args:
        build: returns a module and its inputs by name.
    """
    import torch
    from torch import nn
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from freerea_seval.costs import network_costs
    from freerea_seval.strings import parse_graph, serialize_graph, trace_module

    row: dict[str, object] = dict.fromkeys(COLUMNS[2:], "")
    problems = []
    for device in ("meta", "cpu"):  # some are built, or run, with real values only
        try:
            torch.manual_seed(0)
            with torch.device(device):
                network, inputs = build()
            row["parameters"] = parameters = sum(parameter.numel() for parameter in network.parameters())
            if device == "meta" and parameters <= _ON_META:
                continue
            before = _state(network)
            graph = trace_module(network, inputs)
            costs = network_costs(network, inputs)
            break
        except Exception as error:  # whatever the package raises
            row["problem"] = _first_line(error)
    else:
        return {**row, "right": False}
    string = serialize_graph(graph)
    row |= {"macs": graph.macs, "operations": len(graph), "characters": len(string)}
    if parse_graph(string) != graph:
        problems.append("the string is not read back")
    if (costs.params, costs.macs) != (graph.parameters, graph.macs):
        problems.append(f"cost has {costs.params} parameters and {costs.macs} multiply-adds")
    if graph.parameters != row["parameters"]:
        problems.append(f"the graph has {graph.parameters} parameters")
    if not _same(before, _state(network)):
        problems.append("it does not come back as it was")
    try:
        # The counter sees neither fused attention nor the kernel that oneDNN has for an LSTM.
        stepwise = torch.backends.mkldnn.flags(enabled=not any(isinstance(m, nn.LSTM) for m in network.modules()))
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), stepwise, FlopCounterMode(display=False) as counter:
            network.eval().requires_grad_(False)(**inputs)
        row["counter"] = counter.get_total_flops() // 2
        if row["counter"] != graph.macs:
            problems.append("multiply-adds differ from the counter")
    except Exception as error:  # the counter cannot, for one, read values on the meta device
        row["counter"] = _first_line(error)
    return {**row, "right": not problems, "problem": "; ".join(problems)}


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]


def _state(network: Any) -> dict[str, Any]:
    """Return what a module may not change: values, modes, and the names of attributes."""
    state = {name: tensor.clone() for name, tensor in (*network.named_parameters(), *network.named_buffers())}
    return state | {f"{name}?": (module.training, sorted(vars(module))) for name, module in network.named_modules()}


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    import torch

    def equal(first: Any, second: Any) -> bool:
        if not isinstance(first, torch.Tensor):
            return bool(first == second)
        return first.shape == second.shape and (first.is_meta or torch.equal(first.nan_to_num(), second.nan_to_num()))

    return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)


def _timm_names() -> Iterator[str]:
    timm = _import_with_stubs("timm")
    yield from filter(set(timm.list_models()).__contains__, _TIMM.split())


def _timm_model(name: str) -> tuple[Any, Mapping[str, Any]]:
    import torch

    network = importlib.import_module("timm").create_model(name, pretrained=False)
    return network, {"x": torch.zeros(1, *network.default_cfg["input_size"])}


def _torchvision_names() -> Iterator[str]:
    models = _import_with_stubs("torchvision").models
    yield from models.list_models(module=models)


def _torchvision_model(name: str) -> tuple[Any, Mapping[str, Any]]:
    import torch

    size = 299 if name.startswith("inception") else 224
    models = importlib.import_module("torchvision").models
    network = models.get_model(name, weights=None, **({"init_weights": False} if "ion_v3" in name else {}))
    return network, {"x": torch.zeros(1, 3, size, size)}


def _import_with_stubs(name: str) -> Any:
    """Import a package that needs torchvision, whose compiled operators do not load beside every torch."""
    import torch

    try:
        return importlib.import_module(name)
    except RuntimeError:
        # Only detectors use these operators, but the others cannot be imported without them.
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
        return importlib.import_module(name)


def _transformers_names() -> Iterator[str]:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    yield from filter(CONFIG_MAPPING.keys().__contains__, _TRANSFORMERS.split())


def _transformers_model(name: str) -> tuple[Any, Mapping[str, Any]]:
    import torch
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(name)
    config.architectures = config.architectures or []  # funnel's are iterated over
    if hasattr(config, "num_local_experts"):
        config.num_local_experts = 2
    for key in ("num_hidden_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers", "num_layers"):
        # Those with stages of several layers need all of them.
        if isinstance(getattr(config, key, None), int) and not hasattr(config, "depths") and name != "funnel":
            setattr(config, key, 2)
    make: Any = AutoModel.from_config
    network = make(config)
    main = network.main_input_name
    ids = torch.ones(1, 16, dtype=torch.int64)
    inputs: dict[str, Any] = {main: ids}
    if main == "pixel_values":
        size = getattr(config, "image_size", 224)
        height, width = (size, size) if isinstance(size, int) else size
        inputs[main] = torch.zeros(1, getattr(config, "num_channels", 3), height, width)
    elif main == "input_values":
        inputs[main] = torch.zeros(1, 4000)
    elif main == "input_features":
        inputs[main] = torch.zeros(1, config.num_mel_bins, 2 * config.max_source_positions)
    if getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = ids
    return network, inputs


#: Of each package, the names of its models, and how to build one.
PACKAGES: dict[str, tuple[Callable[[], Iterator[str]], Callable[[str], tuple[Any, Mapping[str, Any]]]]] = {
    "timm": (_timm_names, _timm_model),
    "torchvision": (_torchvision_names, _torchvision_model),
    "transformers": (_transformers_names, _transformers_model),
}


def summary(rows: pd.DataFrame) -> str:
    """Return how many models of each package are right, and the others with their problems."""
    header = ["package", "models", "right", "operations in the median", "characters in the median"]
    lines = [
        [package, len(group), int(group["right"].sum()), *group[["operations", "characters"]].median()]
        for package, group in rows.groupby("package", sort=False)
    ]
    wrong = rows[rows["right"] != True]  # noqa: E712
    problems = [
        [row["package"], row["model"], row["macs"], row["counter"], row["problem"]] for _, row in wrong.iterrows()
    ]
    table = markdown(header, lines)
    return f"{table}\n{markdown(['package', 'model', 'macs', 'counter', 'problem'], problems)}" if problems else table


if __name__ == "__main__":
    as_command(main)
