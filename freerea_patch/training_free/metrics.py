"""naswot and logsynflow, the training-free metrics of FreeREA that need a network, and fast forward passes for them.

- :func:`naswot` (Mellor 2021): how different the activation patterns of a network are for the images of a batch.
- :func:`logsynflow` (Cavagnero 2023, section 3.2): synaptic flow with gradients on a log scale.

Forward passes of modules are temporarily replaced by faster ones (:func:`replace_forwards`) that omit computations
which cannot change a metric.
"""

from __future__ import annotations

import ctypes
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from freerea_patch.networks import Cell, Zero, preserve_state
from freerea_patch.spaces import EDGES
from freerea_patch.training_free.embedding import FromEmbedding

Forward: TypeAlias = Callable[[Tensor], Tensor]

_NODES = EDGES[-1][1] + 1
#: numpy has a function to count bits from version 2 on.
_COUNTS_BITS = hasattr(np, "bitwise_count")
#: Rows compared at once by :func:`common_ones`: more rows need fewer calls, fewer rows stay in the CPU cache.
_ROWS = 8
#: Number of recent ReLU inputs whose products are kept, as one tensor may enter several ReLUs: a cell has four nodes.
_RECENT = 4
#: The functions of activations whose inputs have a pattern of signs; gates (sigmoid, hardsigmoid) are left out.
_ACTIVATIONS = frozenset(
    (
        *("relu", "relu6", "hardtanh", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish"),
        *("hardswish", "softplus", "tanh"),
    )
)
#: The functions of norms, which the modules of ``torch.nn`` call as well.
_NORMS = frozenset(f"{kind}_norm" for kind in ("batch", "instance", "group", "layer", "rms", "local_response"))
#: Parameters of glibc's mallopt (malloc.h) and their values: M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in bytes.
_MALLOPT = ((-1, 1 << 30), (-3, 32 << 20))


@torch.no_grad()
def naswot(network: nn.Module, images: Tensor) -> float:
    """Return ``log |det K|`` of the kernel of activation patterns.

    With c the ``(n, units)`` binary pattern of all activations (see :class:`PatternKernel`), ``K = c c^T +
    (1 - c)(1 - c)^T`` counts the units on which two images agree (Mellor 2021, equation 2). The network runs in
    training mode, as in FreeREA, so that batch norm uses the statistics of the batch; its running statistics are not
    changed.

    Args:
        network: a module.
        images: ``(n, c, h, w)`` batch on the network's device; it is converted to the dtype of the parameters.

    Returns:
        The metric, larger is better; minus infinity if the kernel is singular, for instance because two images have the
        same pattern.

    Raises:
        ValueError: the network runs no activation.
    """
    kernel = PatternKernel(len(images), images.device)
    forwards: dict[nn.Module, Forward] = {}
    for module in network.modules():
        fast: Forward | None = None
        if isinstance(module, _BatchNorm) and type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
            fast = batch_statistics(module)
        elif type(module) is nn.AvgPool2d:
            fast = depthwise(module)
        elif type(module) is Cell:
            fast = cell_forward(module)
        if fast:
            forwards[module] = fast
    with preserve_state(network, unchanged=forwards), replace_forwards(forwards), kernel:
        network.train()(as_parameters(images, network))
    return kernel.log_determinant()


def as_parameters(images: Tensor, network: nn.Module) -> Tensor:
    """Return images in the dtype of a network's first floating-point parameter."""
    dtypes = (parameter.dtype for parameter in network.parameters() if parameter.is_floating_point())
    return images.to(next(dtypes, images.dtype))


def layer_weights(layer: nn.Module) -> list[nn.Parameter]:
    """Return the weight of a convolution or linear layer, or the parameters that a parametrisation computes it from."""
    weight = layer._parameters.get("weight")
    if weight is not None:
        return [weight]
    return [parameter for name, parameter in layer.named_parameters() if "bias" not in name]


class PatternKernel(TorchFunctionMode):
    """Sums naswot's kernel over the activations that run in its context, whether modules or functions compute them.

    The pattern of an activation is the sign of its input, as in SWAP (Peng 2024); for ReLU, that is where its output
    is positive. Equal inputs of a ReLU are computed once, unless gradients are needed. Patterns are summed layer by
    layer, so that those of the whole network are never in memory at once.

    ``c c^T + (1 - c)(1 - c)^T = u - s 1^T - 1 s^T + 2 c c^T`` with u units and s ones per image: one product of 0/1
    matrices, with the diagonal s. On a CPU it is computed by counting bits; on other devices it is a matrix product in
    float32, whose integer entries are exact up to 2^24 per layer.
    """

    def __init__(self, images: int, device: torch.device) -> None:
        super().__init__()
        self._shared = torch.zeros(images, images, dtype=torch.float64, device=device)
        self._units = 0
        # Input and output of a ReLU, their versions, and the product and units of the pattern.
        self._recent: deque[tuple[Tensor, Tensor, tuple[int, int], Tensor, int]] = deque(maxlen=_RECENT)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        kind = getattr(func, "__name__", "").rstrip("_")
        if kind not in _ACTIVATIONS:
            return func(*args, **kwargs)
        x = args[0] if args else kwargs["input"]
        if kind != "relu":
            self._add(*self.product(x.detach()))
            return func(*args, **kwargs)
        for recent_x, output, versions, product, units in self._recent:
            if recent_x is x and (x._version, output._version) == versions:
                self._add(product, units)
                return output
        output = func(*args, **kwargs)
        product, units = self.product(output.detach())
        self._add(product, units)
        if output is not x and not torch.is_grad_enabled():
            self._recent.append((x, output, (x._version, output._version), product, units))
        return output

    def _add(self, product: Tensor, units: int) -> None:
        self._shared += product
        self._units += units

    @staticmethod
    def units(output: Tensor) -> Tensor:
        """Return an activation's values as ``(n, units)``."""
        if output.ndim == 4 and output.is_contiguous(memory_format=torch.channels_last):
            output = output.permute(0, 2, 3, 1)  # the order of units is arbitrary, and this order needs no copy
        return output.flatten(start_dim=1)

    def product(self, output: Tensor) -> tuple[Tensor, int]:
        """Return the product ``c c^T`` of the pattern of one layer, and its number of units."""
        values = self.units(output)
        units = values.shape[1]
        if _COUNTS_BITS and values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64):
            return torch.from_numpy(common_ones(values.detach().numpy() > 0)), units
        codes = (values > 0).float()
        return codes @ codes.T, units

    def log_determinant(self) -> float:
        """Return ``log |det K|``, minus infinity where the kernel is singular.

        Raises:
            ValueError: no activation has run.
        """
        if not self._units:
            raise ValueError(
                "the metric needs activations such as ReLU, GELU or Hardswish, and this network runs none; others that"
                " need none: logsynflow of source 'training-free', synflow or jacov of source 'zero-cost'"
            )
        ones = self._shared.diagonal()
        kernel = self._units - ones[:, None] - ones[None, :] + 2 * self._shared
        # The kernel is positive semidefinite. The determinant of a singular kernel would consist of rounding errors,
        # and its logarithm would be finite. The threshold is that of numpy's matrix_rank.
        eigenvalues = torch.linalg.eigvalsh(kernel)
        if eigenvalues[0] <= eigenvalues[-1] * len(kernel) * torch.finfo(eigenvalues.dtype).eps:
            return -math.inf
        return float(eigenvalues.log().sum())


