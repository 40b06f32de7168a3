"""Peak memory as the cost model predicts it, beside PyTorch's own accounting on the CPU."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from experiments.tables import RowJournal, as_command, experiment_parser, markdown
from freerea_patch import InputError, SizeSpace, TopologySpace
from freerea_seval.costs.memory import OPTIMISERS
from freerea_seval.costs.model import network_costs

#: How peaks are measured: by the profiler's records of allocations; by the storages of all results; and by these if
#: every result is freed after its last reader, while eager PyTorch keeps those that a caller still refers to.
WAYS = {"training": ("profiler", "storages"), "inference": ("profiler", "storages", "last reader")}
COLUMNS = ("network", "batch", *(f"{what} {how}" for what, ways in WAYS.items() for how in ("predicted", *ways)))
_BATCHES = (1, 2, 4, 8, 16, 32)

Inputs = dict[str, Tensor] | list[Tensor]


class Case(NamedTuple):
    """A network to measure.

    Attributes:
        name: of the network.
        batch: number of inputs.
        build: makes the network.
        inputs: makes them.
    """

    name: str
    batch: int
    build: Callable[[], nn.Module]
    inputs: Callable[[], Inputs]


class StorageTracker(TorchDispatchMode):
    """Tracks the storages of all results: their current total size, and its peak."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tracked: set[int] = set()
        self.current = 0
        self.peak = 0

    def add(self, values: object) -> None:
        """Track the storages of tensors."""
        for tensor in tree_leaves(values):
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            if storage._cdata not in self._tracked:
                self._tracked.add(storage._cdata)
                self.current += storage.nbytes()
                weakref.finalize(storage, self._released, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.current)

    def _released(self, identity: int, count: int) -> None:
        self._tracked.discard(identity)
        self.current -= count

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and track its results."""
        result = func(*args, **(kwargs or {}))
        self.add(result)
        return result


def cases(count: int, seed: int) -> list[Case]:
    """Return so many networks, of five kinds in turn, with batches of 1 to 32."""
    rng = Random(seed)
    makers = (partial(_sampled, TopologySpace()), partial(_sampled, SizeSpace()), _resnet, _vit, _bert)
    return [
        makers[number % len(makers)](_BATCHES[number % len(_BATCHES)], number // len(makers), rng)
        for number in range(count)
    ]


def _images(batch: int, size: int = 32) -> Callable[[], list[Tensor]]:
    return lambda: [torch.zeros(batch, 3, size, size)]


def _sampled(space: TopologySpace | SizeSpace, batch: int, variant: int, rng: Random) -> Case:
    genotype = space.sample(rng)
    name = "NAS-Bench-201" if isinstance(space, TopologySpace) else "NATS-Bench size"
    return Case(f"{name} {genotype}", batch, lambda: space.build(genotype), _images(batch))


def _resnet(batch: int, variant: int, rng: Random) -> Case:
    depth, width = 1 + variant % 3, 8 << variant % 3
    sizes = {"embedding_size": width, "hidden_sizes": [width, 2 * width], "depths": [depth, depth]}
    sizes["layer_type"] = ("basic", "bottleneck")[variant % 2]
    name = f"ResNet {sizes['layer_type']} {depth}+{depth} of {width}"
    return Case(name, batch, _transformers("ResNet", sizes), _images(batch, 64))


def _vit(batch: int, variant: int, rng: Random) -> Case:
    layers, width, patch = 1 + variant % 4, 32 * (1 + variant % 3), (8, 4)[variant % 2]
    sizes = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": 4,
        "intermediate_size": 2 * width,
        "image_size": 32,
        "patch_size": patch,
        "hidden_dropout_prob": 0.1 * (variant % 2),
    }
    name = f"ViT {layers} of {width}, patch {patch}"
    return Case(name, batch, _transformers("ViT", sizes), _images(batch))


def _bert(batch: int, variant: int, rng: Random) -> Case:
    layers, width, length = 1 + variant % 4, 32 * (1 + variant % 3), 16 * (1 + variant % 4)
    sizes = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": 4,
        "intermediate_size": 4 * width,
        "vocab_size": 200,
        "max_position_embeddings": 64,
        "attention_probs_dropout_prob": 0.1 * (variant % 2),
        "attn_implementation": ("sdpa", "eager")[variant // 2 % 2],
    }
    name = f"BERT {layers} of {width}, {length} tokens, {sizes['attn_implementation']}"

    def inputs() -> dict[str, Tensor]:
        return {"input_ids": torch.ones(batch, length, dtype=torch.int64)}

    name += ", dropout in attention" if variant % 2 else ""
    family = "ForSequenceClassification"
    return Case(name, batch, _transformers("Bert", sizes, family), inputs)


def _transformers(family: str, sizes: dict[str, Any], model: str = "ForImageClassification") -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        try:
            import transformers
        except ImportError:
            raise InputError("this experiment needs the package transformers: pip install transformers") from None
        config = getattr(transformers, f"{family}Config")(**sizes)
        network: nn.Module = getattr(transformers, family + model)(config)
        return network

    return build


def measured(case: Case, what: str, how: str, optimiser: str) -> int:
    """Return the peak of a second training step, or of a forward pass, weights, state and inputs included.

    Args:
        case: what runs.
        what: ``"training"`` or ``"inference"``.
        how: one of its :data:`WAYS`.
        optimiser: see :data:`~freerea_seval.costs.memory.OPTIMISERS`.
    """
    network, inputs = case.build().train(what == "training"), case.inputs()
    resident = [*network.parameters(), *network.buffers(), *tree_leaves(inputs)]
    run: Callable[[], object]
    if what == "training":
        chosen = make_optimiser(network, optimiser)
        step(network, inputs, chosen)  # the optimiser's state is made in the first step
        resident += tree_leaves([list(state.values()) for state in chosen.state.values()])
        run = partial(step, network, inputs, chosen)
    elif how == "last reader":
        run = interpreted(network, inputs)
    else:
        run = partial(result, network, inputs)
    with torch.set_grad_enabled(what == "training"):
        if how == "profiler":
            with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
                run()
            return sum(tensor.nbytes for tensor in resident if isinstance(tensor, Tensor)) + _peak(profiler)
        with StorageTracker() as tracker:
            tracker.add(resident)
            run()
        return int(tracker.peak)


def interpreted(network: nn.Module, inputs: Inputs) -> Callable[[], object]:
    """Return a function that runs an exported network and frees every result after its last reader."""
    args, kwargs = ((), inputs) if isinstance(inputs, dict) else (tuple(inputs), None)
    interpreter = torch.fx.Interpreter(torch.export.export(network, args, kwargs).module())
    return lambda: interpreter.run(*tree_leaves(inputs))


def step(network: nn.Module, inputs: Inputs, optimiser: torch.optim.Optimizer) -> None:
    """Run a training step with cross-entropy."""
    logits = result(network, inputs)
    loss = nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64))
    torch.autograd.backward(loss)
    optimiser.step()
    optimiser.zero_grad()


def result(network: nn.Module, inputs: Inputs) -> Tensor:
    """Return a network's logits."""
    output = network(**inputs) if isinstance(inputs, dict) else network(*inputs)
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits


