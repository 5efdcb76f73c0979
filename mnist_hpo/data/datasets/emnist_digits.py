"""The digits of EMNIST: 280,000 handwritten digits, 28 × 28 pixels, grey.

Cohen et al., "EMNIST: Extending MNIST to Handwritten Letters" (2017). The files come from a local folder
(`--data-source`). Their digests are not known in advance, so they are recorded when the dataset is prepared.

The files store the images transposed; they are prepared upright, as in MNIST. Both datasets were sampled from the same
collection, so examples of MNIST's test split may be among the training examples of this dataset.
"""

from mnist_hpo.data.dataset import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, DatasetInfo, SplitPlan

DATASET = DatasetInfo(
    name="emnist_digits",
    image_shape=(28, 28, 1),
    n_classes=10,
    file_sha256={},
    splits={
        "standard": SplitPlan("training files", n_train=200_000, n_valid=40_000, n_test=40_000),
        "paper": SplitPlan("all", n_train=168_000, n_valid=56_000, n_test=56_000),
    },
    sources=(),
    own_names={
        TRAIN_IMAGES: "emnist-digits-train-images-idx3-ubyte",
        TRAIN_LABELS: "emnist-digits-train-labels-idx1-ubyte",
        TEST_IMAGES: "emnist-digits-test-images-idx3-ubyte",
        TEST_LABELS: "emnist-digits-test-labels-idx1-ubyte",
    },
    is_transposed=True,
)
