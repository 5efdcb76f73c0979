"""Static configurations (`Program`) for images of MNIST's shape."""

from mnist_hpo.learners.catalog import find_model
from mnist_hpo.learners.flax.program import Program, split
from mnist_hpo.learners.hyperparameters import complete
from mnist_hpo.spec.model import FlaxModel
from mnist_hpo.spec.study import ParameterValue


def program_of(model: str = "mlp", **parameters: ParameterValue) -> Program:
    found = find_model(model)
    assert isinstance(found, FlaxModel)
    return split(model, found, complete(model, parameters), image_shape=(28, 28, 1), n_classes=10)[0]
