"""Kuzushiji-MNIST: 70,000 handwritten characters of 10 Japanese syllables, 28 × 28 pixels, grey.

Clanuwat et al., "Deep Learning for Classical Japanese Literature" (2018). The files come from a local folder
(`--data-source`). Their digests are not known in advance, so they are recorded when the dataset is prepared.
"""

from mnist_hpo.data.dataset import DatasetInfo, SplitPlan

DATASET = DatasetInfo(
    name="kmnist",
    image_shape=(28, 28, 1),
    n_classes=10,
    file_sha256={},
    splits={
        "standard": SplitPlan("training files", n_train=50_000, n_valid=10_000, n_test=10_000),
        "paper": SplitPlan("all", n_train=42_000, n_valid=14_000, n_test=14_000),
    },
    sources=(),
)
