"""The network of the model t5: what its inputs mean, and that nothing else matters."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from freerea_seval.predictor.t5.encoder import MOST_LAYERS, MOST_WIDTH, T5ForNetworkRegression, load_weights, make_model

SMALL = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4}
Inputs = dict[str, Tensor]


def make(operations: bool = True, **shape: int) -> T5ForNetworkRegression:
    torch.manual_seed(0)
    model = make_model(20, 3, "mse", **SMALL | shape)
    if not operations:
        model.operations = None
    model.eval()
    return model


def batch() -> Inputs:
    """Two strings: four tokens of three operations, and two of one; padded by one."""
    values = torch.zeros(2, 5, 2)
    values[0, 2] = torch.tensor([4.0, 1.0])
    return {
        "input_ids": torch.tensor([[4, 5, 1, 6, 0], [7, 8, 0, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1], [1, 0, 0]]),
        "values": values,
        "operation_ids": torch.tensor([[1, 2, 2, 3, 0], [1, 1, 0, 0, 0]]),
        "operand_ids": torch.tensor([[[0, 0], [1, 0], [1, 2]], [[0, 0], [0, 0], [0, 0]]]),
    }


def predict(model: T5ForNetworkRegression, inputs: Inputs) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model(**inputs).logits
    return logits


def test_the_head_reads_the_pooled_vectors() -> None:
    model = make()
    assert model.pooled(**batch()).shape == (2, 16)
    torch.testing.assert_close(predict(model, batch()), model.regressor(model.pooled(**batch())))
    assert predict(model, batch()).shape == (2, 3)


def test_labels_give_the_loss_of_the_configuration() -> None:
    labels = torch.tensor([[1.0, float("nan"), 0.0], [0.0, 2.0, 0.0]])
    output = make()(**batch(), labels=labels)
    measured = ~labels.isnan()
    torch.testing.assert_close(output.loss, (output.logits - labels)[measured].square().mean())


def test_padding_and_other_strings_change_nothing() -> None:
    model, inputs = make(), batch()
    first = {
        name: tensor[:1, : 3 if name in ("attention_mask", "operand_ids") else 4] for name, tensor in inputs.items()
    }
    second = {
        name: tensor[1:, : 1 if name in ("attention_mask", "operand_ids") else 2] for name, tensor in inputs.items()
    }
    alone = torch.cat([predict(model, first), predict(model, second)])
    torch.testing.assert_close(alone, predict(model, inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "index", "value"),
    [
        ("input_ids", (0, 1), 9),
        ("values", (0, 2, 0), 5.0),
        ("values", (0, 2, 1), 2.0),
        ("operand_ids", (0, 2, 1), 1),
    ],
)
def test_tokens_numbers_and_operands_change_their_own_string(name: str, index: tuple[int, ...], value: float) -> None:
    model, inputs = make(), batch()
    before = predict(model, inputs)
    inputs[name][index] = value
    after = predict(model, inputs)
    assert (after[0] - before[0]).abs().max() > 1e-4
    torch.testing.assert_close(after[1], before[1], rtol=0, atol=1e-6)


def test_the_mean_is_over_a_strings_own_operations() -> None:
    model = make()
    outputs: list[Tensor] = []
    model.transformer.register_forward_hook(lambda module, args, output: outputs.append(output.last_hidden_state))
    pooled = model.pooled(**batch())
    torch.testing.assert_close(pooled[0], outputs[0][0].mean(dim=0))
    torch.testing.assert_close(pooled[1], outputs[0][1, 0])


def test_operation_vectors_equal_those_of_a_loop() -> None:
    model, inputs = make(), batch()
    operations: Any = model.operations
    tokens = model.transformer.shared(inputs["input_ids"])
    computed = operations(tokens, inputs["values"], inputs["operation_ids"], inputs["operand_ids"])
    tokens = tokens + operations.numbers(inputs["values"])
    for string in range(2):
        operands = inputs["operand_ids"][string]
        vectors = []
        for operation in (1, 2, 3):
            own = [tokens[string, i] for i in range(5) if inputs["operation_ids"][string, i] == operation]
            positions = sum((operations.encodings[o] for o in operands[operation - 1]), torch.zeros(16))
            position = operations.position(operations.encodings[operation])
            vectors.append(sum(own, torch.zeros(16)) + position + operations.operand_position(positions))
        for layer in operations.layers:
            normed = [layer.norm(vector) for vector in vectors]
            received = [
                sum((layer.operand(normed[o - 1]) for o in operands[i] if o), torch.zeros(16)) for i in range(3)
            ]
            inner = [layer.own(normed[i]) + received[i] for i in range(3)]
            vectors = [vectors[i] + layer.out(torch.nn.functional.gelu(inner[i])) for i in range(3)]
        torch.testing.assert_close(computed[string], torch.stack(vectors), rtol=1e-4, atol=1e-5)


def test_a_string_without_tokens_and_one_with_many_operations_have_finite_metrics() -> None:
    model, zeros = make(), torch.zeros(1, 1, dtype=torch.int64)
    empty = {"input_ids": zeros, "attention_mask": zeros, "values": torch.zeros(1, 1, 2), "operation_ids": zeros}
    assert torch.isfinite(predict(model, empty | {"operand_ids": torch.zeros(1, 1, 4, dtype=torch.int64)})).all()
    count = 1500
    positions, ones = torch.arange(1, count + 1).unsqueeze(0), torch.ones(1, count, dtype=torch.int64)
    long = {"input_ids": ones, "attention_mask": ones, "values": torch.zeros(1, count, 2), "operation_ids": positions}
    assert torch.isfinite(predict(model, long | {"operand_ids": (positions - 1).unsqueeze(2)})).all()


def test_plain_text_goes_into_transformers_encoder_unchanged() -> None:
    model, ids = make(operations=False), batch()["input_ids"]
    mask = (ids != 0).long()
    hidden = model.transformer(input_ids=ids, attention_mask=mask).last_hidden_state
    expected = torch.stack([hidden[0, :4].mean(dim=0), hidden[1, :2].mean(dim=0)])
    torch.testing.assert_close(model.pooled(ids, mask), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("heads", [1, 4, 16, 40])
def test_each_head_starts_with_a_preference_for_one_neighbour(heads: int) -> None:
    modules = dict(make(num_heads=heads).named_modules())
    attention: Any = modules["transformer.encoder.block.0.layer.0.SelfAttention"]
    bias = attention.compute_bias(30, 30)[0]  # heads, from, to
    assert bias.amax() == 3
    for head in range(min(heads, 16)):
        distance = -(head // 2) if head % 2 == 0 else head // 2 + 1
        assert 15 + distance in (bias[head, 15] != 0).nonzero().flatten().tolist()


def test_weights_go_into_a_model_of_their_own_shape_alone() -> None:
    model = make()
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    config = model.config.to_dict()
    state = torch.random.get_rng_state()
    restored = load_weights(config, weights)
    restored.eval()
    torch.testing.assert_close(predict(restored, batch()), predict(model, batch()))
    assert torch.equal(torch.random.get_rng_state(), state)
    name = "regressor.weight"
    for change, message in (
        ({name: torch.zeros(3, 4)}, r"regressor.weight must be torch.float32 of shape \(3, 16\)"),
        ({name: torch.zeros(3, 16).double()}, r"regressor.weight must be torch.float32"),
        ({name: torch.full((3, 16), float("nan"))}, "regressor.weight has values that are NaN or infinite"),
        ({"odd": torch.zeros(1)}, "1 weights are missing or unknown, the first 'odd'"),
    ):
        with pytest.raises(ValueError, match=message):
            load_weights(config, weights | change)
    with pytest.raises(ValueError, match=r"must be torch\.float32 of shape"):
        load_weights(config | {"d_ff": 2**20}, weights)


@pytest.mark.parametrize("key", ["d_ff", "vocab_size", "num_labels", "num_layers", "num_hidden_layers", "num_heads"])
@pytest.mark.parametrize("value", [10**9, 1e30, float("nan")])
def test_a_size_that_is_declared_costs_no_memory_or_time(key: str, value: float) -> None:
    model = make()
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    most = MOST_LAYERS if "layers" in key else MOST_WIDTH
    with pytest.raises(ValueError, match=rf"^{key} is .*, expected at most {most}$"):
        load_weights(model.config.to_dict() | {key: value}, weights)


def test_without_transformers_one_line_names_the_package() -> None:
    script = (
        "import sys; sys.modules['transformers'] = None\n"
        "from freerea_seval.predictor.t5.estimator import T5Predictor\n"
        "try: T5Predictor().fit(['input[1] output'] * 5, range(5))\n"
        "except ValueError as error: print(type(error).__name__, error)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == ("InputError predictor 't5' needs the package transformers: pip install 'freerea-seval[t5]'\n")


def test_importing_the_predictor_is_light() -> None:
    module = "freerea_seval.predictor.t5.estimator"
    script = f"import sys, {module}; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
