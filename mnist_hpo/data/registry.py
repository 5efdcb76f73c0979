"""The datasets by name: the files in `data/datasets`, and those that installed packages add by an entry point."""

from mnist_hpo.data.dataset import DatasetInfo
from mnist_hpo.data.folder import folder_dataset
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.plugins import Plugins
from mnist_hpo.spec.study import DatasetFolder

DATASETS = Plugins("dataset", "mnist_hpo.data.datasets", "DATASET", "mnist_hpo.datasets")


def dataset_info(dataset: str | DatasetFolder) -> DatasetInfo:
    """Looks up a dataset, as a study names it.

    Args:
        dataset: a name, or a folder whose content is known.

    Raises:
        UserError: no dataset has this name, or its file cannot be loaded or exports something else.
    """
    return folder_dataset(dataset) if isinstance(dataset, DatasetFolder) else _named(dataset)


def _named(name: str) -> DatasetInfo:
    found = DATASETS.load(name)
    if not isinstance(found, DatasetInfo):
        raise UserError(f"the dataset {name}: its file exports {type(found).__name__}, not a DatasetInfo")
    if found.name != name:
        raise UserError(f"the dataset {name}: its file exports the name {found.name!r}; make both names the same")
    return found
