"""Create learners and predictors from configurations. A family's libraries are imported when first needed."""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from mnist_hpo.learners.catalog import find_model
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.flax.program import split
from mnist_hpo.learners.hyperparameters import complete
from mnist_hpo.learners.protocol import Examples, Learner, PortablePredictor, Predictor
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.model import FlaxModel, Tensors
from mnist_hpo.spec.parameter import ParameterSet

if TYPE_CHECKING:
    from mnist_hpo.learners.flax.device import DeviceArrays
    from mnist_hpo.learners.flax.programs import Programs


class LearnerFactory:
    """Creates learners, which share compiled programs and data on the device."""

    def make(self, config: TrainingConfig, train: Examples, *, n_classes: int) -> Learner:
        """Return the learner of a configuration.

        Args:
            config: the configuration to train.
            train: the training examples.
            n_classes: the number of classes.

        """
        model, values = find_model(config.model), complete(config.model, config.parameters)
        if not isinstance(model, FlaxModel):
            from mnist_hpo.learners.sklearn.learner import SklearnLearner

            return SklearnLearner(model, values, config, train, n_classes)
        from mnist_hpo.learners.flax.learner import FlaxLearner

        n_train = int(values["n_train"]) if "n_train" in values else None
        image_shape = train.shape(n_classes, 0).image_shape
        program, dynamic = split(config.model, model, values, image_shape=image_shape, n_classes=n_classes)
        if config.initial is not None:
            program = replace(program, learning_rate_factors=config.initial.learning_rate_factors)
        return FlaxLearner(self._programs, self._device, config, program, dynamic, train, n_train)

    @cached_property
    def _programs(self) -> Programs:
        from mnist_hpo.learners.flax.programs import Programs

        return Programs()

    @cached_property
    def _device(self) -> DeviceArrays:
        from mnist_hpo.learners.flax.device import DeviceArrays

        return DeviceArrays()


def make_predictor(
    model: str, parameters: ParameterSet, image_shape: tuple[int, int, int], n_classes: int, tensors: Tensors
) -> Predictor:
    """Return a predictor of a trained model.

    Args:
        model: the model's name.
        parameters: the hyperparameters of its training.
        image_shape: height, width and channels.
        n_classes: the number of classes.
        tensors: what `Learner.model` returned.

    Raises:
        UserError: the model does not exist.
        ValueError: the tensors are not those of the model.

    """
    found, values = find_model(model), complete(model, parameters)
    if not isinstance(found, FlaxModel):
        from mnist_hpo.learners.sklearn import learner as sklearn

        return sklearn.make_predictor(found, values, image_shape, n_classes, tensors)
    from mnist_hpo.learners.flax import learner as flax

    program, _ = split(model, found, values, image_shape=image_shape, n_classes=n_classes)
    return flax.make_predictor(program, tensors)


def make_portable(
    model: str, parameters: ParameterSet, image_shape: tuple[int, int, int], n_classes: int
) -> PortablePredictor:
    """Return a model's prediction in pure JAX, to convert it for other programs.

    Args:
        model: the model's name.
        parameters: the hyperparameters of its training.
        image_shape: height, width and channels.
        n_classes: the number of classes.

    Raises:
        UserError: the model does not exist, or is not a neural network.

    """
    found, values = find_model(model), complete(model, parameters)
    if not isinstance(found, FlaxModel):
        raise UserError(f"{model} is a model of scikit-learn; only neural networks can be converted")
    from mnist_hpo.learners.flax import learner as flax

    program, _ = split(model, found, values, image_shape=image_shape, n_classes=n_classes)
    return flax.make_portable(program)


def load_most_used() -> None:
    """Import the family that most studies use, so that the first job does not wait for the import."""
    importlib.import_module("mnist_hpo.learners.flax.learner")
