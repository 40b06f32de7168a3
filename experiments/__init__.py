"""Experiments behind the README's figures: each a script that writes raw rows and prints a summary of them."""

from freerea_patch import share_cores

share_cores()  # before a script imports torch
