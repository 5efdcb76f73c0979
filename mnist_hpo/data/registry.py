"""The datasets by name: the modules in `data/datasets` and the entry points of installed packages."""

from mnist_hpo.data.dataset import DatasetInfo
from mnist_hpo.data.folder import folder_dataset
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.plugins import Plugins
from mnist_hpo.spec.study import DatasetFolder

DATASETS = Plugins("dataset", "mnist_hpo.data.datasets", "DATASET", "mnist_hpo.datasets")


def dataset_info(dataset: str | DatasetFolder) -> DatasetInfo:
    """Return the description of a study's dataset.

    Args:
        dataset: the name of a dataset, or a folder that has been read.

    Raises:
        UserError: no dataset has this name, or its module cannot be loaded or does not export a matching
            `DatasetInfo`.
    """
    return folder_dataset(dataset) if isinstance(dataset, DatasetFolder) else _registered_dataset(dataset)


def _registered_dataset(name: str) -> DatasetInfo:
    found = DATASETS.load(name)
    if not isinstance(found, DatasetInfo):
        raise UserError(f"the dataset {name}: its file exports {type(found).__name__}, not a DatasetInfo")
    if found.name != name:
        raise UserError(f"the dataset {name}: its file exports the name {found.name!r}; make both names the same")
    return found
