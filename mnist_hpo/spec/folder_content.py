"""What a user's folder of images and labels holds, apart from the data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

CONTENT = "dataset_content"
"""The key under which a study records it, as JSON."""


@dataclass(frozen=True)
class FolderContent:
    """The sizes and digests of a folder's images and labels: all that a study needs to know of them."""

    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    n_classes: int
    """The largest label + 1."""
    n_train: int
    """Rows of the training files."""
    n_test: int
    """Rows of the test files."""
    file_sha256: Mapping[str, str]
    """SHA-256 of each array, as an uncompressed IDX file, by MNIST's names of these files. It does not matter in which
    format the folder holds the arrays."""

    def to_json(self) -> str:
        """As text that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> FolderContent:
        """What `to_json` wrote."""
        fields = json.loads(text)
        height, width, channels = fields.pop("image_shape")
        return cls(image_shape=(height, width, channels), **fields)
