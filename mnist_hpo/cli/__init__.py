"""The verbs of `mnist-hpo`: each parses, calls a room, prints and exits. Rooms are imported where a verb needs them."""

from mnist_hpo.cli.main import main

__all__ = ["main"]
