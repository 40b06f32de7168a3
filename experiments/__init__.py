"""Experiments behind the README's figures: each a script that writes raw rows and prints a summary of them."""
