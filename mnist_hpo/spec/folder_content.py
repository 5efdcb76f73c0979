"""The description of a user's folder of images and labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

CONTENT = "dataset_content"
"""The key under which a study records a `FolderContent`, as JSON."""


@dataclass(frozen=True)
class FolderContent:
    """The sizes and digests of a folder's images and labels."""

    image_shape: tuple[int, int, int]
    """Height, width and channels."""
    n_classes: int
    """The largest label plus one."""
    n_train: int
    """The number of rows in the training files."""
    n_test: int
    """The number of rows in the test files."""
    file_sha256: Mapping[str, str]
    """SHA-256 of each array as an uncompressed IDX file, by MNIST's file names. It does not depend on the format of the
    folder's files."""

    def to_json(self) -> str:
        """Return a JSON text that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> FolderContent:
        """Return the content that `to_json` wrote."""
        fields = json.loads(text)
        height, width, channels = fields.pop("image_shape")
        return cls(image_shape=(height, width, channels), **fields)
