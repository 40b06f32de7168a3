"""The text of a graph: grammar, serialiser, parser, compression of repetition, and tokenizer."""
