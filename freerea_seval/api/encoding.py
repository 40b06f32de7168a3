"""Networks as strings: :func:`encode`, and what the command line prints beside a string."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from freerea_patch import InputError, SearchSpace
from freerea_seval.api.arguments import as_space, as_tensors, prepare_torch, progress_bars
from freerea_seval.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pandas import DataFrame
    from torch import nn

    from freerea_seval.api.arguments import Inputs


@overload
def encode(
    network: str | Path | nn.Module,
    inputs: Inputs | None = None,
    view: str = "executed",
    published: bool = False,
    space: None = None,
    output: str | Path | None = None,
    *,
    progress: bool = True,
) -> str: ...


@overload
def encode(
    network: SearchSpace | None = None,
    inputs: None = None,
    view: str = "executed",
    published: bool = False,
    space: str | Mapping[str, Any] | SearchSpace | None = None,
    output: str | Path | None = None,
    *,
    progress: bool = True,
) -> DataFrame: ...


def encode(
    network: str | Path | nn.Module | SearchSpace | None = None,
    inputs: Inputs | None = None,
    view: str = "executed",
    published: bool = False,
    space: str | Mapping[str, Any] | SearchSpace | None = None,
    output: str | Path | None = None,
    *,
    progress: bool = True,
) -> str | DataFrame:
    """Return the string of a network, or the strings of all networks of a space.

    A string lists the operations of a network in the order of execution, with their shapes; predictors read it.
    :mod:`freerea_seval.strings.text.grammar` has the grammar.

    Args:
        network: a module, which is left as it was, ``"pkg.module:factory"`` of one, or an ONNX file, whose name ends
            with ``.onnx``; or a search space.
        inputs: its inputs with the batch dimension: ``(1, 3, 32, 32)``, ``"1,16:int64"``, a tensor, a list of these
            or a mapping of these by name. An input may be a list of tensors: ``[[(3, 64, 64), (3, 32, 32)]]``, or as
            text ``"[3,64,64;3,32,32]"``. An ONNX file states its own, unless it leaves more than the batch open.
        view: ``"executed"``: all that runs, for latency, energy and memory; ``"functional"``: what is computed, for
            accuracy and robustness.
        published: return the format of the SEval-NAS publication instead.
        space: encode all networks of this search space instead; a name such as ``"nats-tss"``, or the space.
        output: file to write as well: text for a network, CSV for a space.
        progress: show a progress bar on a terminal; only a space takes long.

    Returns:
        The string; for a space a DataFrame with the columns ``genotype`` and ``string``, one row a network.

    Raises:
        InputError: there is no such network, it cannot run on these inputs, or an unknown view.
        InputError: an ONNX file cannot be read, or has operations that have no counterpart in PyTorch.

    Example:
        >>> import freerea_seval as fs
        >>> from torch import nn
        >>> fs.encode(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()), (1, 3, 8, 8))
        'input[1x3x8x8] conv(8,k3,b) relu output'
    """
    if isinstance(network, SearchSpace):
        network, space = None, network
    if space is None:
        return encode_with_facts(network, inputs, view, published, output)[0]
    if network is not None or inputs:
        raise InputError("--space encodes a whole space; leave out the network and --input")
    strings = _space_strings(space, view, published, progress)
    if output is not None:
        from freerea_seval.tables import to_csv

        write_atomically(Path(output), to_csv(strings))
    return strings


def encode_with_facts(
    network: str | Path | nn.Module | None,
    inputs: Inputs | None,
    view: str,
    published: bool = False,
    output: str | Path | None = None,
) -> tuple[str, dict[str, Any]]:
    """Return the string of a network, and its numbers of operations, parameters and multiply-adds by name.

    The arguments and errors are those of :func:`encode`.
    """
    if network is None:
        raise InputError(
            "nothing to encode: give a network as pkg.module:factory and its --input, an ONNX file, or a search space"
            " as --space"
        )
    from freerea_seval.strings import check_view, serialize_graph, sevalnas_string, trace_module, view_of

    checked_view = check_view(view)
    prepare_torch()
    from freerea_seval.config import build_network

    if isinstance(network, (str, Path)):
        module, name = build_network(str(network)), str(network)
    else:
        module, name = network, type(network).__name__
    tensors = as_tensors(inputs, module, name)
    facts: dict[str, Any]
    if published:
        string = sevalnas_string(module, list(tensors.values()) if isinstance(tensors, dict) else tensors)
        facts = {"format": "published", "characters": len(string)}
    else:
        graph = trace_module(module, tensors)
        viewed = view_of(graph, checked_view)
        string = serialize_graph(viewed)
        facts = {
            "view": view,
            "operations": sum(node.kind not in ("input", "output") for node in viewed),
            "parameters": graph.parameters,
            "multiply-adds": graph.macs,
        }
        if restored := getattr(module, "restored", 0):
            norms = "1 batch norm" if restored == 1 else f"{restored} batch norms"
            facts["restored"] = f"{norms} that the file has folded into other operations"
    if output is not None:
        write_atomically(Path(output), string + "\n")
    return string, facts


def _space_strings(
    space: str | Mapping[str, Any] | SearchSpace, view: str, published: bool, progress: bool
) -> DataFrame:
    from freerea_seval.strings import SpaceStrings, check_view, sevalnas_string

    checked_view = check_view(view)
    name, space = space if isinstance(space, str) else "", as_space(space)
    name = name or space.name
    genotypes: Sequence[str] | None = getattr(space, "genotypes", lambda: None)()
    if genotypes is None:
        raise InputError(
            f"space {name!r} does not list its networks, so that it cannot be encoded as a whole; encode single"
            " networks, or in a space of your own, add a method genotypes()"
        )
    if not len(genotypes):
        raise InputError(f"space {name!r} lists no networks; its genotypes() must return at least one")
    prepare_torch()
    from pandas import DataFrame

    from freerea_patch.networks import zero_input

    with progress_bars(progress).task(f"encoding {len(genotypes):,} networks") as show:
        if published:
            strings = []
            for done, genotype in enumerate(genotypes):
                show(done / len(genotypes), f"{done:,}")
                # A batch of two: the published format does not contain sizes, and it runs batch norm in training mode.
                strings.append(sevalnas_string(space.build(genotype), [zero_input(space, 2)]))
        else:
            strings = SpaceStrings(space, checked_view).strings(genotypes, show)
    return DataFrame({"genotype": list(genotypes), "string": strings})
