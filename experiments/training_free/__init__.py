"""Whether training-free metrics equal the published values, and what they cost."""
