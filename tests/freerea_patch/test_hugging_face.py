"""Spaces of configs of transformers: genotypes, operators, what is refused, and the networks."""

from __future__ import annotations

import json
import socket
import sys
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from freerea_patch import InputError, make_space
from freerea_patch.networks import zero_input
from tests.freerea_patch.transformers_families import FAMILIES, family

LLAMA = {"model_type": "llama", "vocab_size": 97, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}


def llama(**vary: Any) -> Any:
    return make_space({"transformers": LLAMA, "vary": vary, "context": 4})


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any connection fail."""

    def refuse(*arguments: object) -> None:
        raise AssertionError("a network was reached for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("name", FAMILIES)
def test_operators_stay_among_valid_combinations_and_change_what_they_claim(name: str) -> None:
    space = family(name)
    rng = Random(3)
    first = space.sample(rng)
    for _ in range(5):
        second, mutant = space.sample(rng), space.mutate(first, rng)
        child = space.crossover(first, second, rng)
        for genotype in (first, second, mutant, child):
            space.check(genotype)
            assert space.compose(space.genes(genotype)) == genotype
        differing = [key for key, text in space.genes(first).items() if space.genes(mutant)[key] != text]
        assert 1 <= len(differing) <= 2
        for key, text in space.genes(child).items():
            assert text in (space.genes(first)[key], space.genes(second)[key])
        first = mutant
    assert [space.sample(Random(7)) for _ in range(3)] == [space.sample(Random(7)) for _ in range(3)]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_is_the_librarys_and_maps_the_input_to_logits(name: str) -> None:
    space = family(name)
    genotype = space.sample(Random(1))
    network = space.build(genotype).eval()
    with torch.no_grad():
        output = network(zero_input(space, 2))
    assert output.shape[0] == 2
    assert output.shape[-1] == (10 if name == "vit" else 97)
    content = json.loads(space.config_json(genotype))
    assert content["architectures"] == [type(network.model).__name__]
    for key, text in space.genes(genotype).items():
        value = content[{"hidden_size": "n_embd"}.get(key, key) if name == "gpt2" else key]
        assert value == text or json.dumps(value) == text
    # The library alone builds the like from the file.
    config = AutoConfig.for_model(**content)
    assert type(config) is type(network.model.config)
    with torch.device("meta"):
        model = type(network.model)(config)
        AutoModel.from_config(config)
    shapes = {name: tensor.shape for name, tensor in network.model.state_dict().items()}
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == shapes


@pytest.mark.parametrize("name", FAMILIES)
def test_a_stack_builds_the_network_on_meta_with_any_numbers_of_layers(name: str) -> None:
    space = family(name)
    genotype = space.sample(Random(2))
    stack = space.stack(genotype)
    built = {n: p.shape for n, p in space.build(genotype).state_dict().items()}
    made = stack.make(stack.counts)
    assert {n: p.shape for n, p in made.state_dict().items()} == built
    assert all(parameter.is_meta for parameter in made.parameters())
    fewer = stack.make([1] * len(stack.counts))
    assert sum(p.numel() for p in fewer.parameters()) < sum(p.numel() for p in made.parameters())


def test_listed_networks_are_those_that_the_library_can_run() -> None:
    vary = {"num_attention_heads": [2, 3, 4], "num_key_value_heads": [1, 3, 4], "hidden_size": [24, 32]}
    space = llama(**vary)
    valid = []
    for heads, groups, width in product(*vary.values()):
        genotype = f"num_attention_heads={heads},num_key_value_heads={groups},hidden_size={width}"
        try:
            values = {"num_attention_heads": heads, "num_key_value_heads": groups, "hidden_size": width}
            config = AutoConfig.for_model(**{**LLAMA, **values, "num_hidden_layers": 1})
            AutoModelForCausalLM.from_config(config)(torch.zeros(1, 4, dtype=torch.int64))
        except Exception:
            with pytest.raises(InputError):
                space.check(genotype)
            continue
        valid.append(genotype)
    assert space.genotypes() == valid
    assert 0 < len(valid) < 18


def test_an_invalid_combination_says_why_and_composes_to_a_near_valid_one() -> None:
    space = llama(num_attention_heads=[4, 8], num_key_value_heads=[2, 8], num_hidden_layers=[1, 2])
    genes = {"num_attention_heads": "4", "num_key_value_heads": "8", "num_hidden_layers": "2"}
    with pytest.raises(InputError, match="num_attention_heads 4 is no multiple of num_key_value_heads 8"):
        space.check("num_attention_heads=4,num_key_value_heads=8,num_hidden_layers=2")
    composed = space.compose(genes)
    assert composed == space.compose(genes)
    space.check(composed)
    assert sum(space.genes(composed)[key] != text for key, text in genes.items()) == 1


def test_a_mutation_changes_two_keys_where_no_single_one_is_valid() -> None:
    space = llama(num_attention_heads=[3, 4], hidden_size=[18, 32])
    pair = ["num_attention_heads=3,hidden_size=18", "num_attention_heads=4,hidden_size=32"]
    assert space.genotypes() == pair
    assert space.mutate(pair[0], Random(0)) == pair[1]
    with pytest.raises(InputError, match="no other network is a mutation of"):
        llama(num_attention_heads=[4], hidden_size=[32]).mutate(pair[1], Random(0))


def test_a_parent_is_the_child_where_no_crossover_is_valid() -> None:
    space = llama(num_attention_heads=[2, 5], hidden_size=[20, 32])
    pair = ["num_attention_heads=5,hidden_size=20", "num_attention_heads=2,hidden_size=32"]
    children = {space.crossover(*pair, Random(seed)) for seed in range(20)}
    assert set(pair) <= children
    for child in children:
        space.check(child)


def test_a_file_and_its_folder_are_the_same_space_whose_values_derived_by_the_library_follow(tmp_path: Path) -> None:
    whole = AutoConfig.for_model("qwen2", **{k: v for k, v in LLAMA.items() if k != "model_type"}).to_dict()
    assert len(whole["layer_types"]) == whole["num_hidden_layers"]
    whole |= {"auto_map": {"AutoModel": "evil--modeling.Evil"}, "_name_or_path": "evil/repo", "dtype": "bfloat16"}
    whole |= {"attn_implementation": "evil/kernels", "rope_parameters": whole["rope_parameters"] | {"auto_map": {}}}
    (tmp_path / "config.json").write_text(json.dumps(whole))
    vary = {"num_hidden_layers": [1, 3], "num_attention_heads": [2, 4], "num_key_value_heads": [2]}
    spaces = [
        make_space({"transformers": name, "vary": vary, "context": 4}, tmp_path.parent)
        for name in (f"{tmp_path.name}/config.json", tmp_path.name)
    ]
    assert spaces[0].name == spaces[1].name
    genotype = spaces[0].sample(Random(0))
    content = json.loads(spaces[0].config_json(genotype))  # type: ignore[attr-defined]
    assert len(content["layer_types"]) == content["num_hidden_layers"]
    assert "auto_map" not in json.dumps(content)
    assert "evil" not in json.dumps(content)
    assert {parameter.dtype for parameter in spaces[0].build(genotype).parameters()} == {torch.float32}


def test_a_model_type_alone_has_the_librarys_defaults() -> None:
    space: Any = make_space({"transformers": "gpt2", "vary": {"n_layer": [1, 2], "n_embd": [24, 48]}})
    assert space.input_shape == (128,)
    assert space.input_dtype == "int64"
    assert space.stack("n_layer=2,n_embd=48").counts == (2,)


def test_lists_texts_and_switches_are_values() -> None:
    config = {"model_type": "resnet", "embedding_size": 8, "num_labels": 10}
    space: Any = make_space(
        {
            "transformers": config,
            "vary": {"depths": [[1, 1], [2, 1]], "hidden_sizes": [[8, 16]], "layer_type": ["basic", "bottleneck"]},
            "image_size": 32,
        }
    )
    genotype = "depths=[2:1],hidden_sizes=[8:16],layer_type=basic"
    space.check(genotype)
    assert space.build(genotype).model.config.depths == [2, 1]
    assert space.input_shape == (3, 32, 32)
    assert llama(attention_bias=[False, True], num_hidden_layers=[1]).choices()["attention_bias"] == ("false", "true")


def test_a_key_within_a_part_of_a_config_is_varied() -> None:
    config = {"model_type": "idefics", "vocab_size": 97}
    with pytest.raises(InputError, match=r"'vision_config.embed_dims'; did you mean 'vision_config.embed_dim'"):
        make_space({"transformers": config, "vary": {"vision_config.embed_dims": [8]}})


@pytest.mark.parametrize("task", ["base", "text-classification"])
def test_a_task_chooses_the_head(task: str) -> None:
    config = {**FAMILIES["bert"][0], "num_labels": 3}
    space: Any = make_space(
        {"transformers": config, "vary": {"num_hidden_layers": [1], "hidden_size": [24]}, "task": task, "context": 4}
    )
    with torch.no_grad():
        output = space.build("num_hidden_layers=1,hidden_size=24")(zero_input(space))
    assert output.shape == ((1, 4, 24) if task == "base" else (1, 3))


BAD: dict[str, tuple[Any, Any, str]] = {
    "unknown key": (
        LLAMA,
        {"hiden_size": [8]},
        r"key in vary, of llama: 'hiden_size'; did you mean 'hidden_size'",
    ),
    "fixed key": (LLAMA, {"model_type": ["bert"]}, r"unknown key in vary, of llama: 'model_type'"),
    "no list": (LLAMA, {"hidden_size": 8}, r"vary.hidden_size: expected a list of values, such as \[4, 6, 8\], got 8"),
    "no values": (LLAMA, {"hidden_size": []}, r"vary.hidden_size: expected a list of values"),
    "no layers": (
        LLAMA,
        {"num_hidden_layers": [2, 0]},
        r"vary.num_hidden_layers: expected numbers of layers from 1, got 0",
    ),
    "fewer": ({"model_type": "gpt2"}, {"num_hidden_layers": [-1]}, r"expected numbers of layers from 1, got -1"),
    "twice": (LLAMA, {"hidden_size": [8, 8]}, r"vary.hidden_size: expected different values, got 8"),
    "two names": (
        FAMILIES["gpt2"][0],
        {"n_embd": [24], "hidden_size": [36]},
        r"vary: n_embd and another key are the same, n_embd",
    ),
    "no vary": (LLAMA, None, r"vary: expected keys of the config and their values"),
    "a mapping as value": (LLAMA, {"rope_parameters": [{"a": 1}]}, r"vary.rope_parameters: expected numbers"),
    "a text with blanks": (LLAMA, {"hidden_act": ["a b"]}, r"vary.hidden_act: expected numbers, true or false, names"),
    "a text for a number": (LLAMA, {"hidden_size": ["wide", 32]}, r"vary.hidden_size: llama refuses wide \("),
    "input": (
        FAMILIES["vit"][0],
        {"image_size": [16, 32]},
        r"vary.image_size: .* image_size=32 changes it from 3x16x16 to 3x32x32",
    ),
    "model type": (
        {"model_type": "lama"},
        {"a": [1]},
        r"model_type of the config 'lama'; did you mean 'llama'",
    ),
    "no model type": ({"hidden_size": 8}, {"a": [1]}, r"the config has no model_type, such as llama"),
    "a name": ("lama", {"a": [1]}, r"unknown model type, or folder with a config.json, 'lama'; did you mean 'llama'"),
    "no file": ("none/config.json", {"a": [1]}, r"none/config.json: no such config.json, nor a folder with one"),
    "nothing": (None, {"a": [1]}, r"space: expected transformers: config.json, or a model type"),
    "a refused config": (
        {**LLAMA, "hidden_size": 33},
        {"num_hidden_layers": [1]},
        r"size \(33\) is not a multiple",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_are_one_line(case: str) -> None:
    config, vary, message = BAD[case]
    with pytest.raises(InputError, match=message) as raised:
        make_space({"transformers": config, "vary": vary})
    assert "\n" not in str(raised.value)


def test_options_are_checked() -> None:
    vary = {"num_hidden_layers": [1]}
    for options, message in (
        ({"context": 0}, "context: expected a whole number from 1, got 0"),
        ({"task": "image-classification"}, "unknown task of llama: 'image-classification'"),
        ({"context": 5000}, "context: expected at most 2048, the config's max_position_embeddings, got 5000"),
        ({"contxt": 3}, "unknown option of space 'transformers': 'contxt'; did you mean 'context'"),
    ):
        with pytest.raises(InputError, match=message):
            make_space({"transformers": LLAMA, "vary": vary, **options})
    with pytest.raises(InputError, match="image_size: the config has 16; change it there"):
        make_space({"transformers": FAMILIES["vit"][0], "vary": vary, "image_size": 32})
    with pytest.raises(InputError, match="architecture 'Evil' of llama is none that can be built here"):
        make_space({"transformers": {**LLAMA, "architectures": ["Evil"]}, "vary": vary})


def test_values_with_which_nothing_runs_are_named_when_the_first_network_is_drawn() -> None:
    with pytest.raises(InputError, match=r"vary.num_key_value_heads: none of 30 combinations with 3 is a network"):
        llama(num_key_value_heads=[2, 3], num_hidden_layers=[1]).sample(Random(0))
    with pytest.raises(InputError, match=r"vary.hidden_act: none of 30 combinations with gelo is a network"):
        llama(hidden_act=["silu", "gelo"], num_hidden_layers=[1]).sample(Random(0))


def test_what_cannot_run_without_values_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    config = {**LLAMA, "model_type": "mixtral", "num_key_value_heads": 4, "num_local_experts": 2}
    space = make_space({"transformers": config, "vary": {"num_hidden_layers": [1]}, "context": 4})
    with pytest.raises(InputError, match=r"none of 30 combinations with 1 is a network; .* BF16"):
        space.sample(Random(0))
    assert not any(capfd.readouterr())


def test_genotypes_of_other_spaces_are_refused() -> None:
    space = llama(num_hidden_layers=[1, 2], hidden_size=[32])
    with pytest.raises(InputError, match="expected a value of each key, such as num_hidden_layers=1,hidden_size=32"):
        space.check("hidden_size=32,num_hidden_layers=1")
    with pytest.raises(InputError, match="unknown value of num_hidden_layers '3'"):
        space.check("num_hidden_layers=3,hidden_size=32")
    with pytest.raises(InputError, match="expected a genotype, which is a text, got 3"):
        space.check(3)
    with pytest.raises(InputError, match="expected the genes num_hidden_layers, hidden_size, got a"):
        space.compose({"a": "1"})


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"model_type": 3}', "\xff", "[" * 100_000])
def test_a_damaged_file_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError) as raised:
        make_space({"transformers": "config.json", "vary": {"a": [1]}}, tmp_path)
    assert "\n" not in str(raised.value)


def test_a_missing_library_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "freerea_patch.hugging_face")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install 'freerea-seval\[transformers\]'"):
        make_space({"transformers": "vit", "vary": {"num_hidden_layers": [1]}})
