"""What `data` prints."""

from __future__ import annotations

from mnist_hpo.cli.schemas.output import Output


class SplitOutput(Output):
    """A split of a dataset."""

    n_train: int
    n_valid: int
    n_test: int
    permutation_sha256: str
    """Of the permutation that drew the split, as little-endian int64."""
    class_counts: dict[str, list[int]]
    """By part (train, valid, test): examples of each class."""


class DataOutput(Output):
    """A prepared dataset."""

    dataset: str
    directory: str
    source: str
    """A description of where the files came from."""
    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    digest: str
    """The digest of the whole dataset, which studies record."""
    file_sha256: dict[str, str]
    """Of each uncompressed IDX file, by name; of a folder of other files, as if its arrays were in IDX files."""
    splits: dict[str, SplitOutput]
