"""What follows from an operation's kind, attributes and inputs: the shapes of results and parameters.

Whatever follows from here need not be said in a string, which says only what differs from these rules. A rule is
therefore never wrong, only more or less helpful, and an operation without one is written out in full.

Kinds that have several names in ATen have one here: ``conv``, ``deconv``, ``linear`` (a matrix product with a
parameter), ``matmul`` (any other), ``bn``, ``layer_norm``, ``group_norm``, ``attention``, ``max_pool1d`` to
``max_pool3d``, ``reshape``, ``permute``, ``alias`` (``nn.Identity``).

Kinds that are not in ATen: ``input``, ``output``, ``unused`` (parameters that nothing reads), ``constant`` (a tensor
that is neither input nor parameter nor made by an operation), ``update`` (the first input, with the others, which
were made in place, written over parts of it: ``offset`` says how many elements come before each, ``stride`` how many
lie from one to the next in each of its dimensions longer than one, part by part; offsets of 0 and strides without gaps
go without saying; an ``as_strided`` that no network called is read in the same way).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

from freerea_seval.strings.graph.ir import Shape, Spec, Value, Weight, integers

Attributes = Mapping[str, Value]
_Rule = Callable[[Attributes, Sequence[Shape]], "Shape | list[Shape]"]

CONVOLUTIONS = ("conv", "deconv")
POOLS = tuple(f"{how}_pool{n}d" for how in ("avg", "max") for n in (1, 2, 3))
#: Kinds with a window: attributes k, s, p, d (and o) have one size a spatial dimension.
WINDOWS = (*CONVOLUTIONS, *POOLS)
#: The attribute that is written without its name; ``other``, the scalar of arithmetic, for all other kinds.
BARE = {"conv": "out", "deconv": "out", "linear": "out", "embedding": "out"}
#: Kinds that read two tensors unless something is said.
BINARY = frozenset(("add", "sub", "mul", "div", "matmul", "cat", "maximum", "minimum"))
#: Kinds whose result does not depend on the order of their first two inputs, at their default attributes.
COMMUTATIVE = frozenset(("add", "mul", "maximum", "minimum"))
#: Kinds without results.
SINKS = frozenset(("output", "unused"))
#: More results are written out: a string that nobody wrote could ask for any number.
_MOST_PIECES = 4096
_COMPARISONS = frozenset(("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_not", "isnan"))
_REDUCTIONS = frozenset(("mean", "sum", "amax", "amin", "prod", "var", "std", "any", "all", "argmax", "argmin"))


def spatial(kind: str, shape: Shape) -> int:
    """Return how many dimensions a kind's window has."""
    return len(shape) - 2 if kind in CONVOLUTIONS else int(kind[-2])


def is_floating(dtype: str) -> bool:
    """Return whether a dtype is of floating-point or complex numbers."""
    return dtype.startswith(("float", "bfloat", "complex"))


def predicted_results(
    kind: str, attributes: Attributes, specs: Sequence[Spec], weights: Sequence[Weight]
) -> tuple[Spec, ...] | None:
    """Return what an operation yields, by its rule; None where no rule says it.

    Args:
        kind, attributes: of the operation.
        specs: its inputs that other nodes make.
        weights: its inputs that are parameters.
    """
    if kind in SINKS:
        return ()
    if not specs and not weights:
        return None
    dtype = predicted_dtype(kind, specs, weights)
    try:
        if kind in _RULES:
            shapes = _RULES[kind](attributes, [spec.shape for spec in specs])
        else:
            shapes = _broadcast([*(spec.shape for spec in specs), *(weight.shape for weight in weights)])
    except (LookupError, ValueError, TypeError, ZeroDivisionError):
        return None  # the attributes do not fit the rule, as with an operation of the same name
    return tuple(Spec(shape, dtype) for shape in (shapes if isinstance(shapes, list) else [shapes]))


def predicted_dtype(kind: str, specs: Sequence[Spec], weights: Sequence[Weight]) -> str:
    """Return the dtype of an operation's results, by its rule."""
    if kind in _COMPARISONS:
        return "bool"
    if kind in ("argmax", "argmin"):
        return "int64"
    dtypes = [*(spec.dtype for spec in specs), *(weight.dtype for weight in weights)]
    floating = next(filter(is_floating, dtypes), None)
    return floating or ("float32" if kind == "embedding" or not dtypes else dtypes[0])


def predicted_weights(kind: str, attributes: Attributes, specs: Sequence[Spec]) -> list[Shape]:
    """Return the shapes of the parameters that an operation reads, by its rule."""
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


def _int(value: Value) -> int:
    (number,) = integers(value)
    return number


