"""Fashion-MNIST: 70,000 pictures of clothes in 10 classes, 28 × 28 pixels, grey.

Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms" (2017).
The digests are those of the files in Debian's package dataset-fashion-mnist 0.0~git20200523.55506a9-1.
"""

from pathlib import Path

from mnist_hpo.data.dataset import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, DatasetInfo, SplitPlan
from mnist_hpo.data.sources import DebianPackage, Download

DATASET = DatasetInfo(
    name="fashion_mnist",
    image_shape=(28, 28, 1),
    n_classes=10,
    file_sha256={
        TRAIN_IMAGES: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        TRAIN_LABELS: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        TEST_IMAGES: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        TEST_LABELS: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    splits={
        "standard": SplitPlan("training files", n_train=50_000, n_valid=10_000, n_test=10_000),
        "paper": SplitPlan("all", n_train=42_000, n_valid=14_000, n_test=14_000),
    },
    sources=(
        DebianPackage("dataset-fashion-mnist", Path("/usr/share/datasets/fashion-mnist")),
        Download("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"),
    ),
)
