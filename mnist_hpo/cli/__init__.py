"""The commands of `mnist-hpo`.

Each command parses its arguments, calls other packages, prints the result and exits. A command imports those packages
inside its function, so that `--help` starts fast.
"""

from mnist_hpo.cli.main import main

__all__ = ["main"]
