"""Write arrays as TFDS records and read them back, without TensorFlow.

TFDS's own MNIST builder needs TensorFlow to open files and to encode PNGs. This builder takes arrays and stores images
as raw bytes in array_record files, which any TFDS reader can open (`tfds.builder_from_directory`).
"""

import contextlib
import io
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from numpy.typing import NDArray

from mnist_hpo.data.dataset import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, DatasetInfo
from mnist_hpo.data.idx import idx_sha256
from mnist_hpo.data.splits import Rows
from mnist_hpo.spec.errors import UserError

# The bars would show temporary file names for a second each; `prepare` logs the progress.
tfds.disable_progress_bar()

_FILES = {
    "train": (TRAIN_IMAGES, TRAIN_LABELS),
    "test": (TEST_IMAGES, TEST_LABELS),
}
_READ_CHUNK_ROWS = 10_000


def build_and_read(dataset: DatasetInfo, arrays: Mapping[str, NDArray[np.uint8]], records: Path) -> dict[str, Rows]:
    """Write a dataset's TFDS records and read them back.

    Args:
        dataset: the dataset.
        arrays: the contents of its files, by file name.
        records: the folder to create for the records; its parent must exist.

    Returns:
        The rows of the training files, as "train", and of the test files, as "test".

    Raises:
        UserError: the records differ from the arrays.
    """
    builder = _ArraysBuilder(dataset, arrays, records)
    with (
        tempfile.TemporaryDirectory(dir=records.parent) as downloads,  # TFDS requires one even without downloads.
        contextlib.redirect_stdout(io.StringIO()),  # TFDS prints the path, which is temporary.
    ):
        builder.download_and_prepare(download_dir=downloads)
    return {split: _read_back(builder, split) for split in _FILES}


class _DatasetInfo(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Skip TFDS's bucket: it has no data for this dataset, and each look-up leaves an empty temporary folder."""


class _ArraysBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A TFDS builder for any dataset."""

    VERSION = tfds.core.Version("1.0.0")
    # Without this, TFDS imports a package that it does not depend on to look for a checksums.tsv beside the code.
    # `DatasetInfo.file_sha256` has the digests.
    code_path = None

    def __init__(self, dataset: DatasetInfo, arrays: Mapping[str, NDArray[np.uint8]], data_dir: Path):
        self.name = dataset.name  # pyright: ignore[reportAttributeAccessIssue]  # ClassVar: TFDS means one class a dataset
        self.dataset = dataset
        self.arrays = arrays
        super().__init__(data_dir=data_dir, file_format="array_record")

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of an image in the files: [height, width] or [height, width, channels]."""
        return self.arrays[TRAIN_IMAGES].shape[1:]

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Tensor(shape=self.image_shape, dtype=np.uint8, encoding="bytes"),
                "label": tfds.features.ClassLabel(num_classes=self.dataset.n_classes),
            }
        )
        # The records must keep the files' order, since the splits' permutations refer to it.
        return _DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # `sources` has downloaded the files, so that `prepare` can try the next source after a failure.
        return {split: self._generate_examples(self.arrays[x], self.arrays[y]) for split, (x, y) in _FILES.items()}

    def _generate_examples(
        self, images: NDArray[np.uint8], labels: NDArray[np.uint8]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for row, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            yield row, {"image": image, "label": label}


def _read_back(builder: _ArraysBuilder, split: str) -> Rows:
    source = builder.as_data_source(split=split)  # pyright: ignore[reportCallIssue]  # TFDS's decorator hides the parameters
    images = np.empty((len(source), *builder.image_shape), np.uint8)
    labels = np.empty(len(source), np.uint8)
    for start in range(0, len(source), _READ_CHUNK_ROWS):
        stop = min(start + _READ_CHUNK_ROWS, len(source))
        for row, record in enumerate(source.__getitems__(range(start, stop)), start):
            images[row] = record["image"]
            labels[row] = record["label"]
    for array, file in zip((images, labels), _FILES[split], strict=True):
        if idx_sha256(array) != idx_sha256(builder.arrays[file]):
            raise UserError(f"{builder.data_dir}: the records differ from {file}; is the disk faulty?")
    return Rows(images.reshape(len(source), -1), labels)
