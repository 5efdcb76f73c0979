"""`mnist-hpo bundle`: check models that have been handed on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnist_hpo.cli.common import JsonOption, console, print_json
from mnist_hpo.cli.help import Command, Group

app = typer.Typer(cls=Group, no_args_is_help=True, help="Check a model's folder.", rich_markup_mode="markdown")


@app.command("verify", cls=Command)
def verify(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The model's folder.")],
    as_json: JsonOption = False,
) -> None:
    """Check that a model's files are those that were written, and that the model can be loaded.

    No code from the folder is executed. Exit code 2: a file is changed, missing or unexpected, or the format is newer.

    Example: mnist-hpo bundle verify digits/
    """
    from mnist_hpo.bundle.bundle import bundle_of
    from mnist_hpo.bundle.reading import model_errors, read_model
    from mnist_hpo.cli.schemas.bundle import BundleOutput

    stored = read_model(directory)
    bundle_of(stored, directory)
    with model_errors(directory):
        found = BundleOutput.of(directory, stored.description)
    if as_json:
        print_json(found)
        return
    out = console()
    for name, file in found.files.items():
        out.print(f"{file.sha256}  {name} ({file.n_bytes:,} bytes)", soft_wrap=True)
    out.print(f"ok: {found.kind}, format {found.format}, {', '.join(f'{k} {v}' for k, v in found.origin.items())}")