def _dims(value: Value, rank: int) -> tuple[int, ...]:
    return tuple(dim % rank for dim in integers(value))


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
    """Return the shape behind a convolution or a pool (torch's documentation of Conv2d and MaxPool2d)."""
    shape, n = shapes[0], len(integers(attributes["k"]))
    kernel, stride, padding = (integers(attributes[name]) for name in "ksp")
    dilation = integers(attributes.get("d", (1,) * n))
    sizes = []
    for size, k, s, p, d in zip(shape[-n:], kernel, stride, padding, dilation, strict=True):
        span = size + 2 * p - d * (k - 1) - 1
        count = (-(-span // s) if attributes.get("ceil_mode") else span // s) + 1
        if attributes.get("ceil_mode") and (count - 1) * s >= size + p:
            count -= 1  # the last window must begin inside the input or its left padding
        sizes.append(count)
    front = (shape[0], _int(attributes["out"])) if "out" in attributes else shape[:-n]
    return (*front, *sizes)


def _transposed(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    kernel, stride, padding, dilation, more = (integers(attributes[name]) for name in "kspdo")
    sizes = zip(shapes[0][2:], kernel, stride, padding, dilation, more, strict=True)
    return (
        shapes[0][0],
        _int(attributes["out"]),
        *((z - 1) * s - 2 * p + d * (k - 1) + o + 1 for z, k, s, p, d, o in sizes),
    )


def _matmul(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    first, second = shapes
    return (*_broadcast([first[:-2], second[:-2]]), first[-2], second[-1])


def _cat(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    dim = _int(attributes.get("dim", 0))
    first = shapes[0]
    return (*first[:dim], sum(shape[dim] for shape in shapes), *first[dim + 1 :])


def _reduce(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    shape = shapes[0]
    dims = _dims(attributes["dim"], len(shape)) if "dim" in attributes else tuple(range(len(shape)))
    if attributes.get("keepdim"):
        return tuple(1 if dim in dims else size for dim, size in enumerate(shape))
    return tuple(size for dim, size in enumerate(shape) if dim not in dims)


def _slice(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    dim = _int(attributes.get("dim", 0))
    shape = shapes[0]
    start, step = _int(attributes.get("start", 0)), _int(attributes.get("step", 1))
    end = _int(attributes.get("end", shape[dim]))
    return (*shape[:dim], -(-(end - start) // step), *shape[dim + 1 :])


def _select(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    dim = _int(attributes.get("dim", 0))
    return (*shapes[0][:dim], *shapes[0][dim + 1 :])


def _split(attributes: Attributes, shapes: Sequence[Shape]) -> list[Shape]:
    dim, shape, sizes = _int(attributes.get("dim", 0)), shapes[0], attributes["sizes"]
    if isinstance(sizes, int):
        whole, rest = divmod(shape[dim], sizes)
        if whole > _MOST_PIECES:
            raise ValueError
        sizes = (sizes,) * whole + ((rest,) if rest else ())
    return [(*shape[:dim], size, *shape[dim + 1 :]) for size in integers(sizes)]


def _unbind(attributes: Attributes, shapes: Sequence[Shape]) -> list[Shape]:
    dim = _int(attributes.get("dim", 0))
    if shapes[0][dim] > _MOST_PIECES:
        raise ValueError
    return [_select(attributes, shapes)] * shapes[0][dim]


def _permute(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    return tuple(shapes[0][dim] for dim in _dims(attributes["dims"], len(shapes[0])))


def _adaptive(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    sizes = integers(attributes["output_size"])
    return (*shapes[0][: -len(sizes)], *sizes)


_RULES: dict[str, _Rule] = {
    "conv": _window,
    "deconv": _transposed,
    **dict.fromkeys(POOLS, _window),
    "linear": lambda attributes, shapes: (*shapes[0][:-1], _int(attributes["out"])),
    "embedding": lambda attributes, shapes: (*shapes[0], _int(attributes["out"])),
    "matmul": _matmul,
    "attention": lambda attributes, shapes: (*shapes[0][:-1], shapes[2][-1]),
    "cat": _cat,
    **dict.fromkeys(_REDUCTIONS, _reduce),
    "reshape": lambda attributes, shapes: (shapes[0][0], prod(shapes[0][1:])),
    "permute": _permute,
    "slice": _slice,
    "select": _select,
    "split": _split,
    "unbind": _unbind,
    **{f"adaptive_{how}_pool{n}d": _adaptive for how in ("avg", "max") for n in (1, 2, 3)},
    **dict.fromkeys(("bn", "layer_norm", "group_norm", "softmax", "masked_fill"), lambda attributes, shapes: shapes[0]),
}
