"""The TFDS route without TensorFlow: arrays → prepared records → arrays.

TFDS's stock MNIST builder needs TensorFlow to open files and to code PNGs. This one takes arrays and keeps images as
raw bytes in array_record files, which any TFDS reader can open (`tfds.builder_from_directory`).
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

# Its bars name temporary files and last a second each; `prepare` logs what matters.
tfds.disable_progress_bar()

_FILES = {
    "train": (TRAIN_IMAGES, TRAIN_LABELS),
    "test": (TEST_IMAGES, TEST_LABELS),
}
_READ_CHUNK_ROWS = 10_000


def build_and_read(dataset: DatasetInfo, arrays: Mapping[str, NDArray[np.uint8]], records: Path) -> dict[str, Rows]:
    """Writes a dataset's TFDS records, and reads them back.

    Args:
        dataset: which dataset it is.
        arrays: the contents of its files, by file name.
        records: folder to make for the records, in one that exists.

    Returns:
        The rows of the `train` files and of the `test` files.

    Raises:
        UserError: the records do not give back what was written.
    """
    builder = _ArraysBuilder(dataset, arrays, records)
    with (
        tempfile.TemporaryDirectory(dir=records.parent) as downloads,  # TFDS wants one even if nothing is downloaded
        contextlib.redirect_stdout(io.StringIO()),  # it prints where it writes, which is a temporary place
    ):
        builder.download_and_prepare(download_dir=downloads)
    return {split: _read_back(builder, split) for split in _FILES}


class _DatasetInfo(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Does not look in TFDS's bucket: it has nothing of ours, and each look leaves an empty temporary folder."""


class _ArraysBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A TFDS builder for any dataset."""

    VERSION = tfds.core.Version("1.0.0")
    # TFDS looks beside the code for a checksums.tsv, with a package that it does not depend on; the dataset has ours.
    code_path = None

    def __init__(self, dataset: DatasetInfo, arrays: Mapping[str, NDArray[np.uint8]], data_dir: Path):
        self.name = dataset.name  # pyright: ignore[reportAttributeAccessIssue]  # ClassVar: TFDS means one class a dataset
        self.dataset = dataset
        self.arrays = arrays
        super().__init__(data_dir=data_dir, file_format="array_record")

    @property
    def image_shape(self) -> tuple[int, ...]:
        """As in the files: [height, width] or [height, width, channels]."""
        return self.arrays[TRAIN_IMAGES].shape[1:]

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Tensor(shape=self.image_shape, dtype=np.uint8, encoding="bytes"),
                "label": tfds.features.ClassLabel(num_classes=self.dataset.n_classes),
            }
        )
        # The files' order is the records' order: the splits' permutations count on it.
        return _DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # the files are here already: sources.py downloads, so that it can go on to the next source
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
        # The files' own digests again: proof that the way through the records lost and moved nothing.
        if idx_sha256(array) != builder.dataset.file_sha256[file]:
            raise UserError(f"{builder.data_dir}: the records do not give back {file}; is the disk faulty?")
    return Rows(images.reshape(len(source), -1), labels)
