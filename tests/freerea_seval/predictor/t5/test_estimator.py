"""The model t5: contract, several metrics, determinism, states, pretrained weights, and what it learns."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import kendalltau
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import train_test_split

from freerea_patch import InputError, TopologySpace
from freerea_seval.predictor.models.validation import averaged, checked, scales
from freerea_seval.predictor.t5.estimator import PUBLISHED, T5Predictor
from freerea_seval.strings.encode import SpaceStrings
from tests.freerea_seval.predictor.conftest import chain

NAN = float("nan")
TINY: dict[str, Any] = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16, "epochs": 2}
GOOD = [chain(seed) for seed in range(6)]


@pytest.fixture(scope="module")
def both(values: list[float]) -> npt.NDArray[np.float64]:
    """Two metrics, the second not measured for every third network."""
    second = -3 * np.array(values) + 100
    second[::3] = NAN
    return np.stack([np.array(values), second], axis=1)


@pytest.fixture(scope="module")
def learned(strings: list[str], both: npt.NDArray[np.float64]) -> T5Predictor:
    """A predictor that has seen the first 80."""
    return T5Predictor(d_model=32, num_layers=1, epochs=20, batch_size=16).fit(strings[:80], both[:80])


def test_the_predictor_keeps_scikit_learns_contract(strings: list[str], values: list[float]) -> None:
    predictor = T5Predictor(**TINY, seed=3)
    assert not [name for name in vars(predictor) if name.endswith("_")]
    assert predictor.fit(strings, values) is predictor
    twin = clone(predictor)
    assert twin.get_params() == predictor.get_params()
    assert twin.get_params()["seed"] == 3
    for ask in (twin.predict, twin.embed):
        with pytest.raises(NotFittedError):
            ask(strings)
    with pytest.raises(NotFittedError):
        twin.state()
    assert np.array_equal(twin.fit(strings, values).predict(strings), predictor.predict(strings))
    assert np.isfinite(predictor.score(strings, values))


def test_predictions_have_the_shape_of_the_values(strings: list[str], values: list[float]) -> None:
    flat = T5Predictor(**TINY).fit(strings, values)
    column = T5Predictor(**TINY).fit(strings, np.array(values)[:, None])
    assert flat.predict(strings[:7]).shape == (7,)
    assert column.predict(strings[:7]).shape == (7, 1)
    assert np.array_equal(column.predict(strings)[:, 0], flat.predict(strings))
    assert flat.predict([]).shape == (0,)
    assert column.predict([]).shape == (0, 1)
    assert flat.predict(strings).dtype == np.float64


def test_unseen_networks_are_ranked_in_both_metrics_in_their_units(
    learned: T5Predictor, strings: list[str], values: list[float]
) -> None:
    found = learned.predict(strings[80:])
    expected = np.stack([np.array(values[80:]), 100 - 3 * np.array(values[80:])], axis=1)
    for column in range(2):
        assert kendalltau(found[:, column], expected[:, column]).statistic > 0.75
    assert np.abs(found - expected).mean(axis=0) == pytest.approx([0, 0], abs=0.5 * expected.std())


def test_a_prediction_does_not_depend_on_what_comes_with_it(learned: T5Predictor, strings: list[str]) -> None:
    together = learned.predict(strings)
    scale = learned.scale_
    alone = np.concatenate([learned.predict([string]) for string in strings[:10]])
    assert alone / scale == pytest.approx(together[:10] / scale, abs=1e-5)
    assert learned.predict(strings[::-1])[::-1] / scale == pytest.approx(together / scale, abs=1e-5)
    twice = learned.predict([*strings, *strings])
    assert np.array_equal(twice[: len(strings)], twice[len(strings) :])
    assert np.array_equal(twice, np.concatenate([together, together]))


def test_embeddings_are_what_the_metrics_are_read_from(learned: T5Predictor, strings: list[str]) -> None:
    vectors = learned.embed(strings)
    assert vectors.shape == (120, 32)
    assert vectors.dtype == np.float64
    head = learned.model_.regressor
    read = vectors @ head.weight.detach().double().numpy().T + head.bias.detach().double().numpy()
    assert read * learned.scale_ + learned.centre_ == pytest.approx(learned.predict(strings), rel=1e-4)
    assert learned.embed([]).shape == (0, 32)


def test_any_text_is_predicted(learned: T5Predictor) -> None:
    assert np.isfinite(learned.predict(["", "resnet", "add<-9 }} 5*{ é", "relu " * 2000])).all()


def test_the_seed_is_all_the_randomness(strings: list[str], values: list[float]) -> None:
    first, again, other = (T5Predictor(**TINY, seed=seed).fit(strings, values).predict(strings) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.slow
def test_fresh_processes_with_other_threads_predict_the_same_bits() -> None:
    script = (
        "import sys; from freerea_seval.predictor.t5.estimator import T5Predictor\n"
        "from tests.freerea_seval.predictor.conftest import chain, cost\n"
        "strings = list(dict.fromkeys(map(chain, range(60))))\n"
        "predictor = T5Predictor(epochs=2).fit(strings, [cost(s) for s in strings])\n"
        "print(predictor.predict(strings).tobytes().hex())"
    )
    root = Path(__file__).parents[4]
    printed = set()
    for hash_seed, threads in (("0", "1"), ("77", "2")):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-c", script]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env=environment)
        printed.add(ran.stdout)
    assert len(printed) == 1


def test_the_state_goes_through_json_and_bytes(learned: T5Predictor, strings: list[str]) -> None:
    state, files = learned.state()
    assert set(files) == {"config.json", "model.safetensors", "tokenizer.json"}
    twin = clone(learned)
    twin.restore(json.loads(json.dumps(state)), {name: bytes(content) for name, content in files.items()})
    assert np.array_equal(twin.predict(strings), learned.predict(strings))
    assert np.array_equal(twin.embed(strings), learned.embed(strings))
    assert twin.history_ == learned.history_
    assert twin.state() == (state, files)


def change_config(files: dict[str, bytes], **fields: object) -> None:
    files["config.json"] = json.dumps(json.loads(files["config.json"]) | fields).encode()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state, files: files.pop("model.safetensors"), r"\('model.safetensors'\); train it anew"),
        (lambda state, files: files.update({"model.safetensors": b"no"}), r"do not fit together \("),
        (lambda state, files: files.update({"config.json": b"{"}), r"do not fit together \("),
        (lambda state, files: change_config(files, num_layers=9), r"\d+ weights are missing or unknown"),
        (lambda state, files: change_config(files, d_ff=10**6), r"must be torch.float32 of shape"),
        (
            lambda state, files: change_config(files, num_layers=10**9),
            r"num_layers is 10{9}, expected at most 256",
        ),
        (lambda state, files: change_config(files, operations=False), r"weights are missing or unknown"),
        (lambda state, files: files.update({"tokenizer.json": b"{}"}), r"is no tokenizer of network strings"),
        (
            lambda state, files: files.update(
                {"tokenizer.json": b'{"format": "freerea-seval tokenizer 1", "pieces": [], "merges": []}'}
            ),
            r"the tokenizer has 98 tokens, but the model \d+",
        ),
        (lambda state, files: state.pop("centre"), r"\('centre'\)"),
        (lambda state, files: state.update(scale=[1.0]), r"centre and scale must be 2 finite numbers each"),
        (lambda state, files: state.update(centre=[1.0, NAN]), r"centre and scale must be 2 finite numbers each"),
        (lambda state, files: state.update(flat=True), r"values are flat, but there are 2 metrics"),
        (lambda state, files: state.update(history=None), r"do not fit together \("),
    ],
)
def test_a_state_that_does_not_fit_is_an_error_of_one_line(spoil: Any, message: str, learned: T5Predictor) -> None:
    state, files = learned.state()
    state = json.loads(json.dumps(state))
    spoil(state, files)
    twin = clone(learned)
    with pytest.raises(InputError, match=message) as error:
        twin.restore(state, files)
    assert "\n" not in str(error.value)
    with pytest.raises(NotFittedError):
        twin.predict(GOOD)


def test_a_state_of_a_pretrained_model_is_not_one_from_scratch(learned: T5Predictor) -> None:
    with pytest.raises(InputError, match="do not fit together"):
        T5Predictor(pretrained="t5-small").restore(*learned.state())


def test_a_state_is_not_taken_up_with_parameters_that_crash_torch(learned: T5Predictor) -> None:
    with pytest.raises(InputError, match=r"^threads: expected"):
        clone(learned).set_params(threads=10**6).restore(*learned.state())


@pytest.mark.parametrize("scaling", ["standard", "minmax"])
def test_the_unit_of_the_values_does_not_matter_and_a_constant_stays(
    scaling: str, strings: list[str], values: list[float]
) -> None:
    predictor = T5Predictor(**TINY, scaling=scaling)
    plain = predictor.fit(strings, values).predict(strings)
    scaled = predictor.fit(strings, 1e6 * np.array(values) - 5e7).predict(strings)
    assert scaled == pytest.approx(1e6 * plain - 5e7, rel=1e-3)
    centre, scale = scales(np.array([[3.7, NAN], [3.7, 1.0], [3.7, 5.0]]), scaling)
    assert (scale[0], centre[1]) == (1, 1 if scaling == "minmax" else 3)
    assert scale[1] == (4 if scaling == "minmax" else 2)


def test_equal_strings_are_one_sample_with_the_mean_of_what_is_known() -> None:
    values = np.array([[1, NAN], [5, 2], [3, 4], [NAN, NAN]])
    expected = np.array([[2, 4], [5, 2], [NAN, NAN]])
    different, found = averaged(["a", "b", "a", "c"], values)
    assert different == ["a", "b", "c"]
    assert np.array_equal(found, expected, equal_nan=True)


def test_the_validation_part_is_drawn_from_the_seed_and_small_ones_are_none() -> None:
    assert len(T5Predictor(validation=0.1)._validation_part(100)) == 10
    assert not len(T5Predictor(validation=0.1)._validation_part(74))
    assert not len(T5Predictor(validation=0)._validation_part(10**4))
    first, other = (T5Predictor(seed=seed)._validation_part(100) for seed in (0, 1))
    assert len(set(first)) == 10
    assert set(first) != set(other)


def test_the_published_setting_is_a_choice_of_parameters() -> None:
    predictor = T5Predictor(**PUBLISHED)
    assert predictor._shape().items() >= {"d_model": 512, "num_layers": 6, "num_heads": 8, "d_ff": 2048}.items()
    assert (predictor.epochs, predictor.batch_size, predictor.learning_rate) == (20, 16, 5e-5)
    assert (predictor.max_tokens, predictor.scaling, predictor.loss) == (512, "minmax", "mse")


@pytest.mark.parametrize(
    ("strings", "y", "message"),
    [
        (GOOD, [1, 2, 3, NAN, 5, 6], "1 of 6 values are infinite, or NaN with a single metric; leave out networks"),
        (GOOD, [[1, 2]] * 5 + [[float("inf"), NAN]], "1 of 12 values are infinite"),
        (GOOD, [1, 2, 3], r"expected one row of values a string, got 6 strings and values of shape \(3,\)"),
        (GOOD, [[]] * 6, r"got 6 strings and values of shape \(6, 0\)"),
        (GOOD, [[[1]]] * 6, r"got 6 strings and values of shape \(6, 1, 1\)"),
        (GOOD, ["slow"] * 6, "expected numbers as values, got list"),
        (GOOD, [[1, NAN]] * 2 + [[1, 2]] * 4, "a predictor needs at least 5 values of each metric, got 4; measure"),
        ([], [], "a predictor needs at least 5 values of each metric, got 0"),
        (GOOD[0], [1], "expected a list of network strings"),
    ],
)
def test_a_training_set_that_cannot_be_used_is_an_error_of_one_line(strings: Any, y: Any, message: str) -> None:
    for use in (checked, T5Predictor(**TINY).fit):
        with pytest.raises(InputError, match=message) as caught:
            use(strings, y)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": 0}, "^num_layers: expected a whole number of at least 1, got 0$"),
        ({"max_tokens": None}, "^max_tokens: expected a whole number of at least 1, got None$"),
        ({"batch_size": 2.5}, "^batch_size: expected a whole number of at least 1, got 2.5$"),
        ({"patience": 0}, "^patience: expected a whole number of at least 1, got 0$"),
        ({"threads": 0}, "^threads: expected a whole number of at least 1 and at most 1024, got 0$"),
        ({"threads": 10**6}, "^threads: expected a whole number of at least 1 and at most 1024, got 1000000$"),
        ({"dropout_rate": 1}, "^dropout_rate: expected a number of at least 0 and less than 1, got 1$"),
        ({"validation": -0.1}, "^validation: expected a number of at least 0 and less than 1, got -0.1$"),
        ({"learning_rate": NAN}, "^learning_rate: expected a number of more than 0, got nan$"),
        ({"d_model": 18, "num_heads": 4}, r"^d_model: expected a multiple of 2 \* num_heads, 8, got 18$"),
        ({"scaling": "log"}, "^unknown scaling 'log'. Valid: minmax, standard$"),
        ({"loss": "mae"}, "^unknown loss 'mae'; did you mean 'mse'"),
        ({"lr_scheduler_type": "plateau"}, "^unknown lr_scheduler_type 'plateau'"),
        ({"metric_for_best_model": "time"}, "^unknown metric_for_best_model 'time'. Valid: mse, tau$"),
        ({"device": "tpu9"}, "^device 'tpu9' cannot be used here"),
    ],
)
def test_a_parameter_that_is_of_no_use_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        T5Predictor(**TINY | change).fit(GOOD, range(6))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a small T5 and a tokenizer, as save_pretrained makes it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    folder = str(tmp_path_factory.mktemp("t5"))
    words = {"<pad>": 0, "<unk>": 1, "conv": 2, "relu": 3, "add": 4, "k": 5, "3": 6}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast: Any = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")
    fast.save_pretrained(folder)
    T5EncoderModel(T5Config(vocab_size=9, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)).save_pretrained(
        folder
    )
    return folder


def test_pretrained_weights_are_the_start_and_are_not_needed_afterwards(
    pretrained: str, strings: list[str], values: list[float], tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    predictor = T5Predictor(pretrained=pretrained, epochs=1, learning_rate=1e-12, max_tokens=40)
    predictor.fit(strings, values)
    start = load_file(Path(pretrained) / "model.safetensors")["shared.weight"]
    assert predictor.model_.transformer.shared.weight.detach().numpy() == pytest.approx(start, abs=1e-6)
    assert predictor.model_.config.d_kv == 4
    twin = clone(predictor).set_params(pretrained=str(tmp_path / "gone"))
    twin.restore(*predictor.state())
    assert np.array_equal(twin.predict(strings), predictor.predict(strings))
    assert predictor.embed(strings).shape == (120, 16)
    long = " ".join(strings)
    assert predictor.embed([long]) == pytest.approx(predictor.embed([long + " relu"])), "40 tokens are read"


def test_pretrained_weights_out_of_reach_are_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    for source, message in (
        (str(tmp_path / "none"), r"pretrained '.*none' cannot be loaded \("),
        ("t5-of-nobody", r"pretrained 't5-of-nobody' cannot be loaded \("),
        (str(tmp_path), r"cannot be loaded \(its model_type is 'bert', expected 't5'\); name a folder"),
    ):
        with pytest.raises(InputError, match=message) as error:
            T5Predictor(pretrained=source).fit(GOOD, range(6))
        assert "\n" not in str(error.value)
        assert str(error.value).endswith("or None to train from scratch")


@pytest.mark.data
@pytest.mark.slow
def test_unseen_cells_are_ranked_from_2000_of_them(data_dir: Path) -> None:
    tables = []
    for name in ("cifar10", "cifar100", "ImageNet16-120"):
        with open(data_dir / f"freerea_cached_metrics/nats/{name}/accuracies.csv", newline="") as file:
            tables.append([float(row["accuracy"]) for row in csv.DictReader(file)])
    values = np.array(tables).T
    training, rest = train_test_split(range(15625), train_size=2000, test_size=1000, random_state=42)
    cells = TopologySpace().genotypes()
    strings = SpaceStrings(TopologySpace(), "functional").strings([cells[i] for i in [*training, *rest]])
    found = T5Predictor(epochs=8).fit(strings[:2000], values[training]).predict(strings[2000:])
    assert kendalltau(found[:, 0], values[rest, 0]).statistic > 0.75
