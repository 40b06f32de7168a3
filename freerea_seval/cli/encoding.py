"""What ``freerea-seval encode`` does."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freerea_patch import InputError
from freerea_patch.imports import import_object, importable_from
from freerea_seval.files import write_atomically
from freerea_seval.progress import terminal_progress

if TYPE_CHECKING:
    from torch import Tensor, nn

_INPUT = re.compile(r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<sizes>\d{1,9}(?:,\d{1,9})*)(?::(?P<dtype>[a-z]\w*))?", re.ASCII)


def encode_network(
    network: str | None, inputs: Sequence[str], view_name: str, published: bool, output: Path | None
) -> None:
    """Print the string of ``pkg.module:factory``, its tokens and its counts; or write the string."""
    if network is None:
        raise InputError(
            "nothing to encode: give a network as pkg.module:factory and its --input, or a search space as --space"
        )
    if not inputs:
        raise InputError(f"{network}: give the shape of its input, such as --input 1,3,32,32")
    from freerea_seval.sources.live import prepare_torch
    from freerea_seval.sources.registry import LiveSettings
    from freerea_seval.strings.views import check_view, view_of

    view = check_view(view_name)
    prepare_torch(LiveSettings())
    from freerea_seval.strings.trace import trace

    module = _build(network)
    given = _tensors(inputs, module)
    if published:
        from freerea_seval.strings.published import published_string

        string = published_string(module, list(given.values()) if isinstance(given, dict) else given)
        _show(string, {"format": "published", "characters": len(string)}, output)
        return
    from freerea_seval.strings.tokenizer import Tokenizer
    from freerea_seval.strings.write import write

    graph = trace(module, given)
    string = write(view_of(graph, view))
    tokenizer = Tokenizer()
    tokens = tokenizer.tokens(string)
    facts = {
        "view": view,
        "operations": len(view_of(graph, view)) - len(given) - 1,
        "parameters": graph.parameters,
        "multiply-adds": graph.macs,
        "tokens": f"{len(tokens)} of a vocabulary of {len(tokenizer)}: {' | '.join(tokens)}",
    }
    _show(string, facts, output)


def encode_space(
    space_name: str, network: str | None, inputs: Sequence[str], view_name: str, published: bool, output: Path | None
) -> None:
    """Write the strings of all networks of a space as CSV."""
    if network is not None or inputs:
        raise InputError("--space encodes a whole space; leave the network and --input away")
    if output is None:
        raise InputError("a whole space is written to a file: add -o FILE.csv")
    from freerea_seval.config.spaces import make_space
    from freerea_seval.sources.live import prepare_torch
    from freerea_seval.sources.registry import LiveSettings
    from freerea_seval.strings.views import check_view

    view = check_view(view_name)
    space = make_space(space_name)
    genotypes: Sequence[str] | None = getattr(space, "genotypes", lambda: None)()
    if genotypes is None:
        raise InputError(f"space {space_name!r} does not list its networks; give it a method genotypes()")
    if not len(genotypes):
        raise InputError(f"space {space_name!r} lists no networks; let its genotypes() return one at least")
    prepare_torch(LiveSettings())
    with terminal_progress().task(f"encoding {len(genotypes):,} networks") as show:
        if published:
            import torch

            from freerea_seval.strings.published import published_string

            strings = []
            for done, genotype in enumerate(genotypes):
                show(done / len(genotypes), f"{done:,}")
                # Two small images: the published format says nothing of sizes, and trains batch norm.
                strings.append(published_string(space.build(genotype), [torch.zeros(2, *space.input_shape)]))
        else:
            from freerea_seval.strings.encode import SpaceStrings

            strings = SpaceStrings(space, view).strings(genotypes, show)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["genotype", "string"])
    writer.writerows(zip(genotypes, strings, strict=True))
    write_atomically(output, text.getvalue())
    lengths = sorted(map(len, strings))
    print(
        f"{output}: {len(strings):,} networks, {len(set(strings)):,} different strings,"
        f" {lengths[len(lengths) // 2]} characters in the median, {lengths[-1]} at most"
    )


def _build(network: str) -> nn.Module:
    from torch import nn

    with importable_from(Path()):
        factory = import_object(network, "network")
        if isinstance(factory, nn.Module):
            return factory
        if not callable(factory):
            raise InputError(f"network {network!r} is neither a torch.nn.Module nor a function that returns one")
        try:
            module: Any = factory()
        except Exception as error:  # a user's factory may raise anything
            raise InputError(f"network {network!r} failed ({type(error).__name__}: {error})") from error
    if not isinstance(module, nn.Module):
        raise InputError(f"network {network!r} returned {type(module).__name__}, not a torch.nn.Module")
    return module


def _tensors(inputs: Sequence[str], module: nn.Module) -> list[Tensor] | dict[str, Tensor]:
    """Return zeros of the shapes that ``[name=]sizes[:dtype]`` say, on the module's device."""
    import torch

    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    tensors: list[tuple[str | None, Tensor]] = []
    for said in inputs:
        match = _INPUT.fullmatch(said)
        dtype = getattr(torch, match["dtype"] or "float32", None) if match else None
        if match is None or not isinstance(dtype, torch.dtype):
            raise InputError(
                f"--input {said!r}: expected sizes such as 1,3,32,32, or with a name and a dtype, mask=1,16:int64"
            )
        shape = [int(size) for size in match["sizes"].split(",")]
        try:
            tensors.append((match["name"], torch.zeros(shape, dtype=dtype, device=device)))
        except RuntimeError as error:  # too large, or no dtype to fill in
            raise InputError(f"--input {said!r} cannot be made ({str(error).splitlines()[0]}); give another") from error
    named = {name: tensor for name, tensor in tensors if name is not None}
    if named and len(named) < len(tensors):
        raise InputError("--input: name all inputs, each once, or none")
    return named or [tensor for _, tensor in tensors]


def _show(string: str, facts: Mapping[str, object], output: Path | None) -> None:
    if output is None:
        print(string + "\n")
    else:
        write_atomically(output, string + "\n")
    for name, value in facts.items():
        print(f"{name:<13}  {value:,}" if isinstance(value, int) else f"{name:<13}  {value}")