def make_optimiser(network: nn.Module, name: str) -> torch.optim.Optimizer:
    """Return one of the cost model's optimisers."""
    if name == "adam":
        return torch.optim.Adam(network.parameters(), foreach=False)
    momentum = 0.9 if name == "momentum" else 0.0
    return torch.optim.SGD(network.parameters(), 1e-3, momentum=momentum, foreach=False)


def _peak(profiler: Any) -> int:
    """Return the highest running total of the allocations that a profiler recorded."""
    total = peak = 0
    for event in sorted(_allocations(profiler), key=lambda event: int(event.start_time_ns)):
        total += event.extra_fields.alloc_size
        peak = max(peak, total)
    return peak


def _allocations(profiler: Any) -> Iterator[Any]:
    waiting = list(profiler.profiler.kineto_results.experimental_event_tree())
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if hasattr(event.extra_fields, "alloc_size"):
            yield event


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def main(arguments: Sequence[str] | None = None) -> None:
    """Predict and measure, and print a line a network."""
    parser = experiment_parser("devices.memory", __doc__)
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--optimiser", choices=list(OPTIMISERS), default="momentum")
    parser.shared("--seed", help="seed of the choice of cells")
    parser.output("runs/memory")
    options = parser.parse_args(arguments)
    journal = RowJournal(options.output, {"optimiser": options.optimiser, "seed": options.seed}, COLUMNS)
    chosen = {(case.name, case.batch): case for case in cases(options.networks, options.seed)}
    with _one_thread():
        for key in journal.missing(("network", "batch"), chosen, f"{options.networks} networks"):
            journal.append(compared(chosen[key], options.optimiser))
    print(summary(journal.frame()[: options.networks]))


def compared(case: Case, optimiser: str) -> dict[str, object]:
    """Return a row: the peaks of one network in bytes."""
    with torch.device("meta"):
        network = case.build()
    costs = network_costs(network, case.inputs(), optimiser=optimiser)
    row: dict[str, object] = {"network": case.name, "batch": case.batch}
    for what, ways in WAYS.items():
        row[f"{what} predicted"] = getattr(costs, f"peak_{what}_bytes")
        row |= {f"{what} {how}": measured(case, what, how, optimiser) for how in ways}
    return row


def summary(rows: pd.DataFrame) -> str:
    """Return a Markdown table: predicted and measured megabytes (1e6 bytes), and the sizes of the errors."""
    table = pd.DataFrame({"network": rows["network"].str.replace("|", "/"), "batch": rows["batch"]})
    ends = []
    for what, ways in WAYS.items():
        predicted = rows[f"{what} predicted"]
        table[f"{what}: predicted, MB"] = (predicted / 1e6).map("{:.3f}".format)
        for how in ways:
            errors = predicted / rows[f"{what} {how}"] - 1
            sizes = (rows[f"{what} {how}"] / 1e6).map("{:.3f}".format)
            table[f"{what}, {how} (error)"] = sizes + errors.map(" ({:+.1%})".format)
            ends.append(f"{what}, {how}: median error {errors.abs().median():.2%}, largest {errors.abs().max():.2%}")
    return "\n".join([markdown([str(name) for name in table], table.to_numpy().tolist()), "", *ends])


if __name__ == "__main__":
    as_command(main)
