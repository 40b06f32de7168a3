"""The graph of a network: its nodes, the shapes that follow from them, and its simplified form."""
