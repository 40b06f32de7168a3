"""Shape inference: the shapes of results and of parameters, from an operation's kind, attributes and inputs.

A string states a shape only where it differs from the inferred one. A rule that does not fit therefore costs length,
never correctness, and an operation without a rule is written out in full.

Names of operations. Operations that have several names in ATen have one here: ``conv``, ``deconv`` (transposed
convolution), ``linear`` (matrix product with a parameter), ``matmul`` (any other matrix product), ``bn``,
``layer_norm``, ``group_norm``, ``attention``, ``max_pool1d`` to ``max_pool3d``, ``reshape``, ``permute`` and ``alias``
(``nn.Identity``). These are not in ATen:

- ``input`` and ``output``: arguments and results of the network;
- ``unused``: parameters that no operation reads;
- ``rotary``: positions of the built-in language models, which rotate the first ``features`` of a head;
- ``constant``: a tensor that is neither an input nor a parameter nor the result of an operation;
- ``update``: the first input after the other inputs, which were computed in place, overwrote parts of it. ``offset``
  lists the number of elements before each part; ``stride`` lists, part by part, the distance between neighbours along
  each dimension longer than one. Zero offsets and strides without gaps are left out. An ``as_strided`` that the
  recorder inserts has the same attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

from freerea_seval.strings.graph.ir import Shape, Spec, Value, Weight, integers

Attributes = Mapping[str, Value]
_Rule = Callable[[Attributes, Sequence[Shape]], "Shape | list[Shape]"]

CONVOLUTIONS = ("conv", "deconv")
POOLS = tuple(f"{how}_pool{n}d" for how in ("avg", "max") for n in (1, 2, 3))
ADAPTIVE_POOLS = tuple(f"adaptive_{pool}" for pool in POOLS)
#: Operations with a window: the attributes k, s, p, d (and o) have one size per spatial dimension.
WINDOWS = (*CONVOLUTIONS, *POOLS)
#: The attribute that strings write without its name; for all other operations ``other``, the scalar of arithmetic.
BARE = {"conv": "out", "deconv": "out", "linear": "out", "embedding": "out"}
#: Operations that read two tensors by default.
BINARY = frozenset(("add", "sub", "mul", "div", "matmul", "cat", "maximum", "minimum"))
#: Operations that are commutative as long as they have no attributes.
COMMUTATIVE = frozenset(("add", "mul", "maximum", "minimum"))
#: Operations without results.
SINKS = frozenset(("output", "unused"))
#: More results than this are written out, since a malformed string could ask for any number.
_MAX_PIECES = 4096
_COMPARISONS = frozenset(("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_not", "isnan"))
_REDUCTIONS = frozenset(("mean", "sum", "amax", "amin", "prod", "var", "std", "any", "all", "argmax", "argmin"))


def spatial(kind: str, shape: Shape) -> int:
    """Return the number of spatial dimensions of a convolution or pool."""
    return len(shape) - 2 if kind in CONVOLUTIONS else int(kind[-2])


def is_floating(dtype: str) -> bool:
    """Return whether a dtype holds floating-point or complex numbers."""
    return dtype.startswith(("float", "bfloat", "complex"))


def channels(kind: str, specs: Sequence[Spec]) -> int | None:
    """Return the default output width of an operation, which is that of its input; None if it has no default."""
    axis = -1 if kind == "linear" else 1
    if kind not in BARE or kind == "embedding" or not specs or len(specs[0].shape) < 2 + axis:
        return None
    return specs[0].shape[axis]


def window_defaults(
    kind: str, kernel: Value | None, dilation: Value | None, specs: Sequence[Spec]
) -> dict[str, Value | None] | None:
    """Return the default values of a window's attributes; None if kernel or dilation do not fit the input."""
    n = spatial(kind, specs[0].shape) if specs else 0
    if not isinstance(kernel, tuple) or len(kernel) != n or n < 1:
        return None
    if dilation is None:
        dilation = (1,) * n
    if not isinstance(dilation, tuple) or len(dilation) != n:
        return None
    one = (1,) * n
    # "Same" padding for odd kernels at stride 1.
    half = tuple(d * (size - 1) // 2 for size, d in zip(kernel, dilation, strict=True))
    defaults: dict[str, Value | None] = {"k": None, "s": one, "p": half}
    if not kind.startswith("avg"):
        defaults["d"] = one
    if kind == "deconv":
        defaults["o"] = (0,) * n
    if kind in CONVOLUTIONS:
        defaults["g"] = 1
    return defaults


def infer_results(
    kind: str, attributes: Attributes, specs: Sequence[Spec], weights: Sequence[Weight]
) -> tuple[Spec, ...] | None:
    """Return the inferred results of an operation; None if no rule applies.

    Args:
        kind, attributes: of the operation.
        specs: shapes and dtypes of the inputs that other nodes produce.
        weights: the inputs that are parameters.
    """
    if kind in SINKS:
        return ()
    if not specs and not weights:
        return None
    try:
        if kind in _RULES:
            shapes = _RULES[kind](attributes, [spec.shape for spec in specs])
        else:
            shapes = _broadcast([*(spec.shape for spec in specs), *(weight.shape for weight in weights)])
    except (LookupError, ValueError, TypeError, ZeroDivisionError):
        return None  # an operation of the same name with other attributes, or a malformed string
    dtype = infer_dtype(kind, specs, weights)
    return tuple(Spec(shape, dtype) for shape in (shapes if isinstance(shapes, list) else [shapes]))


def infer_dtype(kind: str, specs: Sequence[Spec], weights: Sequence[Weight]) -> str:
    """Return the inferred dtype of an operation's results."""
    if kind in _COMPARISONS:
        return "bool"
    if kind in ("argmax", "argmin"):
        return "int64"
    dtypes = [*(spec.dtype for spec in specs), *(weight.dtype for weight in weights)]
    floating = next(filter(is_floating, dtypes), None)
    return floating or ("float32" if kind == "embedding" or not dtypes else dtypes[0])


def infer_weights(kind: str, attributes: Attributes, specs: Sequence[Spec]) -> list[Shape]:
    """Return the inferred shapes of the parameters that an operation reads."""
    if len(specs) != 1 or attributes.get("plain"):
        return []
    shape = specs[0].shape
    try:
        if kind in CONVOLUTIONS:
            groups, out, kernel = _int(attributes["g"]), _int(attributes["out"]), integers(attributes["k"])
            weight = (out, shape[1] // groups, *kernel) if kind == "conv" else (shape[1], out // groups, *kernel)
            return [weight, (out,)] if attributes.get("b") else [weight]
        if kind == "linear":
            out = _int(attributes["out"])
            return [(out, shape[-1]), (out,)] if attributes.get("b") else [(out, shape[-1])]
        if kind in ("bn", "group_norm"):
            return [(shape[1],)] * 2
        if kind == "layer_norm":
            return [shape[-1:]] * 2
        if kind == "embedding":
            return [(_int(attributes["num"]), _int(attributes["out"]))]
    except (IndexError, KeyError, TypeError, ZeroDivisionError):
        pass
    return []


# Rules. Each maps an operation's attributes and the shapes of its inputs to the shape of its result, or to a list of
# shapes for several results. An exception means that the rule does not apply.


def _int(value: Value) -> int:
    (number,) = integers(value)
    return number


def _dims(value: Value, rank: int) -> tuple[int, ...]:
    return tuple(dim % rank for dim in integers(value))


def _unchanged(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    return shapes[0]


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    sizes = []
    for column in zip(*padded, strict=True):
        different = set(column) - {1}
        if len(different) > 1:
            raise ValueError
        sizes.append(different.pop() if different else 1)
    return tuple(sizes)


def _window(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    """Convolution and pooling, by the formulas in torch's documentation of Conv2d and MaxPool2d."""
    shape, n = shapes[0], len(integers(attributes["k"]))
    kernel, stride, padding = (integers(attributes[name]) for name in "ksp")
    dilation = integers(attributes.get("d", (1,) * n))
    sizes = []
    for size, k, s, p, d in zip(shape[-n:], kernel, stride, padding, dilation, strict=True):
        span = size + 2 * p - d * (k - 1) - 1
        count = (-(-span // s) if attributes.get("ceil_mode") else span // s) + 1
        if attributes.get("ceil_mode") and (count - 1) * s >= size + p:
            count -= 1  # the last window must start inside the input or its left padding
        sizes.append(count)
    front = (shape[0], _int(attributes["out"])) if "out" in attributes else shape[:-n]
    return (*front, *sizes)


def _transposed(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    """Transposed convolution, by the formula in torch's documentation of ConvTranspose2d."""
    geometry = (integers(attributes[name]) for name in "kspdo")
    sizes = [
        (size - 1) * s - 2 * p + d * (k - 1) + o + 1
        for size, k, s, p, d, o in zip(shapes[0][2:], *geometry, strict=True)
    ]
    return (shapes[0][0], _int(attributes["out"]), *sizes)


def _matmul(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    first, second = shapes
    return (*_broadcast([first[:-2], second[:-2]]), first[-2], second[-1])


def _replaced(attributes: Attributes, shape: Shape, *sizes: int) -> Shape:
    """Return a shape with dimension ``dim`` replaced."""
    dim = _int(attributes.get("dim", 0))
    return (*shape[:dim], *sizes, *shape[dim + 1 :])


def _size(attributes: Attributes, shape: Shape) -> int:
    return shape[_int(attributes.get("dim", 0))]


def _cat(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    return _replaced(attributes, shapes[0], sum(_size(attributes, shape) for shape in shapes))


def _slice(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    start, step = _int(attributes.get("start", 0)), _int(attributes.get("step", 1))
    end = _int(attributes.get("end", _size(attributes, shapes[0])))
    return _replaced(attributes, shapes[0], -(-(end - start) // step))


def _select(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    return _replaced(attributes, shapes[0])


def _split(attributes: Attributes, shapes: Sequence[Shape]) -> list[Shape]:
    sizes = attributes["sizes"]
    if isinstance(sizes, int):
        whole, rest = divmod(_size(attributes, shapes[0]), sizes)
        if whole > _MAX_PIECES:
            raise ValueError
        sizes = (sizes,) * whole + ((rest,) if rest else ())
    return [_replaced(attributes, shapes[0], size) for size in integers(sizes)]


def _unbind(attributes: Attributes, shapes: Sequence[Shape]) -> list[Shape]:
    count = _size(attributes, shapes[0])
    if count > _MAX_PIECES:
        raise ValueError
    return [_replaced(attributes, shapes[0])] * count


def _reduce(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    shape = shapes[0]
    dims = _dims(attributes["dim"], len(shape)) if "dim" in attributes else tuple(range(len(shape)))
    if attributes.get("keepdim"):
        return tuple(1 if dim in dims else size for dim, size in enumerate(shape))
    return tuple(size for dim, size in enumerate(shape) if dim not in dims)


def _adaptive(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    sizes = integers(attributes["output_size"])
    return (*shapes[0][: -len(sizes)], *sizes)


#: The rule of every operation that has one; the inputs of all others are broadcast, as arithmetic does.
_RULES: dict[str, _Rule] = {
    "conv": _window,
    "deconv": _transposed,
    **dict.fromkeys(POOLS, _window),
    **dict.fromkeys(ADAPTIVE_POOLS, _adaptive),
    "linear": lambda attributes, shapes: (*shapes[0][:-1], _int(attributes["out"])),
    "embedding": lambda attributes, shapes: (*shapes[0], _int(attributes["out"])),
    "matmul": _matmul,
    **dict.fromkeys(("attention", "flex_attention"), lambda attributes, shapes: (*shapes[0][:-1], shapes[2][-1])),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    "reshape": lambda attributes, shapes: (shapes[0][0], prod(shapes[0][1:])),  # flattens all but the batch
    "permute": lambda attributes, shapes: tuple(shapes[0][dim] for dim in _dims(attributes["dims"], len(shapes[0]))),
    "cat": _cat,
    "slice": _slice,
    "select": _select,
    "split": _split,
    "unbind": _unbind,
    **dict.fromkeys(("bn", "layer_norm", "group_norm", "softmax", "masked_fill"), _unchanged),
}