def common_ones(codes: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return ``(n, n)`` numbers of columns in which both rows of a pair are true, for an ``(n, units)`` array."""
    packed = np.packbits(codes, axis=1)
    if odd := packed.shape[1] % 8:
        packed = np.pad(packed, ((0, 0), (0, 8 - odd)))
    words = packed.view(np.uint64)
    counts = np.empty((len(words), len(words)), dtype=np.int64)
    for first in range(0, len(words), _ROWS):
        rows, until = slice(first, first + _ROWS), slice(first + _ROWS)
        counts[rows, until] = np.bitwise_count(words[rows, None] & words[until]).sum(axis=2)
        counts[until, rows] = counts[rows, until].T
    return counts


def logsynflow(network: nn.Module, input_shape: tuple[int, ...]) -> float:
    """Return the sum over convolution and linear weights of ``|w| log(1 + |g|)``; see :func:`layer_weights`.

    g is the gradient of the summed output for one input of ones, with every parameter replaced by its absolute value
    and every norm by the identity (:class:`IdentityNorms`), in double precision. On the networks of the spaces, no
    gradient is negative, and FreeREA's ``|w log(1 + g)|`` is the same; softmax and subtraction make gradients negative.
    The network runs with copies: its parameters, gradients and buffers are not changed.

    Args:
        network: the module to rate.
        input_shape: shape of one input, without the batch.

    Returns:
        The metric, larger is better; NaN or infinite where a gradient overflows.
    """
    parameters = {
        name: parameter.detach().double().abs().requires_grad_() for name, parameter in network.named_parameters()
    }
    owners = {id(parameter): name for name, parameter in network.named_parameters()}
    names: dict[str, None] = {}
    buffers: dict[str, Tensor] = {}
    forwards: dict[nn.Module, Forward] = {}
    for name, module in network.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            names |= dict.fromkeys(owners[id(weight)] for weight in layer_weights(module))
        elif type(module) is Cell and (fast := cell_forward(module)):
            forwards[module] = fast
        for buffer_name, buffer in module.named_buffers(recurse=False):
            buffers[prefix + buffer_name] = buffer.double() if buffer.is_floating_point() else buffer.clone()
    weights = [parameters[name] for name in names]
    if not weights:
        return 0.0
    ones = torch.ones(1, *input_shape, dtype=torch.float64, device=weights[0].device)
    with preserve_state(network, unchanged=set(network.modules())), replace_forwards(forwards), torch.enable_grad():
        network.train()
        with IdentityNorms(network):
            output: Tensor = functional_call(network, (parameters, buffers), (ones,))
        if not isinstance(output, Tensor):
            raise TypeError(f"expected a network that returns one tensor, got {type(output).__name__}")
        # A weight without a path to the output has no gradient, and adds nothing.
        gradients = torch.autograd.grad(output.sum(), weights, allow_unused=True)
    pairs = zip(weights, gradients, strict=True)
    flows = [g.abs().log1p_().mul_(w.detach()).sum() for w, g in pairs if g is not None]
    return float(torch.stack(flows).sum()) if flows else 0.0


class IdentityNorms(TorchFunctionMode):
    """Replaces every norm by the identity, whether a module or a function computes it: synaptic flow's linear network.

    A norm that is composed of other operations, such as many root-mean-square norms, is not recognised.

    In a language model, the weights that attention gives to positions are constants, so that the flow is that of values
    and MLPs: for absolute parameters, they are saturated, and their gradients are rounding errors of any size. TF-TAS
    takes the flow of MLPs alone (Zhou 2022).

    Args:
        network: the module that runs in the context.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._is_language_model = isinstance(network, FromEmbedding)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kind = getattr(func, "__name__", "")
        if kind in _NORMS:
            return args[0] if args else kwargs["input"]
        if self._is_language_model and kind == "scaled_dot_product_attention":
            args = (args[0].detach(), args[1].detach(), *args[2:])
        result = func(*args, **(kwargs or {}))
        return result.detach() if self._is_language_model and kind == "softmax" else result


def has_parametrised_weights(network: nn.Module) -> bool:
    """Return whether a convolution or linear layer computes its weight from other parameters."""
    layers = (module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear)))
    return any(layer._parameters.get("weight") is None for layer in layers)


