"""What ``freerea-seval encode`` does."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from freerea_patch import InputError
from freerea_seval.config import build_network, make_tensors
from freerea_seval.files import write_atomically
from freerea_seval.progress import terminal_progress


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
    from freerea_seval.config import LiveSettings
    from freerea_seval.sources.live import prepare_torch
    from freerea_seval.strings.views import check_view, view_of

    view = check_view(view_name)
    prepare_torch(LiveSettings())
    from freerea_seval.strings.trace.tracer import trace_module

    module = build_network(network)
    given = make_tensors(inputs, module)
    if published:
        from freerea_seval.strings.trace.sevalnas_format import sevalnas_string

        string = sevalnas_string(module, list(given.values()) if isinstance(given, dict) else given)
        _show(string, {"format": "published", "characters": len(string)}, output)
        return
    from freerea_seval.strings.text.serialize import serialize_graph as write
    from freerea_seval.strings.text.tokenizer import Tokenizer

    graph = trace_module(module, given)
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
    from freerea_seval.config import LiveSettings, make_space
    from freerea_seval.sources.live import prepare_torch
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

            from freerea_seval.strings.trace.sevalnas_format import sevalnas_string

            strings = []
            for done, genotype in enumerate(genotypes):
                show(done / len(genotypes), f"{done:,}")
                # Two small images: the published format says nothing of sizes, and trains batch norm.
                strings.append(sevalnas_string(space.build(genotype), [torch.zeros(2, *space.input_shape)]))
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


def _show(string: str, facts: Mapping[str, object], output: Path | None) -> None:
    if output is None:
        print(string + "\n")
    else:
        write_atomically(output, string + "\n")
    for name, value in facts.items():
        print(f"{name:<13}  {value:,}" if isinstance(value, int) else f"{name:<13}  {value}")
