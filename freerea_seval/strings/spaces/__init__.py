"""Strings of whole search spaces, from parts that are traced once."""