@contextmanager
def replace_forwards(forwards: Mapping[nn.Module, Forward]) -> Iterator[None]:
    """Replace the forward passes of modules by attributes of the instances, which are removed on exit."""
    hidden = {module: module.__dict__["forward"] for module in forwards if "forward" in module.__dict__}
    try:
        for module, forward in forwards.items():
            module.__dict__["forward"] = forward
        yield
    finally:
        for module in forwards:
            module.__dict__.pop("forward", None)
            if module in hidden:
                module.__dict__["forward"] = hidden[module]


def keep_memory() -> None:
    """Let glibc keep freed memory, because the system zeroes every page that it returns for the next layer.

    Without glibc, this does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for name, value in _MALLOPT:
        mallopt(name, value)


def batch_statistics(norm: _BatchNorm) -> Forward:
    """Return batch norm in training mode without running statistics, which then need not be restored."""
    return lambda x: F.batch_norm(x, None, None, norm.weight, norm.bias, True, 0.0, norm.eps)


def depthwise(pool: nn.AvgPool2d) -> Forward | None:
    """Return 3x3 average pooling as a depthwise convolution, which takes a sixth of the time with oneDNN.

    The order of summation differs, so that results differ in the last digit. Returns None for pooling of another kind
    than that of the cells, which excludes the padding from the means.
    """
    kind = (pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode, pool.count_include_pad, pool.divisor_override)
    if kind != (3, 1, 1, False, False, None):
        return None
    shares: dict[tuple[int, int], Tensor] = {}

    def forward(x: Tensor) -> Tensor:
        if x.ndim != 4 or x.device.type != "cpu":
            return type(pool).forward(pool, x)
        height, width = x.shape[2:]
        if (height, width) not in shares:
            pixels = F.conv2d(x.new_ones(1, 1, height, width), x.new_ones(1, 1, 3, 3), padding=1)
            shares[height, width] = pixels.reciprocal()
        sums: Tensor = _Sums.apply(x)  # type: ignore[no-untyped-call]
        return sums.mul_(shares[height, width])

    return forward


class _Sums(torch.autograd.Function):
    """Sums over 3x3 pixels. The map is linear and equals its transpose, so that it is its own backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return F.conv2d(x, x.new_ones(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Sums.apply(gradient)  # type: ignore[no-untyped-call]


def cell_forward(cell: Cell) -> Forward | None:
    """Return a forward pass of a cell that skips edges whose output is zero, or is only multiplied by zero.

    The ReLUs of these edges are called nevertheless, because naswot counts them. Returns None for a cell with an
    operation that is not one of the spaces'.
    """
    if not all(_is_standard(edge) for edge in cell.edges):
        return None
    edges = [(edge, *ends) for edge, ends in zip(cell.edges, EDGES, strict=True)]
    zero: dict[nn.Module, bool] = {}
    empty = [False] * _NODES
    for node in range(1, _NODES):
        entering = [(edge, source) for edge, source, target in edges if target == node]
        zero |= {edge: isinstance(edge, Zero) or (empty[source] and _keeps_zeros(edge)) for edge, source in entering}
        empty[node] = all(zero[edge] for edge, _ in entering)
    needed = [False] * (_NODES - 1) + [True]
    for node in reversed(range(_NODES - 1)):
        leaving = [(edge, target) for edge, source, target in edges if source == node]
        needed[node] = any(_relu(edge) or (needed[target] and not zero[edge]) for edge, target in leaving)

    def forward(x: Tensor) -> Tensor:
        nodes: list[Tensor | None] = [x] + [None] * (_NODES - 1)
        for edge, source, target in edges:
            computed = needed[target] and not zero[edge]
            run = edge if computed else _relu(edge)
            if run is not None:
                value = nodes[source]
                # Without a value, the node is zero; it has the width of the first node, as ``none`` keeps the width.
                y = run(x.mul(0.0) if value is None else value)
                before = nodes[target]
                if computed and before is not None:
                    # In place where y is a new tensor, which saves memory.
                    y = before + y if type(edge) is nn.Identity else y.add_(before)
                if computed:
                    nodes[target] = y
        return x.mul(0.0) if nodes[-1] is None else nodes[-1]

    return forward


def _is_standard(edge: nn.Module) -> bool:
    """Return whether an edge is one of the operations of :func:`~freerea_patch.networks.cell_operation`."""
    if type(edge) is nn.Sequential:
        types = [type(module) for module in edge]
        return types[-2:] == [nn.Conv2d, nn.BatchNorm2d] and types[:-2] in ([], [nn.ReLU])
    return type(edge) in (nn.Identity, nn.AvgPool2d, Zero)


def _relu(edge: nn.Module) -> nn.Module | None:
    """Return the ReLU at the beginning of a standard edge, if any."""
    return edge[0] if isinstance(edge, nn.Sequential) and isinstance(edge[0], nn.ReLU) else None


def _keeps_zeros(edge: nn.Module) -> bool:
    """Return whether a standard edge maps zeros to zeros."""
    biases = (parameter for name, parameter in edge.named_parameters() if name.endswith("bias"))
    return not any(bias.any() for bias in biases)
