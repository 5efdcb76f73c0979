"""Counts of parameters and FLOPs, from which an epoch's cost follows, are correct for every model."""

import itertools
import subprocess
import sys

import jax
import numpy as np
import pytest

from mnist_hpo.learners.catalog import MODELS, find_model
from mnist_hpo.learners.cost import describe
from mnist_hpo.learners.flax.counting import count
from mnist_hpo.learners.flax.variables import structure_of
from mnist_hpo.spec.data_shape import DataShape
from mnist_hpo.spec.model import Counts, FlaxModel
from mnist_hpo.spec.parameter import Choice, Parameter
from mnist_hpo.spec.study import ParameterValue

FLAX_MODELS = [name for name in MODELS.names if isinstance(find_model(name), FlaxModel)]
IMAGE_SHAPE = (28, 28, 1)


def some_values(parameter: Parameter) -> list[ParameterValue]:
    """Return the default of a hyperparameter and two other values."""
    if isinstance(parameter, Choice):
        return list(parameter.choices[:3])
    assert parameter.default is not None
    near = [parameter.default, parameter.low, min(3 * int(parameter.default) + 1, parameter.high)]
    return [parameter.kind(value) for value in dict.fromkeys(near)]


def architectures(model: FlaxModel) -> list[dict[str, ParameterValue]]:
    """Return architectures with one hyperparameter varied at a time, and one with all at their second value."""
    values = {name: some_values(parameter) for name, parameter in model.hyperparameters.items()}
    default = {name: parameter.default for name, parameter in model.hyperparameters.items()}
    varied = [default | {name: value} for name in values for value in values[name]]
    return [*varied, {name: choices[-1] for name, choices in values.items()}]  # type: ignore[list-item]


def counted(name: str, architecture: dict[str, ParameterValue]) -> Counts:
    model = find_model(name)
    assert isinstance(model, FlaxModel)
    return count(name, model.input_shape(IMAGE_SHAPE), 10, tuple(sorted(architecture.items())))


@pytest.mark.parametrize("name", FLAX_MODELS)
def test_counts_in_closed_form_equal_those_of_the_module(name: str) -> None:
    model = find_model(name)
    assert isinstance(model, FlaxModel)
    for architecture in architectures(model):
        found = counted(name, architecture)
        assert found.n_parameters > 0
        assert 2 * found.forward_flops < found.train_flops <= 3 * found.forward_flops
        if model.counts is not None:
            assert model.counts(model.input_shape(IMAGE_SHAPE), 10, architecture) == found, architecture


def test_counts_of_a_lenet_equal_a_calculation_by_hand() -> None:
    architecture = {"architecture": "lenet", "channels": 6, "kernel_size": 5, "activation": "tanh"}
    first, second = 28 * 28 * 6 * 25, 14 * 14 * 16 * 25 * 6
    dense = 7 * 7 * 16 * 120 + 120 * 84 + 84 * 10
    n_parameters = 6 * 26 + 16 * (25 * 6 + 1) + dense + 120 + 84 + 10
    # The gradient of the images is not computed.
    expected = Counts(n_parameters, 2 * (first + second + dense), 4 * first + 6 * (second + dense))
    assert counted("cnn", architecture) == expected


def test_the_moments_of_a_batch_normalisation_are_not_counted() -> None:
    architecture = {"architecture": "vgg", "channels": 4, "kernel_size": 3, "activation": "relu"}
    kernels = 9 * (1 * 4 + 4 * 4 + 4 * 8 + 8 * 8)
    scales_and_biases = 2 * (4 + 4 + 8 + 8)
    assert counted("cnn", architecture).n_parameters == kernels + scales_and_biases + 8 * 10 + 10


@pytest.mark.parametrize("name", MODELS.names)
def test_an_epoch_on_fewer_examples_costs_less(name: str) -> None:
    data = DataShape(IMAGE_SHAPE, 10, n_train=50_000, n_valid=10_000)
    costs = [describe(name, {"n_train": n_train}, data).epoch_cost for n_train in (1000, 10_000, 50_000)]
    assert costs == sorted(costs)
    assert costs[-1] == describe(name, {}, data).epoch_cost
    assert all(isinstance(cost, int) for cost in costs)


def test_the_cost_of_a_kernel_machine_grows_with_the_square_of_the_examples() -> None:
    data = DataShape(IMAGE_SHAPE, 10, n_train=50_000, n_valid=0)
    once, twice = (describe("svm", {"n_train": n_train}, data).epoch_cost for n_train in (10_000, 20_000))
    assert twice == pytest.approx(4 * once)


def test_mlps_are_counted_without_importing_jax() -> None:
    """The import would take commands that only read a study a second."""
    program = (
        "import sys\n"
        "from mnist_hpo.learners.catalog import MODELS, find_model\n"
        "from mnist_hpo.learners.cost import describe\n"
        "from mnist_hpo.data.registry import dataset_info\n"
        "for name in MODELS.names: find_model(name)\n"
        "for name in ('mlp', 'svm'): describe(name, {}, dataset_info('mnist').shape('standard'))\n"
        "print({'jax', 'flax', 'sklearn', 'optax'} & set(sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize("name", FLAX_MODELS)
def test_every_variable_has_a_role_and_weights_have_a_fan_in(name: str) -> None:
    from program import program_of

    structure = structure_of(program_of(name))
    roles = jax.tree.leaves((structure.parameter_roles, structure.statistic_roles))
    shapes = jax.tree.leaves((structure.parameters, structure.statistics))
    assert len(roles) == len(shapes)
    for role, shape in zip(roles, shapes, strict=True):
        expected = int(np.prod(shape.shape[:-1])) if role.is_weight else 0
        assert role.fan_in == expected
    assert {role.kind for role in roles} >= {"weight", "bias"}


def mlp_shapes() -> list[dict[str, ParameterValue]]:
    """Return every combination of the hyperparameters that change an MLP's variables."""
    values = {
        "depth": (1, 4),
        "width": (1, 37),
        "taper": (1.0, 0.6, 0.01),
        "normalization": ("none", "batch", "layer"),
        "residual": ("no", "yes"),
        "activation": ("relu",),
    }
    return [dict(zip(values, combination, strict=True)) for combination in itertools.product(*values.values())]


def test_the_counts_of_an_mlp_equal_those_of_the_module_for_all_combinations() -> None:
    """With as many inputs as units, every layer could have a residual connection."""
    model = find_model("mlp")
    assert isinstance(model, FlaxModel)
    assert model.counts is not None
    for architecture in mlp_shapes():
        found = model.counts((37,), 7, architecture)
        assert found == count("mlp", (37,), 7, tuple(sorted(architecture.items()))), architecture


@pytest.mark.parametrize("name", FLAX_MODELS)
def test_an_option_of_training_changes_no_count(name: str) -> None:
    """The cost of an epoch, and with it virtual time, depends only on shapes."""
    data = DataShape(IMAGE_SHAPE, 10, n_train=1000, n_valid=100)
    options = {"noise": 0.1, "mixup": 0.4, "averaging": "ema", "rotation": 9, "elastic": 9, "max_norm": 1}
    assert describe(name, options, data) == describe(name, {}, data)
