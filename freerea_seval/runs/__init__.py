"""Run folders: what a search writes, how it is resumed, and how it is shown."""
