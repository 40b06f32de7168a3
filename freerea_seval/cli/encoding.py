"""The command ``encode``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freerea_seval.cli.output import MODE, documents, echo, options, print_document


@options()
def encode(
    network: Annotated[str | None, typer.Argument(help="pkg.module:factory of a torch module, or FILE.onnx.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            help="Shape of an input, the batch included: 1,3,32,32; 1,16:int64; mask=1,16; a list of tensors:"
            " '[3,64,64;3,32,32]' or 'images=[3,64,64]'. Repeatable.",
        ),
    ] = None,
    view: Annotated[str, typer.Option(help="executed: all that runs; functional: what is computed.")] = "executed",
    published: Annotated[bool, typer.Option("--published", help="SEval-NAS's published format instead.")] = False,
    space: Annotated[str | None, typer.Option(help="Encode this whole search space instead of one network.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write: .csv for a space.")] = None,
) -> None:
    """Show the string and cost of a network, or of a space."""
    from freerea_patch import InputError
    from freerea_seval.api import encoding

    if space is None:
        string, facts = encoding.encode_with_facts(network, inputs, view, published, output)
        if output is None:
            echo(string + "\n")
        for name, value in facts.items():
            echo(f"{name:<13}  {value:,}" if isinstance(value, int) else f"{name:<13}  {value}")
        tokens = None
        if not published:
            from freerea_seval.strings import Tokenizer

            tokenizer = Tokenizer()
            tokens = tokenizer.tokens(string)
            echo(f"tokens         {len(tokens)} of a vocabulary of {len(tokenizer)}: {' | '.join(tokens)}")
        written = None if output is None else str(output)
        encoded = {"string": string, "facts": facts, "tokens": tokens, "output": written}
        print_document(lambda: documents().EncodingDocument(network=encoded, space=None))
        return
    if network is not None or inputs:
        raise InputError("--space encodes a whole space; leave out the network and --input")
    if output is None:
        raise InputError("a whole space is written to a file: add -o FILE.csv")
    strings = encoding.encode(view=view, published=published, space=space, output=output, progress=MODE.progress)
    lengths, different = sorted(map(len, strings["string"])), strings["string"].nunique()
    median, most = lengths[len(lengths) // 2], lengths[-1]
    sizes = {"networks": len(strings), "different": different, "median_characters": median, "most_characters": most}
    print_document(lambda: documents().EncodingDocument(network=None, space={**sizes, "output": str(output)}))
    echo(
        f"{output}: {len(strings):,} networks, {different:,} different strings, {median} characters in the median,"
        f" {most} at most"
    )
