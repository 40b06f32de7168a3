"""Spaces of any configuration of the library ``transformers``: one config, and values for some of its keys.

A genotype reads ``num_hidden_layers=4,hidden_size=256``: a value for every varied key, in the order of the space. A
list is written with colons, ``depths=[2:2:6:2]``. Networks are built from configs, with initial weights: nothing is
downloaded, no code of a repository runs, and no weights are read.

Not every combination of values is a network. A combination is invalid if the library refuses the config, if the network
cannot be built, or cannot run on an input; and if a number is no multiple of another that divides it, where the library
would round (:data:`MULTIPLES`). Operators return valid combinations only.

Importing this module imports torch and transformers.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from difflib import get_close_matches
from itertools import product
from logging import CRITICAL, getLogger
from math import prod
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from freerea_patch.errors import InputError, unknown_name
from freerea_patch.imports import TORCH_LOCK
from freerea_patch.spaces import Stack, check_text

# Without these, the library may load a kernel for a device from its hub when a network is built or runs.
os.environ.setdefault("USE_HUB_KERNELS", "NO")
try:
    import transformers
    from huggingface_hub import constants as hub
    from transformers import CONFIG_MAPPING, initialization
    from transformers.models.auto import modeling_auto
    from transformers.utils import logging
except ImportError:
    raise InputError(
        "space: configs of transformers need that library, which is not installed: pip install"
        " 'freerea-seval[transformers]'"
    ) from None


class Task(NamedTuple):
    """What a network is for.

    Attributes:
        auto: the class that builds one from a config, in the library's ``modeling_auto``.
        heads: the names of the classes of networks, by model type, in the same module.
    """

    auto: str
    heads: str


#: The first that a model type has is taken, unless the config names its architecture.
TASKS: Mapping[str, Task] = {
    "image-classification": Task("AutoModelForImageClassification", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES"),
    "speech-seq2seq": Task("AutoModelForSpeechSeq2Seq", "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES"),
    "audio-classification": Task("AutoModelForAudioClassification", "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES"),
    "seq2seq-lm": Task("AutoModelForSeq2SeqLM", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES"),
    "masked-lm": Task("AutoModelForMaskedLM", "MODEL_FOR_MASKED_LM_MAPPING_NAMES"),
    "causal-lm": Task("AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"),
    "text-classification": Task(
        "AutoModelForSequenceClassification", "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES"
    ),
    "base": Task("AutoModel", "MODEL_MAPPING_NAMES"),
}
#: Keys whose values are numbers of layers, in the order of execution; a config of encoder and decoder has two.
DEPTHS = ("encoder_layers", "num_layers", "n_layers", "num_hidden_layers", "decoder_layers", "num_decoder_layers")
#: Keys whose values are sizes within layers: they do not decide which kinds of layers a network has.
WIDTHS = frozenset(
    (
        *("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size"),
        *("encoder_ffn_dim", "decoder_ffn_dim", "encoder_attention_heads", "decoder_attention_heads"),
        *("d_model", "d_ff", "d_kv", "num_heads", "n_embd", "n_head", "n_inner", "dim", "hidden_dim", "n_heads"),
        *("state_size", "expand", "time_step_rank", "embedding_size"),
    )
)
#: Numbers of which the first must be a multiple of the second: the library rounds, or fails when the network runs.
MULTIPLES = (
    ("hidden_size", "num_attention_heads"),
    ("hidden_size", "encoder_attention_heads"),
    ("hidden_size", "decoder_attention_heads"),
    ("num_attention_heads", "num_key_value_heads"),
    ("image_size", "patch_size"),
)
#: Keys that say nothing about the network, or would have code or weights of others loaded; they are left out.
_DROPPED = frozenset(
    (
        *("auto_map", "_name_or_path", "name_or_path", "dtype", "torch_dtype", "transformers_version"),
        *("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation"),
        *(
            "quantization_config",
            "use_pretrained_backbone",
            "use_timm_backbone",
            "custom_pipelines",
            "base_model_tp_plan",
        ),
    )
)
_FIXED = frozenset((*_DROPPED, "model_type", "architectures"))
#: A file with a config has at most so many bytes, as a config of a search.
MOST_BYTES = 2**19
#: Random combinations among which a valid one must be.
TRIES = 1_000
#: A space with at most so many combinations lists its networks.
MOST_LISTED = 500
#: Completions of one value that are tried, before the value is called invalid.
_COMPLETIONS = 30
#: Tokens of an input on which a network is tried.
_TRIED_TOKENS = 8
_SAFE_TEXT = re.compile(r"[\w./+-]+", re.ASCII)


class HuggingFaceNetwork(nn.Module):
    """A network that takes one tensor and returns one, as those of all search spaces.

    Args:
        model: of the library.
        decoder_tokens: of a network of encoder and decoder: tokens of the decoder, all of index 0.

    Attributes:
        model: the library's module.
    """

    def __init__(self, model: nn.Module, decoder_tokens: int = 0) -> None:
        super().__init__()
        self.model = model
        self.decoder_tokens = decoder_tokens

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images, tokens or sounds; of a network without a head, its last features."""
        arguments = {str(self.model.main_input_name): x}
        if self.decoder_tokens:
            n, t = x.shape[0], self.decoder_tokens
            arguments["decoder_input_ids"] = torch.zeros(n, t, dtype=torch.int64, device=x.device)
        output = self.model(**arguments)
        result: Tensor = output["logits"] if "logits" in output else output[0]
        return result


