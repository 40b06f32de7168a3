"""The network of the model t5: what its arguments mean, and that nothing else matters."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from freerea_seval.predictor.t5.encoder import SHAPE, StringEncoder, drawing, make_encoder

SMALL = {"vocab_size": 20, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4}
Arguments = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def encoder(text: bool = False, **shape: int) -> StringEncoder:
    with drawing(0):
        return StringEncoder(make_encoder(SMALL | shape), 3, text=text).eval()


def arguments() -> Arguments:
    """Two strings: four tokens of three operations, and two of one; padded by one."""
    ids = torch.tensor([[4, 5, 1, 6, 0], [7, 8, 0, 0, 0]])
    values = torch.zeros(2, 5, 2)
    values[0, 2] = torch.tensor([4.0, 1.0])
    places = torch.tensor([[1, 2, 2, 3, 0], [1, 1, 0, 0, 0]])
    operands = torch.tensor([[[0, 0], [1, 0], [1, 2]], [[0, 0], [0, 0], [0, 0]]])
    return ids, values, places, operands, torch.tensor([[1, 1, 1], [1, 0, 0]])


def said(model: StringEncoder, given: Arguments) -> Tensor:
    with torch.inference_mode():
        out: Tensor = model(*given)
    return out


def test_the_head_reads_the_vectors_of_strings() -> None:
    model = encoder()
    assert model.pooled(*arguments()).shape == (2, 16)
    torch.testing.assert_close(said(model, arguments()), model.head(model.pooled(*arguments())))
    assert said(model, arguments()).shape == (2, 3)


def test_padding_and_other_strings_change_nothing() -> None:
    model, (ids, values, places, operands, mask) = encoder(), arguments()
    together = said(model, (ids, values, places, operands, mask))
    first = said(model, (ids[:1, :4], values[:1, :4], places[:1, :4], operands[:1], mask[:1]))
    second = said(model, (ids[1:, :2], values[1:, :2], places[1:, :2], operands[1:, :1], mask[1:, :1]))
    torch.testing.assert_close(torch.cat([first, second]), together, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("argument", "place", "value"), [(0, (0, 1), 9), (1, (0, 2, 0), 5.0), (1, (0, 2, 1), 2.0), (3, (0, 2, 1), 1)]
)
def test_tokens_numbers_and_operands_change_the_string_that_they_are_of(
    argument: int, place: tuple[int, ...], value: float
) -> None:
    model, given = encoder(), arguments()
    before = said(model, given)
    given[argument][place] = value
    after = said(model, given)
    assert (after[0] - before[0]).abs().max() > 1e-4
    torch.testing.assert_close(after[1], before[1], rtol=0, atol=1e-6)


def test_the_mean_is_over_a_strings_own_operations() -> None:
    model, given = encoder(), arguments()
    seen: list[Tensor] = []
    model.encoder.register_forward_hook(lambda module, inputs, output: seen.append(output.last_hidden_state))
    pooled = model.pooled(*given)
    torch.testing.assert_close(pooled[0], seen[0][0].mean(dim=0))
    torch.testing.assert_close(pooled[1], seen[0][1, 0])


def test_operands_are_gathered_as_a_loop_would() -> None:
    model, (ids, values, places, operands, _) = encoder(), arguments()
    tokens = model.encoder.shared(ids) + model.numbers(values)
    found = model._operations(tokens, places, operands)
    for string in range(2):
        vectors = []
        for place in (1, 2, 3):
            own = sum((tokens[string, i] for i in range(5) if places[string, i] == place), torch.zeros(16))
            origins = sum((model.places[o] for o in operands[string, place - 1]), torch.zeros(16))
            vectors.append(own + model.place(model.places[place]) + model.origin(origins))
        for each in model.rounds:
            normed = [each.norm(vector) for vector in vectors]  # type: ignore[operator]
            read = [
                sum((each.read(normed[o - 1]) for o in operands[string, i] if o), torch.zeros(16))  # type: ignore[operator]
                for i in range(3)
            ]
            inner = [each.own(normed[i]) + read[i] for i in range(3)]  # type: ignore[operator]
            vectors = [vectors[i] + each.out(torch.nn.functional.gelu(inner[i])) for i in range(3)]  # type: ignore[operator]
        torch.testing.assert_close(found[string], torch.stack(vectors), rtol=1e-4, atol=1e-5)


def test_a_string_without_tokens_and_one_with_many_operations_have_finite_metrics() -> None:
    zeros = torch.zeros(1, 1, dtype=torch.int64)
    given = (zeros, torch.zeros(1, 1, 2), zeros, torch.zeros(1, 1, 4, dtype=torch.int64), zeros)
    assert torch.isfinite(said(encoder(), given)).all()
    count = 1500
    places = torch.arange(1, count + 1).unsqueeze(0)
    operands = (places - 1).unsqueeze(2)
    ones = torch.ones(1, count, dtype=torch.int64)
    long = (ones, torch.zeros(1, count, 2), places, operands, ones)
    assert torch.isfinite(said(encoder(), long)).all()


def test_plain_text_goes_into_transformers_encoder_as_it_is() -> None:
    model, (ids, values, places, operands, _) = encoder(text=True), arguments()
    mask = (ids != 0).long()
    hidden = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    expected = torch.stack([hidden[0, :4].mean(dim=0), hidden[1, :2].mean(dim=0)])
    torch.testing.assert_close(model.pooled(ids, values, places, operands, mask), expected, rtol=0, atol=1e-6)


def test_an_encoder_of_the_same_shape_is_made_from_what_it_says_of_itself() -> None:
    model = encoder()
    assert tuple(model.shape) == SHAPE
    assert model.shape.items() >= SMALL.items()
    twin = make_encoder(model.shape)
    assert [p.shape for p in twin.parameters()] == [p.shape for p in model.encoder.parameters()]


@pytest.mark.parametrize("heads", [1, 4, 16, 40])
def test_heads_begin_with_a_look_at_one_neighbour_each(heads: int) -> None:
    made = make_encoder(SMALL | {"num_heads": heads})
    attention: Any = dict(made.named_modules())["encoder.block.0.layer.0.SelfAttention"]
    bias = attention.compute_bias(30, 30)[0]  # heads, from, to
    assert bias.amax() == 3
    for head in range(min(heads, 16)):
        far = -(head // 2) if head % 2 == 0 else head // 2 + 1
        looked = (bias[head, 15] != 0).nonzero().flatten().tolist()
        assert 15 + far in looked


def test_making_an_encoder_leaves_torchs_generator_alone_and_follows_the_seed() -> None:
    state = torch.random.get_rng_state()
    first, again = encoder(), encoder()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(said(first, arguments()), said(again, arguments()))


def test_without_transformers_one_line_names_the_package() -> None:
    script = (
        "import sys; sys.modules['transformers'] = None\n"
        "from freerea_seval.predictor.t5.model import T5Predictor\n"
        "try: T5Predictor().fit(['input[1] output'] * 5, range(5))\n"
        "except ValueError as error: print(type(error).__name__, error)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == ("InputError predictor 't5' needs the package transformers: pip install 'freerea-seval[t5]'\n")


def test_importing_the_predictor_is_light() -> None:
    module = "freerea_seval.predictor.t5.model"
    script = f"import sys, {module}; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
