import pytest

from mnist_hpo.data.registry import DATASETS, dataset_info
from mnist_hpo.spec.errors import UserError


def test_the_sizes_of_mnist_are_available_without_its_files():
    info = dataset_info("mnist")
    assert (info.n_features, info.n_classes) == (784, 10)
    sizes = {name: (plan.n_train, plan.n_valid, plan.n_test) for name, plan in info.splits.items()}
    assert sizes == {"standard": (50_000, 10_000, 10_000), "paper": (42_000, 14_000, 14_000)}


def test_the_digest_of_mnist_is_fixed():
    assert dataset_info("mnist").digest == "c65580678af93f1ea48c2c0d01d543ec89307c6b8a0eb7ca542d7c18c5f4c681"


def test_an_unknown_dataset_is_rejected_and_the_known_ones_are_listed():
    with pytest.raises(UserError, match=r"unknown dataset 'minst'; known are .*fashion_mnist.*, mnist"):
        dataset_info("minst")


@pytest.mark.parametrize("name", DATASETS.names)
def test_every_dataset_is_named_like_its_module(name):
    assert dataset_info(name).name == name