class TransformersSpace:
    """The networks of a config whose keys have one of several values each.

    A network maps images ``(n, channels, height, width)``, indices of tokens ``(n, context)`` int64, or features of
    sounds, such as ``(n, mels, frames)``, to logits.

    Args:
        config: a file ``config.json``, a folder that holds one, the content of one, or a model type such as ``"vit"``
            for the library's defaults.
        vary: the values of every varied key. A key within a part of the config is written with dots.
        task: one of :data:`TASKS`; by default that of the config's architecture, or what the model type is known for.
        context: tokens of an input of text, and of a decoder; by default 128, or what the config takes if that is less.
        image_size: height and width of images, where the config does not say; by default 224.
        base: the folder that a relative path starts from.

    Attributes:
        name: the model type with all options.
        config: the content of the config, without values that the library derives from others.
        task: of the networks.
        input_shape, input_dtype: of one input.
        generates: whether the networks are language models that add token to token.

    Raises:
        InputError: there is no such config; an unknown key, with the nearest; a value that the library refuses.
    """

    def __init__(
        self,
        config: str | Path | Mapping[str, Any] | None = None,
        vary: Mapping[str, Sequence[Any]] | None = None,
        *,
        task: str | None = None,
        context: int | None = None,
        image_size: int | None = None,
        base: str | Path = Path(),
    ) -> None:
        if not isinstance(config, (str, Path, Mapping)):
            raise InputError(
                f"space: expected transformers: config.json, or a model type such as vit, got {config!r:.80}"
            )
        for option, number in (("context", context), ("image_size", image_size)):
            if number is not None and (
                not isinstance(number, int) or isinstance(number, bool) or not 0 < number < 2**20
            ):
                raise InputError(f"{option}: expected a whole number from 1, got {number!r:.80}")
        content = deepcopy(dict(config)) if isinstance(config, Mapping) else _read(str(config), Path(base))
        self._context, self._image_size = context, image_size
        self._make_config, whole = _checked(content)
        self.config: dict[str, Any] = _without_derived(self._make_config, content)
        self._aliases: Mapping[str, str] = getattr(self._make_config, "attribute_map", {})
        self._values = self._check_keys(vary, whole.to_dict())
        self.task = _task(whole, task)
        self._model_class = _model_class(whole, self.task)
        self._reasons: dict[Hashable, str] = {}
        self._tried_values = False
        self.input_shape, self.input_dtype = self._input(whole)
        self.generates = self.task == "causal-lm"
        self._check_values()
        text = json.dumps(self.config, sort_keys=True, default=str)
        choices = " ".join(f"{key}={','.join(texts)}" for key, texts in self.choices().items())
        self.name = (
            f"{whole.model_type} {choices} task={self.task} input={'x'.join(map(str, self.input_shape))}"
            f" config={hashlib.sha256(text.encode()).hexdigest()[:12]}"
        )
        if prod(len(values) for values in self._values.values()) <= MOST_LISTED:
            self.genotypes = self._listed

    def _check_keys(self, vary: object, known: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the values of every key by their texts."""
        if not (isinstance(vary, Mapping) and vary):
            raise InputError("vary: expected keys of the config and their values, such as {num_hidden_layers: [4, 6]}")
        checked: dict[str, dict[str, Any]] = {}
        for key, values in vary.items():
            path = str(key).split(".")
            part: Any = known
            for step in path[:-1]:
                part = part.get(step) if isinstance(part, Mapping) else None
            names = [*part, *(self._aliases if part is known else ())] if isinstance(part, Mapping) else list(known)
            if not isinstance(part, Mapping) or path[-1] not in names or path[-1] in _FIXED:
                prefix = "".join(f"{step}." for step in path[:-1])
                valid = (prefix + name for name in names if name not in _FIXED)
                raise unknown_name(f"key in vary, of {known['model_type']}:", key, valid)
            if not isinstance(values, Sequence) or isinstance(values, str) or not values:
                raise InputError(f"vary.{key}: expected a list of values, such as [4, 6, 8], got {values!r:.80}")
            few = [value for value in values if isinstance(value, (int, float)) and value < 1]
            if few and {path[-1], self._actual(path[-1])} & {*DEPTHS}:  # a range of no layers is no error of a network
                raise InputError(f"vary.{key}: expected numbers of layers from 1, got {few[0]}")
            texts = {_text(str(key), value): value for value in values}
            if len(texts) < len(values):
                raise InputError(f"vary.{key}: expected different values, got {', '.join(texts)}")
            checked[str(key)] = texts
        names = [self._actual(key) for key in checked]
        for key, name in zip(checked, names, strict=True):
            if names.count(name) > 1:
                raise InputError(f"vary: {key} and another key are the same, {name}; keep one of them")
        return checked

    def _check_values(self) -> None:
        """Make sure that every value is one of some config, and that no key changes the input.

        Raises:
            InputError: the first value that is of none.
        """
        rng = Random(0)
        for key, texts in self._values.items():
            for text in texts:
                for genes in self._completions(key, text, rng):
                    try:
                        shape, _ = self._input(self._built_config(genes))
                    except InputError as error:
                        reason = str(error)
                        continue
                    if shape != self.input_shape:
                        raise InputError(
                            f"vary.{key}: the networks of a space have one input, and {key}={text} changes it from"
                            f" {'x'.join(map(str, self.input_shape))} to {'x'.join(map(str, shape))}; search each alone"
                        )
                    break
                else:
                    raise InputError(f"vary.{key}: {self.config['model_type']} refuses {text} ({reason})")

    def _completions(self, key: str, text: str, rng: Random) -> Iterator[dict[str, str]]:
        """Yield combinations with a value: that of the first values of the other keys, then random ones."""
        yield {name: next(iter(texts)) for name, texts in self._values.items()} | {key: text}
        for _ in range(_COMPLETIONS - 1):
            yield {name: rng.choice(list(texts)) for name, texts in self._values.items()} | {key: text}

    def _actual(self, key: str) -> str:
        """Return the name that the config itself has for a key, such as ``n_embd`` of GPT-2 for ``hidden_size``."""
        return self._aliases.get(key, key)

    def _built_config(self, genes: Mapping[str, str], **others: Any) -> Any:
        """Return the library's config of the values of genes, and of others by their actual names.

        Raises:
            InputError: the library refuses it.
        """
        content = deepcopy(self.config)
        for key, text in genes.items():
            *path, last = self._actual(key).split(".")
            part = content
            for step in path:
                part = part.setdefault(step, {})
            part[last] = deepcopy(self._values[key][text])
        return _config(self._make_config, content | others)

    def _length(self, config: Any, most: str) -> int:
        """Return the number of tokens of an input, given the key of the most that a config takes."""
        wanted = 128 if self._context is None else self._context
        length = min(wanted, _number(config, most, wanted))
        if length < wanted and self._context is not None:
            raise InputError(
                f"context: expected at most {length}, the config's {most}, got {wanted}; or change the config"
            )
        return length

    def _input(self, config: Any) -> tuple[tuple[int, ...], str]:
        """Return shape and dtype of an input."""
        name = self._model_class.main_input_name
        if name == "input_ids":
            return (self._length(config, "max_position_embeddings"),), "int64"
        if name == "pixel_values":
            size = getattr(config, "image_size", None) or self._image_size or 224
            if self._image_size not in (None, size):
                raise InputError(
                    f"image_size: the config has {size}; change it there, such as in transformers: {{model_type:"
                    f" {config.model_type}, image_size: {self._image_size}}}"
                )
            height, width = size if isinstance(size, (tuple, list)) else (size, size)
            return (_number(config, "num_channels", 3), int(height), int(width)), "float32"
        if name == "input_features" and hasattr(config, "max_source_positions"):  # two frames a position
            return (_number(config, "num_mel_bins", 80), 2 * _number(config, "max_source_positions", 1500)), "float32"
        if name == "input_values":  # a second of sound, of 16 kHz, or its spectrogram
            mels = getattr(config, "num_mel_bins", None)
            return ((16_000,) if mels is None else (_number(config, "max_length", 1024), mels)), "float32"
        raise InputError(
            f"space: {self._model_class.__name__} reads {name}, of which no input is made here; write a space of your"
            " own that builds it (docs/guides/space.md)"
        )

    def _parse(self, genotype: str) -> dict[str, str]:
        """Return the texts of the values by key, or raise :class:`InputError`."""
        check_text(genotype)
        pairs = [part.partition("=")[::2] for part in genotype.split(",")]
        if [key for key, _ in pairs] != list(self._values):
            example = ",".join(f"{key}={next(iter(texts))}" for key, texts in self._values.items())
            raise InputError(f"{genotype!r:.200} is not of the space; expected a value of each key, such as {example}")
        for key, text in pairs:
            if text not in self._values[key]:
                raise unknown_name(f"value of {key}", text, self._values[key])
        return dict(pairs)

    def _format(self, genes: Mapping[str, str]) -> str:
        return ",".join(f"{key}={genes[key]}" for key in self._values)

    def check(self, genotype: str) -> None:
        """Raise :class:`InputError` if ``genotype`` is not of this space, or is no network that can be built."""
        reason = self._reason(self._parse(genotype))
        if reason:
            raise InputError(f"{genotype!r:.200}: {reason}")

    def _depths(self, config: Any) -> dict[str, int]:
        """Return the numbers of layers by the actual names of their keys, in the order of execution."""
        own = config.to_dict()
        names = list(dict.fromkeys(self._actual(name) for name in DEPTHS))
        depths = {name: own[name] for name in names if isinstance(own.get(name), int) and own[name] > 0}
        if "encoder_layers" in depths or "num_decoder_layers" in depths:  # num_hidden_layers is another name of it
            depths.pop("num_hidden_layers", None)
        return depths

    def _reason(self, genes: Mapping[str, str]) -> str:
        """Return why a combination of values is no network; empty if it is one.

        The network is tried with one layer of each kind, because layers have the same shapes.
        """
        try:
            config = self._built_config(genes)
        except InputError as error:
            return str(error)
        depths = self._depths(config)
        key = tuple(text for name, text in genes.items() if self._actual(name) not in depths)
        if key not in self._reasons:
            few = dict.fromkeys(depths, 1)
            with suppress(InputError):  # such as a list of a value a layer, which has another length
                config = self._built_config(genes, **few)
            self._reasons[key] = _indivisible(config, self.config) or self._failure(config)
        return self._reasons[key]

    def _failure(self, config: Any) -> str:
        """Return why a network cannot be built, or cannot run, without values; empty if it can."""
        from torch._subclasses.fake_tensor import FakeTensorMode

        logger = getLogger("torch._subclasses.fake_tensor")  # prints a traceback of what cannot run
        level = logger.level
        logger.setLevel(CRITICAL)
        try:
            with _undisturbed(), FakeTensorMode(), torch.no_grad():
                network = self._network(config, True).eval()
                shape, dtype = self.input_shape, getattr(torch, self.input_dtype)
                if self.input_dtype == "int64":
                    shape = (min(shape[0], _TRIED_TOKENS),)
                    network.decoder_tokens = min(network.decoder_tokens, _TRIED_TOKENS)
                network(torch.zeros(1, *shape, dtype=dtype))
        except Exception as error:  # whatever the library raises
            return _one_line(error)
        finally:
            logger.setLevel(level)
        return ""

    def sample(self, rng: Random) -> str:
        """Return a random valid combination.

        Raises:
            InputError: none of :data:`TRIES` combinations is valid.
        """
        if not self._tried_values:
            self._tried_values = True
            self._try_values()
        for _ in range(TRIES):
            genes = {key: rng.choice(list(texts)) for key, texts in self._values.items()}
            reason = self._reason(genes)
            if not reason:
                return self._format(genes)
        raise InputError(
            f"space {self.config['model_type']}: none of {TRIES} random combinations of 'vary' is a network; the last,"
            f" {self._format(genes)}: {reason}"
        )

    def _try_values(self) -> None:
        """Raise :class:`InputError` for a value with which no network can be built."""
        rng = Random(0)
        for key, texts in self._values.items():
            for text in texts:
                for genes in self._completions(key, text, rng):
                    if not (reason := self._reason(genes)):
                        break
                else:
                    raise InputError(
                        f"vary.{key}: none of {_COMPLETIONS} combinations with {text} is a network; the last,"
                        f" {self._format(genes)}: {reason}"
                    )

    def mutate(self, genotype: str, rng: Random) -> str:
        """Replace the value of a random key by another, so that the network is valid; of two keys, where no one does.

        Raises:
            InputError: the space has no other network within reach.
        """
        genes = self._parse(genotype)
        changes: list[tuple[str, str]] = []
        for key in rng.sample(list(genes), len(genes)):
            others = [text for text in self._values[key] if text != genes[key]]
            changes += [(key, text) for text in rng.sample(others, len(others))]
        for key, text in changes:
            if not self._reason(mutant := genes | {key: text}):
                return self._format(mutant)
        for (key, text), (other, value) in product(changes, changes):
            if key != other and not self._reason(mutant := genes | {key: text, other: value}):
                return self._format(mutant)
        raise InputError(f"space {self.name}: no other network is a mutation of {genotype!r:.200}; vary more values")

    def crossover(self, first: str, second: str, rng: Random) -> str:
        """Take every value from a random parent (uniform crossover, Syswerda 1989), until the network is valid.

        Where :data:`_COMPLETIONS` tries give none, it is a parent.
        """
        parents = self._parse(first), self._parse(second)
        for _ in range(_COMPLETIONS):
            genes = {key: parents[rng.getrandbits(1)][key] for key in self._values}
            if not self._reason(genes):
                return self._format(genes)
        return self._format(parents[rng.getrandbits(1)])

    def choices(self) -> Mapping[str, Sequence[str]]:
        """Return the keys, each with the texts of its values."""
        return {key: tuple(texts) for key, texts in self._values.items()}

    def compose(self, genes: Mapping[str, str]) -> str:
        """Return the genotype of a value for each key.

        Of an invalid combination, it is a valid one in which few values differ, always the same: engines that choose
        values do not know which go together.

        Raises:
            InputError: the names are not the keys, or a value is none of theirs.
        """
        if genes.keys() != self._values.keys():
            raise InputError(f"expected the genes {', '.join(self._values)}, got {', '.join(map(str, genes))}")
        genotype = self._format(genes)
        genes = self._parse(genotype)
        if not self._reason(genes):
            return genotype
        rng = Random(genotype)
        for count in range(1, len(genes)):
            for _ in range(_COMPLETIONS):
                changed = {key: rng.choice(list(self._values[key])) for key in rng.sample(list(genes), count)}
                if not self._reason({**genes, **changed}):
                    return self._format({**genes, **changed})
        return self.sample(rng)

    def genes(self, genotype: str) -> Mapping[str, str]:
        """Return the texts of the values by key: the inverse of :meth:`compose`."""
        return self._parse(genotype)

    def _listed(self) -> Sequence[str]:
        """Return all valid combinations, the last key fastest."""
        rows = (dict(zip(self._values, texts, strict=True)) for texts in product(*self._values.values()))
        return [self._format(genes) for genes in rows if not self._reason(genes)]

    def build(self, genotype: str) -> nn.Module:
        """Return the network with initial weights; its attribute ``model`` is the library's."""
        config = self._built_config(self._parse(genotype))
        try:
            with _undisturbed():
                return self._network(config)
        except Exception as error:  # whatever the library raises
            raise InputError(f"{genotype!r:.200}: {_one_line(error)}") from error

    def stack(self, genotype: str) -> Stack:
        """Return the numbers of layers of the network, and how it is built with others."""
        genes = self._parse(genotype)
        depths = self._depths(self._built_config(genes))
        others = {key: text for key, text in genes.items() if self._actual(key) not in depths}
        kind = tuple((key, text) for key, text in others.items() if WIDTHS.isdisjoint((key, self._actual(key))))

        def make(counts: Sequence[int]) -> nn.Module:
            config = self._built_config(genes, **dict(zip(depths, counts, strict=True)))
            try:
                with _undisturbed(), torch.device("meta"):
                    return self._network(config, True)
            except Exception as error:  # whatever the library raises
                raise InputError(f"{genotype!r:.200}: {_one_line(error)}") from error

        return Stack(tuple(others.items()), kind, tuple(depths.values()), make)

    def _network(self, config: Any, without_values: bool = False) -> HuggingFaceNetwork:
        """Return a network of the library; hold :func:`_undisturbed`."""
        config.use_cache = False  # which a pass over a whole input has no use for
        decodes = config.is_encoder_decoder and self.task.startswith(("seq2seq", "speech"))
        decoder_tokens = self._length(config, "max_target_positions") if decodes else 0
        auto = getattr(modeling_auto, TASKS[self.task].auto)
        if not without_values:
            return HuggingFaceNetwork(auto.from_config(config, trust_remote_code=False), decoder_tokens)
        with initialization.no_init_weights():
            model = auto.from_config(config, trust_remote_code=False)
        model.tie_weights()  # a part of the initialisation that is left out
        return HuggingFaceNetwork(model, decoder_tokens)

    def config_json(self, genotype: str) -> str:
        """Return the ``config.json`` of a network, of which the library builds the same network.

        Raises:
            InputError: what the library builds from it has other parameters.
        """
        stack = self.stack(genotype)
        config = self._built_config(self._parse(genotype))
        config.architectures = [self._model_class.__name__]
        text: str = config.to_json_string(use_diff=False)
        content = json.loads(text)
        with _undisturbed(), torch.device("meta"), initialization.no_init_weights():
            loaded = self._make_config.from_dict(content)
            model = getattr(modeling_auto, TASKS[self.task].auto).from_config(loaded, trust_remote_code=False)
        ours = {n: tuple(p.shape) for n, p in stack.make(stack.counts).model.state_dict().items()}  # type: ignore[union-attr]
        if {n: tuple(p.shape) for n, p in model.state_dict().items()} != ours:
            raise InputError(f"{genotype!r:.200}: transformers {transformers.__version__} builds another network of it")
        return text


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep the library from asking its hub and from printing, and other threads from building networks."""
    with TORCH_LOCK:
        verbosity, offline = logging.get_verbosity(), hub.HF_HUB_OFFLINE
        logging.set_verbosity_error()
        hub.HF_HUB_OFFLINE = True
        try:
            yield
        finally:
            hub.HF_HUB_OFFLINE = offline
            logging.set_verbosity(verbosity)


def _read(config: str, base: Path) -> dict[str, Any]:
    """Return the content of a config: of a file, of a folder's, or of a model type's defaults."""
    path = base / Path(config).expanduser()
    if path.is_dir() and (path / "config.json").exists():
        path /= "config.json"
    if not path.is_file():
        if config in CONFIG_MAPPING:
            return {"model_type": config}
        if re.fullmatch(r"[\w-]+", config):
            raise _unknown_type("model type, or folder with a config.json,", config)
        raise InputError(f"space: {path}: no such config.json, nor a folder with one; nothing is downloaded")
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(MOST_BYTES + 1)[:MOST_BYTES])
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"space: {path}: expected the JSON of a config ({_one_line(error)})") from None
    if not isinstance(content, dict):
        raise InputError(f"space: {path}: expected the keys of a config, got {type(content).__name__}")
    return content


def _unknown_type(kind: str, name: str) -> InputError:
    """Return the error for a model type that the library does not have, with near ones of its hundreds."""
    if near := get_close_matches(name, list(CONFIG_MAPPING), n=5):
        return unknown_name(kind, name, near)
    return InputError(
        f"unknown {kind} {name!r:.80}; expected one of transformers, such as bert, gpt2, llama or vit, or the path of a"
        " config.json: nothing is downloaded"
    )


def _checked(content: dict[str, Any]) -> tuple[Any, Any]:
    """Return the class of a config and the config, and remove from its content what would have others' code loaded."""
    model_type = content.get("model_type")
    if not isinstance(model_type, str):
        raise InputError("space: the config has no model_type, such as llama")
    if model_type not in CONFIG_MAPPING:
        raise _unknown_type("model_type of the config", model_type)
    _drop(content)
    kind: Any = CONFIG_MAPPING[model_type]
    return kind, _config(kind, content)


def _drop(content: dict[str, Any]) -> None:
    """Remove :data:`_DROPPED` from a config and from the configs within it."""
    for name in _DROPPED & content.keys():
        del content[name]
    for value in content.values():
        if isinstance(value, dict):
            _drop(value)


def _config(kind: Callable[..., Any], content: Mapping[str, Any]) -> Any:
    """Return a config, or raise :class:`InputError` if the library refuses it."""
    try:
        with _undisturbed():
            return kind(**deepcopy({key: value for key, value in content.items() if key != "model_type"}))
    except Exception as error:  # whatever the library raises
        raise InputError(_one_line(error)) from error


def _without_derived(kind: Callable[..., Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without values that the library derives from others, so that they follow what varies.

    A file has the number of features of a head, for example, and a list with the kind of every layer.
    """
    kept, whole = dict(content), _config(kind, content).to_dict()
    for key in content:
        if key not in ("model_type", "architectures"):
            fewer = {name: value for name, value in kept.items() if name != key}
            try:
                kept = fewer if _config(kind, fewer).to_dict() == whole else kept
            except InputError:
                continue
    return kept


def _task(config: Any, wanted: str | None) -> str:
    """Return the task of a config's networks: the wanted one, that of its architecture, or the model type's first."""
    heads = {name: getattr(modeling_auto, task.heads).get(config.model_type) for name, task in TASKS.items()}
    heads = {name: (head,) if isinstance(head, str) else tuple(head) for name, head in heads.items() if head}
    if wanted is not None:
        if wanted not in heads:
            raise unknown_name(f"task of {config.model_type}:", wanted, heads)
        return wanted
    named = (config.architectures or [None])[0]
    for name, classes in heads.items():
        if named is None or classes[0] == named:
            return name
    raise InputError(
        f"space: architecture {named!r:.80} of {config.model_type} is none that can be built here; choose a task of"
        f" {', '.join(heads) or 'another model type'}"
    )


def _model_class(config: Any, task: str) -> Any:
    """Return the class of the networks of a task."""
    classes: Any = getattr(modeling_auto, TASKS[task].auto)._model_mapping[type(config)]
    return classes[0] if isinstance(classes, (tuple, list)) else classes


def _indivisible(config: Any, content: Mapping[str, Any]) -> str:
    """Return which number is no multiple of another that must divide it; empty if none."""
    for whole, part in MULTIPLES:
        one, other = getattr(config, whole, None), getattr(config, part, None)
        free = whole == "hidden_size" and any(content.get(name) for name in ("head_dim", "d_kv"))
        if isinstance(one, int) and isinstance(other, int) and not free and (other < 1 or one % other):
            return f"{whole} {one} is no multiple of {part} {other}"
    return ""


def _number(config: Any, name: str, default: int) -> int:
    value = getattr(config, name, None)
    return value if isinstance(value, int) and value > 0 else default


def _text(key: str, value: object) -> str:
    """Return a value as a genotype has it."""
    if isinstance(value, str) and _SAFE_TEXT.fullmatch(value):
        return value
    if isinstance(value, (bool, int, float)) or value is None:
        return json.dumps(value)
    if isinstance(value, (list, tuple)) and value:
        return f"[{':'.join(_text(key, item) for item in value)}]"
    raise InputError(f"vary.{key}: expected numbers, true or false, names, or lists of these, got {value!r:.80}")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
