"""What the operators of ONNX compute, in torch: the calls that a module's author would have written.

Each function takes a :class:`Call` and returns one tensor or several. Where ONNX has an input for what torch takes as
a number or a list, such as the shape of a reshape, its values must not depend on weights or inputs of the network.

Reference: https://onnx.ai/onnx/operators
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from freerea_patch import InputError
from freerea_seval.strings.trace import onnx_patterns as patterns
from freerea_seval.strings.trace.onnx_file import LINEAR, MASKED, dtype_of

Result = Tensor | Sequence[Tensor | None]


@dataclass(frozen=True)
class Call:
    """The arguments of one operation.

    Attributes:
        inputs: the operands; None for one that is left out.
        known: their values where these depend on neither weights nor inputs.
        attributes: of the operation.
        opset: version of the operators.
        outputs: number of results.
    """

    inputs: Sequence[Tensor | None]
    known: Sequence[Tensor | None]
    attributes: Mapping[str, Any]
    opset: int
    outputs: int

    def __getitem__(self, index: int) -> Tensor:
        value = self.get(index)
        if value is None:
            raise InputError(f"it has no input {index + 1}")
        return value

    def __len__(self) -> int:
        return len(self.inputs)

    def get(self, index: int) -> Tensor | None:
        """Return an operand; None if it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute, texts as such."""
        value = self.attributes.get(name, default)
        if isinstance(value, float):
            return _shortest(value)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def values(self, index: int, name: str = "", default: Any = None) -> Any:
        """Return numbers that are an input, or in older operator sets the attribute ``name``.

        Raises:
            InputError: they depend on weights or inputs of the network.
        """
        if self.get(index) is None:
            return self.attributes.get(name, default)
        known = self.known[index]
        if known is None:
            raise InputError(f"its input {index + 1} depends on what the network computes; export fixed shapes")
        return known.tolist()

    def number(self, index: int, name: str = "", default: Any = None) -> Any:
        """Return one number; see :meth:`values`."""
        value = self.values(index, name, default)
        while isinstance(value, list):
            (value,) = value
        return _shortest(value) if isinstance(value, float) else value

    def operands(self) -> list[Any]:
        """Return the operands of arithmetic: stored numbers as such, unless all are."""
        unknown = [value for value, known in zip(self.inputs, self.known, strict=True) if known is None]
        rank = max((value.ndim for value in unknown if value is not None), default=-1)
        return [
            _item(known) if known is not None and known.numel() == 1 and known.ndim <= rank else self[index]
            for index, known in enumerate(self.known)
        ]

    def axis(self, default: int = 0) -> int:
        """Return the attribute ``axis``, counted from the front."""
        return int(self.attribute("axis", default)) % max(self[0].ndim, 1)


def _shortest(value: float) -> float:
    """Return the shortest decimal number that is this one in single precision, such as 0.1 for what a file has."""
    short = float(str(np.float32(value)))
    return short if np.float32(short) == value else value


def _item(tensor: Tensor) -> Any:
    value = tensor.item()
    return _shortest(value) if isinstance(value, float) else value


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[Call], Tensor]:
    def run(c: Call) -> Tensor:
        first, second = c.operands()
        result: Tensor = function(first, second)
        return result

    return run


def _unary(function: Callable[[Tensor], Tensor]) -> Callable[[Call], Tensor]:
    return lambda c: function(c[0])


def _divide(first: Any, second: Any) -> Tensor:
    floating = any(isinstance(x, float) or (isinstance(x, Tensor) and x.is_floating_point()) for x in (first, second))
    if floating:
        quotient: Tensor = first / second
        return quotient
    return torch.div(first, second, rounding_mode="trunc")


def _extreme(function: Callable[[Tensor, Tensor], Tensor], bound: str) -> Callable[[Call], Tensor]:
    def run(c: Call) -> Tensor:
        operands = c.operands()
        numbers = [operand for operand in operands if not isinstance(operand, Tensor)]
        tensors = [operand for operand in operands if isinstance(operand, Tensor)]
        result = reduce(function, tensors)
        return torch.clamp(result, **{bound: numbers[0]}) if numbers else result

    return run


def _spatial(c: Call) -> int:
    n = c[0].ndim - 2
    if n not in (1, 2, 3):
        raise InputError(f"its input has {c[0].ndim} dimensions; expected 3, 4 or 5")
    return n


def _padding(c: Call, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> tuple[list[int], ...]:
    """Return the padding before and behind each spatial dimension."""
    n = len(kernel)
    auto = c.attribute("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        sizes = c[0].shape[2:]
        totals = [
            max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
            for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)
        ]
        small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
        return (small, large) if auto == "SAME_UPPER" else (large, small)
    pads = [0] * 2 * n if auto == "VALID" else list(c.attribute("pads", [0] * 2 * n))
    return pads[:n], pads[n:]


def _explicit(x: Tensor, before: Sequence[int], behind: Sequence[int], value: float = 0.0) -> Tensor:
    """Pad the last dimensions."""
    pairs = [pad for pair in zip(reversed(before), reversed(behind), strict=True) for pad in pair]
    return F.pad(x, pairs, value=value)


def _convolution(c: Call) -> Tensor:
    n = _spatial(c)
    x, weight = c[0], c[1]
    stride, dilation = (list(c.attribute(name, [1] * n)) for name in ("strides", "dilations"))
    before, behind = _padding(c, weight.shape[2:], stride, dilation)
    if before != behind:
        x, before = _explicit(x, before, behind), [0] * n
    convolution: Any = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
    result: Tensor = convolution(x, weight, c.get(2), stride, before, dilation, c.attribute("group", 1))
    return result


def _transposed_convolution(c: Call) -> Tensor:
    n = _spatial(c)
    weight = c[1]
    stride, dilation = (list(c.attribute(name, [1] * n)) for name in ("strides", "dilations"))
    extra = list(c.attribute("output_padding", [0] * n))
    kernel = weight.shape[2:]
    shape = c.attribute("output_shape")
    auto = c.attribute("auto_pad", "NOTSET")
    if shape or auto.startswith("SAME"):
        target = shape or [size * s for size, s in zip(c[0].shape[2:], stride, strict=True)]
        totals = [
            s * (size - 1) + o + (k - 1) * d + 1 - wanted
            for size, s, o, k, d, wanted in zip(
                c[0].shape[2:], stride, extra, kernel, dilation, target[-n:], strict=True
            )
        ]
        extra = [o + max(-total, 0) for o, total in zip(extra, totals, strict=True)]
        totals = [max(total, 0) for total in totals]
        before = [total // 2 for total in totals]
        behind = [total - one for total, one in zip(totals, before, strict=True)]
        if auto != "SAME_UPPER":
            before, behind = behind, before
    else:
        before, behind = _padding(c, kernel, stride, dilation)
    convolution: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[n - 1]
    same = before == behind
    pads = before if same else [0] * n
    x: Tensor = convolution(c[0], weight, c.get(2), stride, pads, extra, c.attribute("group", 1), dilation)
    return x if same else _explicit(x, [-pad for pad in before], [-pad for pad in behind])


def _pool(c: Call, how: str) -> Result:
    n = _spatial(c)
    kernel = list(c.attribute("kernel_shape"))
    stride, dilation = (list(c.attribute(name, [1] * n)) for name in ("strides", "dilations"))
    before, behind = _padding(c, kernel, stride, dilation)
    x, ceil, include = c[0], bool(c.attribute("ceil_mode", 0)), bool(c.attribute("count_include_pad", 0))
    separate = before != behind or any(2 * pad > k for pad, k in zip(before, kernel, strict=True))
    if separate and ceil:  # the last window begins inside of the input or its padding in front
        for axis, size in enumerate(x.shape[2:]):
            span = dilation[axis] * (kernel[axis] - 1) + 1
            steps = -(-(size + before[axis] + behind[axis] - span) // stride[axis])
            steps = min(steps, (size + before[axis] - 1) // stride[axis])
            behind[axis] = max(steps * stride[axis] + span - size - before[axis], 0)
        ceil = False
    if how == "max":
        if separate:
            x, before = _explicit(x, before, behind, float("-inf")), [0] * n
        pool: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[n - 1]
        pooled: Tensor = pool(x, kernel, stride, before, dilation, ceil)
        return (pooled, *[None] * (c.outputs - 1))
    if any(d > 1 for d in dilation):
        raise InputError("average pooling with dilations has no counterpart")
    average: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[n - 1]
    if not separate:
        result: Tensor = average(x, kernel, stride, before, ceil, include)
        return result
    result = average(_explicit(x, before, behind), kernel, stride)
    if not include and not x.is_meta:
        # The padding is not counted: the average of ones that are padded likewise corrects the values.
        result = result / average(_explicit(torch.ones_like(x), before, behind), kernel, stride)
    return result


def _global_pool(how: str) -> Callable[[Call], Tensor]:
    def run(c: Call) -> Tensor:
        pool: Tensor = getattr(F, f"adaptive_{how}_pool{_spatial(c)}d")(c[0], 1)
        return pool

    return run


def _batch_norm(c: Call) -> Result:
    if c.attribute("training_mode", 0):
        raise InputError("training mode has no counterpart; export the network in evaluation mode")
    # Without parameters of its own, it scales by stored ones.
    plain = c.get(1) is None or (c.known[1] is not None and c.known[2] is not None)
    weight, bias = (None, None) if plain else (c[1], c[2])
    x = F.batch_norm(c[0], c[3], c[4], weight, bias, False, 0.0, c.attribute("epsilon", 1e-5))
    return (x, *[None] * (c.outputs - 1))


def _instance_norm(c: Call) -> Tensor:
    return F.instance_norm(c[0], weight=c[1], bias=c[2], eps=c.attribute("epsilon", 1e-5))


def _layer_norm(c: Call) -> Result:
    axis = c.axis(-1)
    x = F.layer_norm(c[0], c[0].shape[axis:], c[1], c.get(2), c.attribute("epsilon", 1e-5))
    return (x, *[None] * (c.outputs - 1))


def _fused_layer_norm(c: Call) -> Tensor:
    rank = c[1].ndim
    return F.layer_norm(c[0], c[0].shape[c[0].ndim - rank :], c[1], c[2], c.number(3))


def _rms_norm(c: Call) -> Tensor:
    return F.rms_norm(c[0], c[0].shape[c.axis(-1) :], c[1], c.attribute("epsilon", 1e-5))


def _group_norm(c: Call) -> Tensor:
    groups, weight, bias = c.attribute("num_groups"), c[1], c[2]
    if weight.numel() == groups != c[0].shape[1]:  # before operator set 21, one number a group
        weight, bias = (one.repeat_interleave(c[0].shape[1] // groups) for one in (weight, bias))
    return F.group_norm(c[0], groups, weight, bias, c.attribute("epsilon", 1e-5))


def _fused_group_norm(c: Call) -> Tensor:
    groups = c.values(3)[1]
    return F.group_norm(c[0], groups, c[1].reshape(-1), c[2].reshape(-1), c.attribute("epsilon", 1e-5))


def _gemm(c: Call) -> Tensor:
    first = c[0].t() if c.attribute("transA", 0) else c[0]
    alpha, beta = c.attribute("alpha", 1.0), c.attribute("beta", 1.0)
    bias = c.get(2)
    if bias is not None and bias.ndim == 2 and bias.shape[0] == 1:
        bias = bias.reshape(-1)
    plain = alpha == beta == 1.0 or (alpha == 1.0 and bias is None)
    if plain and c.attribute("transB", 0) and (bias is None or bias.ndim == 1):
        return F.linear(first, c[1], bias)
    second = c[1].t() if c.attribute("transB", 0) else c[1]
    if bias is None:
        product = first @ second
        return product if alpha == 1.0 else product * alpha
    return torch.addmm(bias, first, second, alpha=alpha, beta=beta)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, known: Tensor | None, **options: Any
) -> Tensor:
    """Return attention; a mask whose values are known to be those of causal attention, or none, is left out."""
    if known is not None:
        values = known.numpy()  # in NumPy, whose operations a trace does not show
        if known.dtype == torch.bool:
            values = np.where(values, 0.0, -np.inf)
        square = values.reshape(-1, *values.shape[-2:])
        lower = np.tri(*square.shape[1:]) > 0
        if not values.any():
            mask = None
        elif not square[:, lower].any() and (square[:, ~lower] < MASKED).all():
            mask, options["is_causal"] = None, True
    return F.scaled_dot_product_attention(query, key, value, mask, **options)


def _fused_attention(c: Call) -> Tensor:
    key = c[1].transpose(-1, -2) if c.attribute("turned") else c[1]
    mask, known = (c[5], c.known[5]) if len(c) > 5 else (None, None)
    return _attend(c[0], key, c[2], mask, known, scale=float(c.number(3)) * float(c.number(4)))


def _attention(c: Call) -> Result:
    query, key, value = c[0], c[1], c[2]
    usual = {"is_causal", "scale", "q_num_heads", "kv_num_heads", "softmax_precision", "qk_matmul_output_mode"}
    others = [name for name in c.attributes if name not in usual and c.attribute(name)]
    if c.outputs > 1 or any(value is not None for value in c.inputs[4:]) or others:
        raise InputError(f"attention with a cache or {', '.join(others) or 'lengths'} has no counterpart")
    heads, kv_heads = c.attribute("q_num_heads"), c.attribute("kv_num_heads")
    flat = query.ndim == 3
    if flat:
        query, key, value = (
            x.reshape(*x.shape[:2], n, -1).transpose(1, 2)
            for x, n in ((query, heads), (key, kv_heads), (value, kv_heads))
        )
    options: dict[str, Any] = {"enable_gqa": True} if query.shape[1] != key.shape[1] else {}
    options |= {"is_causal": bool(c.attribute("is_causal", 0)), "scale": c.attribute("scale")}
    x = _attend(query, key, value, c.get(3), c.known[3] if len(c) > 3 else None, **options)
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1) if flat else x


def _softmax(function: Callable[..., Tensor]) -> Callable[[Call], Tensor]:
    def run(c: Call) -> Tensor:
        x = c[0]
        if c.opset >= 13:
            return function(x, dim=c.attribute("axis", -1))
        axis = c.axis(1)
        if axis == x.ndim - 1:
            return function(x, dim=-1)
        return function(x.flatten(axis), dim=-1).reshape(x.shape)  # of all dimensions from the axis on

    return run


def _reshape(c: Call) -> Tensor:
    shape = list(c.values(1, "shape"))
    if not c.attribute("allowzero", 0):
        shape = [c[0].shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
    return c[0].reshape(shape)


def _unturned(c: Call) -> Tensor:
    *batch, rows, columns = c.values(1)
    return c[0].reshape(*batch, columns, rows)


def _flatten(c: Call) -> Tensor:
    axis = int(c.attribute("axis", 1))
    axis += c[0].ndim if axis < 0 else 0
    return c[0].reshape(prod(c[0].shape[:axis]), prod(c[0].shape[axis:]))


def _transpose(c: Call) -> Tensor:
    return c[0].permute(list(c.attribute("perm", range(c[0].ndim)[::-1])))


def _unsqueeze(c: Call) -> Tensor:
    axes = c.values(1, "axes")
    axes = [axes] if isinstance(axes, int) else axes
    rank = c[0].ndim + len(axes)
    x = c[0]
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(c: Call) -> Tensor:
    axes = c.values(1, "axes")
    x = c[0]
    if axes is None:
        return x.squeeze()
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.squeeze(axis)
    return x


def _expand(c: Call) -> Tensor:
    shape: torch.Size = torch.broadcast_shapes(c[0].shape, c.values(1))  # type: ignore[no-untyped-call]
    return c[0].expand(shape)


def _split(c: Call) -> Result:
    axis = c.axis()
    size = c[0].shape[axis]
    sizes = c.values(1, "split")
    if sizes is None:
        piece = -(-size // (c.attribute("num_outputs") or c.outputs))
        sizes = [piece] * (size // piece) + ([size % piece] if size % piece else [])
    return torch.split(c[0], sizes[0] if len(set(sizes)) == 1 else list(sizes), axis)


def _slice(c: Call) -> Tensor:
    starts, ends = c.values(1, "starts"), c.values(2, "ends")
    axes = c.values(3, "axes") or range(len(starts))
    steps = c.values(4) or [1] * len(starts)
    x = c[0]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= x.ndim
        begin, stop, stride = slice(start, end, step).indices(x.shape[axis])
        if step < 0:
            count = len(range(begin, stop, stride))
            first = begin + (count - 1) * step if count else 0
            x = x[(slice(None),) * axis + (slice(first, begin + 1 if count else 0, -step),)].flip(axis)
        elif (begin, stop, stride) != (0, x.shape[axis], 1):
            x = x[(slice(None),) * axis + (slice(begin, max(stop, begin), stride),)]
    return x


def _gather(c: Call) -> Tensor:
    axis, known = c.axis(), c.known[1]
    if known is not None and known.ndim == 0:
        return c[0].select(axis, int(known))
    index = c[1]
    if known is not None and (known.numpy() < 0).any():
        index = index.remainder(c[0].shape[axis])
    if axis == 0 and c[0].ndim == 2 and c.known[0] is None:
        return F.embedding(index, c[0])
    shape = (*c[0].shape[:axis], *index.shape, *c[0].shape[axis + 1 :])
    x = c[0].index_select(axis, index.reshape(-1))
    return x if index.ndim == 1 else x.reshape(shape)


def _gather_nd(c: Call) -> Tensor:
    if c.attribute("batch_dims", 0):
        raise InputError("batch_dims has no counterpart")
    return c[0][tuple(c[1].long().unbind(-1))]


def _scatter_nd(c: Call) -> Tensor:
    accumulate = c.attribute("reduction", "none")
    if accumulate not in ("none", "add"):
        raise InputError(f"the reduction {accumulate} has no counterpart")
    return c[0].index_put(tuple(c[1].long().unbind(-1)), c[2], accumulate == "add")


def _scatter(c: Call) -> Tensor:
    reduction = {"none": None, "add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[
        c.attribute("reduction", "none")
    ]
    if reduction is None:
        return c[0].scatter(c.axis(), c[1].long(), c[2])
    return c[0].scatter_reduce(c.axis(), c[1].long(), c[2], reduction)


def _pad(c: Call) -> Tensor:
    pads = c.values(1, "pads")
    axes = c.values(3) or range(len(pads) // 2)
    value = c.number(2, "value", 0.0) or 0
    pairs = [(0, 0)] * c[0].ndim
    for axis, before, behind in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        pairs[axis % c[0].ndim] = (before, behind)
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    mode = modes[c.attribute("mode", "constant")]
    flat = [pad for pair in reversed(pairs) for pad in pair]
    while flat[-2:] == [0, 0]:  # modes but "constant" pad the last dimensions only
        del flat[-2:]
    if not flat:
        return c[0]
    if mode == "constant":
        return F.pad(c[0], flat, value=value)
    return F.pad(c[0], flat, mode=mode)


def _resize(c: Call) -> Tensor:
    scales, sizes = (None, None)
    if len(c) < 3:  # Upsample, and Resize before operator set 11
        scales = c.values(1, "scales")
    else:
        scales, sizes = c.values(2), c.values(3) if len(c) > 3 else None
    axes = c.attribute("axes")
    n = c[0].ndim - 2
    policy = c.attribute("keep_aspect_ratio_policy", "stretch")
    if sizes and policy != "stretch":
        ratios = [size / c[0].shape[axis] for size, axis in zip(sizes, axes or range(c[0].ndim), strict=True)]
        scale = (max if policy == "not_smaller" else min)(ratios)
        sizes = [int(c[0].shape[axis] * scale + 0.5) for axis in axes or range(c[0].ndim)]
    shape = list(c[0].shape)
    factors = [1.0] * c[0].ndim
    for position, axis in enumerate(axes or range(c[0].ndim)):
        if sizes:
            shape[axis] = sizes[position]
        else:
            factors[axis] = scales[position]
            shape[axis] = int(shape[axis] * scales[position])
    if shape[:2] != list(c[0].shape[:2]):
        raise InputError("only the dimensions behind the channels can be resized")
    mode = c.attribute("mode", "nearest")
    modes = {"nearest": "nearest", "linear": ("linear", "bilinear", "trilinear")[n - 1], "cubic": "bicubic"}
    options: dict[str, Any] = {"mode": modes[mode]}
    if mode != "nearest":
        options["align_corners"] = c.attribute("coordinate_transformation_mode") == "align_corners"
    if sizes:
        return F.interpolate(c[0], shape[2:], **options)
    return F.interpolate(c[0], scale_factor=factors[2:], **options)


def _clip(c: Call) -> Tensor:
    low, high = c.get(1), c.get(2)
    if (low is not None and c.known[1] is None) or (high is not None and c.known[2] is None):
        return torch.clamp(c[0], low, high)
    least, most = c.number(1, "min"), c.number(2, "max")
    if least is most is None:
        return c[0]
    if (least, most) == (0, 6):
        return F.relu6(c[0])
    if (least, most) == (-1, 1):
        return F.hardtanh(c[0])
    return torch.clamp(c[0], least, most)


def _hard_sigmoid(c: Call) -> Tensor:
    alpha, beta = c.attribute("alpha", 0.2), c.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-4 and beta == 0.5:
        return F.hardsigmoid(c[0])
    return torch.clamp(c[0] * alpha + beta, 0, 1)


def _prelu(c: Call) -> Tensor:
    slope = c[1]
    if slope.numel() in (1, c[0].shape[1] if c[0].ndim > 1 else 1):
        return F.prelu(c[0], slope.reshape(-1))
    return torch.where(c[0] < 0, c[0] * slope, c[0])


def _reduction(function: Callable[..., Tensor]) -> Callable[[Call], Tensor]:
    """Return a reduction over axes, which are an attribute or, in later operator sets, the second input."""

    def run(c: Call) -> Tensor:
        axes = c.values(1, "axes")
        if not axes:
            if c.attribute("noop_with_empty_axes", 0):
                return c[0]
            axes = range(c[0].ndim)
        return function(c[0], [axis % c[0].ndim for axis in axes], bool(c.attribute("keepdims", 1)))

    return run


def _product(x: Tensor, axes: Sequence[int], keepdim: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim)
    return x


def _arg(function: Callable[..., Tensor]) -> Callable[[Call], Tensor]:
    return lambda c: function(c[0], c.axis(), bool(c.attribute("keepdims", 1)))


def _top_k(c: Call) -> Result:
    count = c.number(1, "k")
    largest, ordered = bool(c.attribute("largest", 1)), bool(c.attribute("sorted", 1))
    return tuple(torch.topk(c[0], count, c.axis(-1), largest, ordered))


def _cum_sum(c: Call) -> Tensor:
    axis, x = c.number(1), c[0]
    if c.attribute("reverse", 0):
        x = x.flip(axis)
    total = x.cumsum(axis)
    if c.attribute("exclusive", 0):
        total = total - x
    return total.flip(axis) if c.attribute("reverse", 0) else total


def _triangle(c: Call) -> Tensor:
    diagonal = c.number(1, default=0)
    return c[0].triu(diagonal) if c.attribute("upper", 1) else c[0].tril(diagonal)


def _one_hot(c: Call) -> Tensor:
    depth, (off, on) = c.number(1), c.values(2)
    axis = int(c.attribute("axis", -1))
    classes = torch.arange(depth, device=c[0].device)
    hot = c[0].long().remainder(depth).unsqueeze(-1) == classes
    if axis not in (-1, c[0].ndim):
        hot = hot.movedim(-1, axis)
    return torch.where(hot, on, off).to(c[2].dtype)


def _depth_to_space(c: Call) -> Tensor:
    block = c.attribute("blocksize")
    if c.attribute("mode", "DCR") == "CRD":
        return F.pixel_shuffle(c[0], block)
    n, channels, height, width = c[0].shape
    x = c[0].reshape(n, block, block, channels // block**2, height, width)
    return x.permute(0, 3, 4, 1, 5, 2).reshape(n, channels // block**2, height * block, width * block)


def _space_to_depth(c: Call) -> Tensor:
    block = c.attribute("blocksize")
    n, channels, height, width = c[0].shape
    x = c[0].reshape(n, channels, height // block, block, width // block, block)
    return x.permute(0, 3, 5, 1, 2, 4).reshape(n, channels * block**2, height // block, width // block)


def _shape(c: Call) -> Tensor:
    sizes = list(c[0].shape)[c.attribute("start", 0) : c.attribute("end")]
    return torch.tensor(sizes, dtype=torch.int64)


def _constant(c: Call) -> Tensor:
    for name, dtype in (("value_float", torch.float32), ("value_int", torch.int64)):
        for ending in ("", "s"):
            if (value := c.attribute(name + ending)) is not None:
                return torch.tensor(value, dtype=dtype)
    raise InputError("a constant of texts has no counterpart")


def _constant_of_shape(c: Call) -> Tensor:
    import onnx.numpy_helper

    proto = c.attribute("value")
    value = 0.0 if proto is None else onnx.numpy_helper.to_array(proto).item()
    dtype = torch.float32 if proto is None else dtype_of(proto.data_type)
    return torch.full([int(size) for size in c.values(0)], value, dtype=dtype)


def _range(c: Call) -> Tensor:
    start, end, step = (c.number(index) for index in range(3))
    return torch.arange(start, end, step, dtype=c[0].dtype)


def _cast(c: Call) -> Tensor:
    return c[0].to(dtype_of(c.attribute("to")))


def _where(c: Call) -> Tensor:
    condition, first, second = c.operands()
    if not isinstance(condition, Tensor):
        condition = c[0]
    first, second = (
        torch.as_tensor(x, dtype=like.dtype, device=like.device) if not isinstance(x, Tensor) else x
        for x, like in ((first, c[1]), (second, c[2]))
    )
    return torch.where(condition, first, second)


def _grid_sample(c: Call) -> Tensor:
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(*[c.attribute("mode", "linear")] * 2)
    padding = c.attribute("padding_mode", "zeros")
    return F.grid_sample(c[0], c[1], mode, padding, bool(c.attribute("align_corners", 0)))


def _lp_norm(c: Call) -> Tensor:
    return F.normalize(c[0], float(c.attribute("p", 2)), c.axis(-1), 0.0)


def _variance_norm(c: Call) -> Tensor:
    axes = list(c.attribute("axes", (0, 2, 3)))
    centred = c[0] - c[0].mean(axes, True)
    return centred / ((centred * centred).mean(axes, True).sqrt() + 1e-9)


def _recurrent(c: Call, kind: str) -> Result:
    """A recurrent layer, whose gates torch has in another order.

    Shapes: input ``(t, n, i)``; the first result is ``(t, directions, n, h)``. The inputs from the ninth on are the
    weights of each direction as torch has them: ``(gates h, i)``, ``(gates h, h)`` and two biases ``(gates h,)``.
    """
    x, hidden, weights = c[0], c.attribute("hidden_size"), c.inputs[8:]
    directions = 2 if c.attribute("direction") == "bidirectional" else 1
    custom = c.attribute("activations")
    usual = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[kind] * directions
    relu = kind == "RNN" and custom is not None and [name.decode() for name in custom] == ["Relu"] * directions
    if custom is not None and not relu and [name.decode() for name in custom] != usual:
        raise InputError("activations of its own have no counterpart")
    peepholes = kind == "LSTM" and c.get(7) is not None
    if c.attribute("clip") or c.attribute("layout", 0) or peepholes or c.attribute("direction") == "reverse":
        raise InputError("clipping, peepholes, another layout and the direction reverse have no counterpart")
    if kind == "GRU" and not c.attribute("linear_before_reset", 0):
        raise InputError("linear_before_reset=0 has no counterpart")
    order = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}[kind]  # ONNX: i o f c, and z r h

    def turned(weight: Tensor) -> Tensor:
        if weight.is_meta or len(order) == 1:
            return weight
        return torch.cat([weight.chunk(len(order))[gate] for gate in order])

    if not weights:
        raise InputError("weights that the network computes have no counterpart")
    flat = [turned(weight) for weight in weights if weight is not None]
    n = x.shape[1]
    states = []
    for index in (5, 6) if kind == "LSTM" else (5,):
        state = c.get(index)
        known = c.known[index] if state is not None else None
        if state is None or (known is not None and not known.numpy().any()):
            state = torch.zeros(directions, n, hidden, dtype=x.dtype, device=x.device)
        states.append(state)
    arguments: tuple[Any, ...] = (flat, len(flat) == 4 * directions, 1, 0.0, False, directions == 2, False)
    if kind == "LSTM":
        result, *last = torch.lstm(x, states, *arguments)
    else:
        run: Any = torch.gru if kind == "GRU" else torch.rnn_relu if relu else torch.rnn_tanh
        result, *last = run(x, states[0], *arguments)
    if directions == 1:
        return (result.unsqueeze(1), *last)
    return (result.reshape(*result.shape[:2], 2, hidden).transpose(1, 2), *last)


#: A trace shows identities by their modules.
_IDENTITY = nn.Identity()
_UNARY: dict[str, Callable[..., Tensor]] = {
    **{name.capitalize(): getattr(torch, name) for name in ("abs", "ceil", "erf", "exp", "floor", "log", "neg")},
    **{name.capitalize(): getattr(torch, name) for name in ("round", "sigmoid", "sign", "sqrt", "reciprocal", "tanh")},
    **{name.capitalize(): getattr(torch, name) for name in ("cos", "sin", "tan", "acos", "asin", "atan", "det")},
    **{name.capitalize(): getattr(torch, name) for name in ("cosh", "sinh", "acosh", "asinh", "atanh")},
    **{"Relu": F.relu, "Selu": F.selu, "Softplus": F.softplus, "Softsign": F.softsign, "Mish": F.mish},
    **{"Not": torch.logical_not, "IsNaN": torch.isnan, "IsInf": torch.isinf, "BitwiseNot": torch.bitwise_not},
    **{
        "HardSwish": F.hardswish,
        "Swish": F.silu,
        "Identity": lambda x: x if isinstance(x, nn.Parameter) else _IDENTITY(x),
    },
    **{
        patterns.LOG_SIGMOID: F.logsigmoid,
        patterns.SILU: F.silu,
        patterns.SOFTPLUS: F.softplus,
        patterns.RSQRT: torch.rsqrt,
        patterns.MISH: F.mish,
        patterns.GELU: F.gelu,
    },
    **{patterns.HARD_SWISH: F.hardswish, patterns.HARD_SIGMOID: F.hardsigmoid},
    patterns.GELU_TANH: lambda x: F.gelu(x, approximate="tanh"),
}
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    **{"Add": operator.add, "Sub": operator.sub, "Mul": operator.mul, "Div": _divide, "Pow": operator.pow},
    **{"Equal": operator.eq, "Less": operator.lt, "LessOrEqual": operator.le, "Greater": operator.gt},
    **{"GreaterOrEqual": operator.ge, "And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor},
    **{"BitwiseAnd": torch.bitwise_and, "BitwiseOr": torch.bitwise_or, "BitwiseXor": torch.bitwise_xor},
}
_REDUCTIONS: dict[str, Callable[..., Tensor]] = {
    "Mean": lambda x, axes, keep: x.mean(axes, keep),
    "Sum": lambda x, axes, keep: x.sum(axes, keep),
    "Max": lambda x, axes, keep: x.amax(axes, keep),
    "Min": lambda x, axes, keep: x.amin(axes, keep),
    "Prod": _product,
    "L1": lambda x, axes, keep: x.abs().sum(axes, keep),
    "L2": lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep),
    "SumSquare": lambda x, axes, keep: (x * x).sum(axes, keep),
    "LogSum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "LogSumExp": lambda x, axes, keep: x.logsumexp(axes, keep),
}
#: What each operator computes.
OPERATORS: dict[str, Callable[[Call], Result]] = {
    **{name: _unary(function) for name, function in _UNARY.items()},
    **{name: _binary(function) for name, function in _BINARY.items()},
    **{f"Reduce{name}": _reduction(function) for name, function in _REDUCTIONS.items()},
    **{kind: lambda c, kind=kind: _recurrent(c, kind) for kind in ("LSTM", "GRU", "RNN")},  # type: ignore[misc]
    patterns.LAYER_NORM: _fused_layer_norm,
    patterns.GROUP_NORM: _fused_group_norm,
    patterns.ATTENTION: _fused_attention,
    patterns.UNTURNED: _unturned,
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
    "Attention": _attention,
    "AveragePool": lambda c: _pool(c, "avg"),
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "CastLike": lambda c: c[0].to(c[1].dtype),
    "Celu": lambda c: F.celu(c[0], c.attribute("alpha", 1.0)),
    "Clip": _clip,
    "Concat": lambda c: torch.cat([c[index] for index in range(len(c))], c.axis()),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "CumSum": _cum_sum,
    "DepthToSpace": _depth_to_space,
    "Dropout": lambda c: (c[0], *[None] * (c.outputs - 1)),
    "Einsum": lambda c: torch.einsum(c.attribute("equation"), *[c[index] for index in range(len(c))]),
    "Elu": lambda c: F.elu(c[0], c.attribute("alpha", 1.0)),
    "Expand": _expand,
    "EyeLike": lambda c: torch.eye(*c[0].shape, dtype=dtype_of(c.attribute("dtype", 1)), device=c[0].device),
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": lambda c: c[0].gather(c.axis(), c[1].long()),
    "GatherND": _gather_nd,
    "Gelu": lambda c: F.gelu(c[0], approximate=c.attribute("approximate", "none")),
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool("avg"),
    "GlobalMaxPool": _global_pool("max"),
    "GridSample": _grid_sample,
    "GroupNormalization": _group_norm,
    "HardSigmoid": _hard_sigmoid,
    "InstanceNormalization": _instance_norm,
    "LRN": lambda c: F.local_response_norm(
        c[0], c.attribute("size"), c.attribute("alpha", 1e-4), c.attribute("beta", 0.75), c.attribute("bias", 1.0)
    ),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda c: F.leaky_relu(c[0], c.attribute("alpha", 0.01)),
    "LogSoftmax": _softmax(F.log_softmax),
    "LpNormalization": _lp_norm,
    LINEAR: lambda c: F.linear(c[0], c[1]),
    "MatMul": lambda c: torch.matmul(c[0], c[1]),
    "Max": _extreme(torch.maximum, "min"),
    "MaxPool": lambda c: _pool(c, "max"),
    "Mean": lambda c: reduce(operator.add, [c[index] for index in range(len(c))]) / len(c),
    "MeanVarianceNormalization": _variance_norm,
    "Min": _extreme(torch.minimum, "max"),
    "Mod": lambda c: (torch.fmod if c.attribute("fmod", 0) else torch.remainder)(*c.operands()),
    "OneHot": _one_hot,
    "PRelu": _prelu,
    "Pad": _pad,
    "RMSNormalization": _rms_norm,
    "Range": _range,
    "Reshape": _reshape,
    "Resize": _resize,
    "Scatter": _scatter,
    "ScatterElements": _scatter,
    "ScatterND": _scatter_nd,
    "Shape": _shape,
    "Shrink": lambda c: (F.softshrink if c.attribute("bias", 0.0) else F.hardshrink)(c[0], c.attribute("lambd", 0.5)),
    "Size": lambda c: torch.tensor(c[0].numel()),
    "Slice": _slice,
    "Softmax": _softmax(F.softmax),
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sum": lambda c: reduce(operator.add, [c[index] for index in range(len(c))]),
    "ThresholdedRelu": lambda c: F.threshold(c[0], c.attribute("alpha", 1.0), 0.0),
    "Tile": lambda c: c[0].repeat(c.values(1)),
    "TopK": _top_k,
    "Transpose": _transpose,
    "Trilu": _triangle,
    "Unsqueeze": _unsqueeze,
    "Upsample": _resize,
    "Where": _where,
}
