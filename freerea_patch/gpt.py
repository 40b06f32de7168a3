"""Decoder spaces: language models of a width, a number of layers, and in each layer a number of heads and MLP ratio.

A genotype reads ``w384:l3:b1:h4-8-12:r2-4-3``: width, layers, whether projections have a bias, and one value a layer
for heads and for the MLP's width over the model's. With a choice of ``kv_heads``, ``k2`` stands before the heads. It
has values for its own layers only, so that every network has one genotype.

The spaces ``gpt-s``, ``gpt-m`` and ``gpt-l`` are HW-GPT-Bench's (Sukthanker 2024, public code); ``gpt`` takes choices
of your own. Importing this module does not import torch; :mod:`freerea_patch.gpt_networks` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from freerea_patch.errors import InputError, unknown_name
from freerea_patch.spaces import Part, check_text

if TYPE_CHECKING:
    from torch import nn

NORMS = ("layer", "rms")
#: Tokens of HW-GPT-Bench, which are those of GPT-NeoX without padding.
VOCABULARY = 50_254
#: The most layers and the largest width of the user's own choices.
MOST_LAYERS, MOST_WIDTH = 1_000, 65_536


class Decoder(NamedTuple):
    """The values of a genotype, as texts.

    Attributes:
        width, bias, kv_heads: of the network; ``kv_heads`` is empty where the space does not choose it.
        heads, ratios: one a layer.
    """

    width: str
    bias: str
    kv_heads: str
    heads: tuple[str, ...]
    ratios: tuple[str, ...]


class GPTSpace:
    """Language models of choices of your own.

    The input is a sequence of token indices, ``(n, context)`` int64, and the output a logit for each token of the
    vocabulary at each position, ``(n, context, vocabulary)``. Heads have 64 features whatever the width.

    Args:
        width: features of a token; the choices of the network.
        layers: numbers of blocks.
        heads: numbers of heads, chosen a layer.
        ratio: features of the MLP over the width, chosen a layer; times each width, a whole number.
        bias: whether projections in blocks have a bias.
        context: tokens of the input, and the most that the network takes.
        norm: ``"layer"`` or ``"rms"``.
        gated: whether MLPs are SwiGLU (Shazeer 2020).
        kv_heads: numbers of heads of keys and values, a choice of the network, each a divisor of all ``heads``; None
            for as many as heads.
        vocabulary: number of tokens.
        parallel: whether attention and MLP of a block read the same input, as in HW-GPT-Bench.
        rotary: features of a head that rotate by position, even, from 2 to 64.

    Attributes:
        name: the space with all options.
        input_shape, input_dtype: of one input.

    Raises:
        InputError: an option that is no such choice.
    """

    kind = "gpt"
    input_dtype = "int64"

    def __init__(
        self,
        width: Sequence[int] | int = (128, 256, 384),
        layers: Sequence[int] | int = (4, 5, 6),
        heads: Sequence[int] | int = (2, 4, 6),
        ratio: Sequence[float] | float = (2, 3, 4),
        bias: Sequence[bool] | bool = (False, True),
        *,
        context: int = 1024,
        norm: str = "layer",
        gated: bool = False,
        kv_heads: Sequence[int] | int | None = None,
        vocabulary: int = VOCABULARY,
        parallel: bool = False,
        rotary: int = 64,
    ) -> None:
        self._values = {
            "width": _counts("width", width),
            "layers": _counts("layers", layers),
            "bias": _bias(bias),
            "kv_heads": () if kv_heads is None else _counts("kv_heads", kv_heads),
            "heads": _counts("heads", heads),
            "ratio": _ratios(ratio, _counts("width", width)),
        }
        for name, number in (("context", context), ("vocabulary", vocabulary), ("rotary", rotary)):
            _counts(name, number)
        for name, switch in (("gated", gated), ("parallel", parallel)):
            if not isinstance(switch, bool):
                raise InputError(f"{name}: expected true or false, got {switch!r:.80}")
        if norm not in NORMS:
            raise unknown_name("norm", norm, NORMS)
        if rotary % 2 or rotary > 64:
            raise InputError(f"rotary: expected an even number of a head's 64 features, got {rotary}")
        for many in self._values["heads"]:
            for few in self._values["kv_heads"]:
                if int(many) % int(few):
                    raise InputError(f"kv_heads: expected divisors of all heads, but {few} does not divide {many}")
        for name, most in (("layers", MOST_LAYERS), ("width", MOST_WIDTH), ("heads", MOST_WIDTH // 64)):
            if max(map(int, self._values[name])) > most:
                raise InputError(f"{name}: expected at most {most}, got {max(map(int, self._values[name]))}")
        self._layers = {int(count) for count in self._values["layers"]}
        #: The arguments of :class:`freerea_patch.gpt_networks.Skeleton`.
        self._skeleton = (vocabulary, context, norm, gated, parallel, rotary)
        self.input_shape: tuple[int, ...] = (context,)
        self.vocabulary, self.context = vocabulary, context
        choices = " ".join(f"{name}={','.join(values)}" for name, values in self._values.items() if values)
        self.name = (
            f"{self.kind} {choices} context={context} norm={norm} gated={gated:d} vocabulary={vocabulary}"
            f" parallel={parallel:d} rotary={rotary}"
        )

    def _format(self, decoder: Decoder) -> str:
        grouped = f":k{decoder.kv_heads}" if decoder.kv_heads else ""
        return (
            f"w{decoder.width}:l{len(decoder.heads)}:b{decoder.bias}{grouped}"
            f":h{'-'.join(decoder.heads)}:r{'-'.join(decoder.ratios)}"
        )

    def _parse(self, genotype: str) -> Decoder:
        """Return the values of a genotype, or raise :class:`InputError`."""
        letters = "wlbkhr" if self._values["kv_heads"] else "wlbhr"
        fields = genotype.split(":")
        if [field[:1] for field in fields] != list(letters):
            raise InputError(
                f"{genotype!r:.200} is not of the space {self.kind}; expected the form {self._example()}, with heads"
                " and ratio of every layer"
            )
        texts = {letter: field[1:] for letter, field in zip(letters, fields, strict=True)}
        decoder = Decoder(
            texts["w"], texts["b"], texts.get("k", ""), tuple(texts["h"].split("-")), tuple(texts["r"].split("-"))
        )
        for name, values in (
            ("width", (decoder.width,)),
            ("layers", (texts["l"],)),
            ("bias", (decoder.bias,)),
            ("kv_heads", (decoder.kv_heads,) if decoder.kv_heads or "k" in texts else ()),
            ("heads", decoder.heads),
            ("ratio", decoder.ratios),
        ):
            for value in values:
                if value not in self._values[name]:
                    raise InputError(
                        f"{genotype!r:.200} has {name} {value!r:.40}; expected one of {', '.join(self._values[name])}"
                    )
        for name, values in (("heads", decoder.heads), ("ratio", decoder.ratios)):
            if len(values) != int(texts["l"]):
                raise InputError(
                    f"{genotype!r:.200} has {len(values)} values of {name}; expected one for each of its"
                    f" {texts['l']} layers"
                )
        return decoder

    def _example(self) -> str:
        first = {name: values[0] if values else "" for name, values in self._values.items()}
        layers = int(first["layers"])
        return self._format(
            Decoder(
                first["width"], first["bias"], first["kv_heads"], (first["heads"],) * layers, (first["ratio"],) * layers
            )
        )

    def check(self, genotype: str) -> None:
        """Raise :class:`InputError` if ``genotype`` is not of this space."""
        check_text(genotype)
        self._parse(genotype)

    def sample(self, rng: Random) -> str:
        """Return a genotype of uniformly random genes."""
        values = self._values
        layers = int(rng.choice(values["layers"]))
        return self._format(
            Decoder(
                rng.choice(values["width"]),
                rng.choice(values["bias"]),
                rng.choice(values["kv_heads"]) if values["kv_heads"] else "",
                tuple(rng.choices(values["heads"], k=layers)),
                tuple(rng.choices(values["ratio"], k=layers)),
            )
        )

    def mutate(self, genotype: str, rng: Random) -> str:
        """Replace the value of a uniformly random gene by one of the others.

        Further layers get random heads and ratios and come last; of fewer, the last go.

        Raises:
            InputError: the space has one network only.
        """
        genes = dict(self._own_genes(self._parse(genotype)))
        variable = [name for name in genes if len(self._values[_choice(name)]) > 1]
        if not variable:
            raise InputError(f"space {self.name} has one network, and nothing to mutate; give a choice two values")
        name = rng.choice(variable)
        genes[name] = rng.choice([value for value in self._values[_choice(name)] if value != genes[name]])
        for other, values in self.choices().items():
            if other not in genes:
                genes[other] = rng.choice(values)
        return self.compose(genes)

    def crossover(self, first: str, second: str, rng: Random) -> str:
        """Take every gene from a random one of the parents that have it (uniform crossover, Syswerda 1989)."""
        parents = [dict(self._own_genes(self._parse(parent))) for parent in (first, second)]
        genes = {}
        for name, values in self.choices().items():
            having = [parent[name] for parent in parents if name in parent]
            genes[name] = having[rng.getrandbits(1) % len(having)] if having else values[0]
        return self.compose(genes)

    def simplified(self, genotype: str) -> str:
        """Return the genotype without operations that the output does not depend on: here, it depends on all."""
        self._parse(genotype)
        return genotype

    def choices(self) -> Mapping[str, Sequence[str]]:
        """Return the genes by name, each with its possible values; layers that a network lacks have genes, too."""
        whole = {name: values for name, values in self._values.items() if name not in ("heads", "ratio") and values}
        layers = range(1, max(self._layers) + 1)
        return whole | {f"{name} {layer}": self._values[name] for layer in layers for name in ("heads", "ratio")}

    def compose(self, genes: Mapping[str, str]) -> str:
        """Return the genotype of a value for each gene; those of layers that the network lacks do not matter.

        Raises:
            InputError: the names are not those of the genes, or a value is none of theirs.
        """
        choices = self.choices()
        if genes.keys() != choices.keys():
            raise InputError(f"expected the genes {', '.join(choices)}, got {', '.join(map(str, genes))}")
        for name, values in choices.items():
            if genes[name] not in values:
                raise InputError(f"{name}: expected one of {', '.join(values)}, got {genes[name]!r:.40}")
        layers = range(1, int(genes["layers"]) + 1)
        return self._format(
            Decoder(
                genes["width"],
                genes["bias"],
                genes.get("kv_heads", ""),
                tuple(genes[f"heads {layer}"] for layer in layers),
                tuple(genes[f"ratio {layer}"] for layer in layers),
            )
        )

    def genes(self, genotype: str) -> Mapping[str, str]:
        """Return the values of the genes by name; a layer that the network lacks has the first value of each choice."""
        own = self._own_genes(self._parse(genotype))
        return {name: own.get(name, values[0]) for name, values in self.choices().items()}

    def _own_genes(self, decoder: Decoder) -> Mapping[str, str]:
        """Return the genes that a network has."""
        genes = {"width": decoder.width, "layers": str(len(decoder.heads)), "bias": decoder.bias}
        if decoder.kv_heads:
            genes["kv_heads"] = decoder.kv_heads
        for layer, (heads, ratio) in enumerate(zip(decoder.heads, decoder.ratios, strict=True), start=1):
            genes |= {f"heads {layer}": heads, f"ratio {layer}": ratio}
        return genes

    def build(self, genotype: str) -> nn.Module:
        """Return the network, mapping ``(n, t)`` token indices to ``(n, t, vocabulary)``, t at most the context."""
        return self.parts(genotype).build()

    def parts(self, genotype: str) -> Part:
        """Return the parts of the network: embedding, blocks, head."""
        from freerea_patch.gpt_networks import Layer, Skeleton, gpt_network

        decoder = self._parse(genotype)
        width = int(decoder.width)
        layers = [
            Layer(int(heads), int(decoder.kv_heads or heads), round(float(ratio) * width))
            for heads, ratio in zip(decoder.heads, decoder.ratios, strict=True)
        ]
        return gpt_network(width, layers, decoder.bias == "1", Skeleton(*self._skeleton))


def _choice(gene: str) -> str:
    """Return the choice that a gene is of: ``heads`` for ``heads 3``."""
    return gene.partition(" ")[0]


def _listed(value: object) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _different(name: str, values: Sequence[str]) -> tuple[str, ...]:
    if not values or len(set(values)) < len(values):
        raise InputError(f"{name}: expected one or more different values, got {', '.join(values) or 'none'}")
    return tuple(values)


def _counts(name: str, value: object) -> tuple[str, ...]:
    """Return whole numbers from 1 as texts."""
    for number in _listed(value):
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise InputError(f"{name}: expected whole numbers from 1, got {number!r:.80}")
    return _different(name, [str(number) for number in _listed(value)])


def _bias(value: object) -> tuple[str, ...]:
    for switch in _listed(value):
        if not isinstance(switch, bool):
            raise InputError(f"bias: expected true, false or [false, true], got {switch!r:.80}")
    return _different("bias", [f"{switch:d}" for switch in _listed(value)])


def _ratios(value: object, widths: Sequence[str]) -> tuple[str, ...]:
    for ratio in _listed(value):
        if not isinstance(ratio, (int, float)) or isinstance(ratio, bool) or not 0 < ratio < 1000:
            raise InputError(f"ratio: expected numbers above 0, such as [2, 3, 4], got {ratio!r:.80}")
        for width in widths:
            if abs(float(f"{ratio:g}") * int(width) % 1) > 1e-9:
                raise InputError(f"ratio: expected a whole number of features, but {ratio:g} x {width} is none")
    return _different("ratio", [f"{ratio:g}" for ratio in _listed(value)])


class _HWGPTSpace(GPTSpace):
    """A space of HW-GPT-Bench (Sukthanker 2024): parallel attention and MLP, and half of a head's features rotate."""

    widths: tuple[int, ...]
    layer_counts: tuple[int, ...]
    head_counts: tuple[int, ...]

    def __init__(self, context: int = 1024) -> None:
        super().__init__(self.widths, self.layer_counts, self.head_counts, context=context, parallel=True, rotary=32)
        self.name = self.kind if context == 1024 else f"{self.kind} context={context}"


class GPTSmallSpace(_HWGPTSpace):
    """HW-GPT-Bench's small space: widths 192, 384 and 768, 10 to 12 layers, and a layer 4, 8 or 12 heads.

    Args:
        context: tokens of the input.
    """

    kind = "gpt-s"
    widths, layer_counts, head_counts = (192, 384, 768), (10, 11, 12), (4, 8, 12)


class GPTMediumSpace(_HWGPTSpace):
    """HW-GPT-Bench's medium space: widths 256, 512 and 1024, 22 to 24 layers, and a layer 8, 12 or 16 heads.

    Args:
        context: tokens of the input.
    """

    kind = "gpt-m"
    widths, layer_counts, head_counts = (256, 512, 1024), (22, 23, 24), (8, 12, 16)


class GPTLargeSpace(_HWGPTSpace):
    """HW-GPT-Bench's large space: widths 320, 640 and 1280, 34 to 36 layers, and a layer 8, 16 or 20 heads.

    Args:
        context: tokens of the input.
    """

    kind = "gpt-l"
    widths, layer_counts, head_counts = (320, 640, 1280), (34, 35, 36), (8, 16, 20)
