"""A study file that is well-formed but cannot be run is refused before anything is computed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_hpo.learners.catalog import MODELS
from mnist_hpo.search.check import check_study
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.reader import read_study

WriteStudy = Callable[..., Path]


def refusal(path: Path) -> str:
    file = read_study(path)
    with pytest.raises(UserError) as caught:
        check_study(file)
    return str(caught.value)


def line_of(path: Path, text: str) -> int:
    return 1 + next(i for i, line in enumerate(path.read_text().splitlines()) if text in line)


@pytest.mark.parametrize("sampler", ["random", "tpe", "{name: tpe, n_startup_trials: 4, multivariate: true}"])
@pytest.mark.parametrize(
    "pruner",
    [
        "none",
        "median",
        "{name: median, n_startup_trials: 2, n_warmup_steps: 3, interval_steps: 2}",
        "hyperband",
        "{name: hyperband, min_resource: 2, reduction_factor: 2}",
        "successive_halving",
        "{name: successive_halving, min_resource: 3, reduction_factor: 3, min_early_stopping_rate: 1}",
    ],
)
def test_valid_samplers_and_pruners_are_accepted(write_study: WriteStudy, sampler: str, pruner: str) -> None:
    check_study(read_study(write_study("sampler: random", f"sampler: {sampler}", "pruner: none", f"pruner: {pruner}")))


def test_a_budget_of_the_whole_grid_is_accepted(write_study: WriteStudy) -> None:
    path = write_study(
        *("sampler: random", "sampler: grid"),
        *("low: 0.0001, high: 0.1, log: true", "low: 0.25, high: 1.0, step: 0.25"),
        *("learning_rate: 0.001", "learning_rate: 0.5"),
        *("n_trials: 4", "n_trials: 25"),  # 4 learning rates, 2 widths, 3 dropouts, 1 enqueued
    )
    check_study(read_study(path))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "dataset: mnist",
            "dataset: mnits",
            "dataset: unknown dataset 'mnits'; did you mean 'mnist'?; known are "
            "emnist_digits, fashion_mnist, kmnist, mnist",
        ),
        (
            "split: standard",
            "split: papers",
            "split: unknown split of mnist 'papers'; did you mean 'paper'?; known are standard, paper",
        ),
        (
            "model: mlp",
            "model: mpl",
            f"model: unknown model 'mpl'; did you mean 'mlp'?; known are {', '.join(MODELS.names)}",
        ),
        (
            "sampler: random",
            "sampler: tpee",
            "sampler.name: unknown sampler 'tpee'; did you mean 'tpe'?; known are tpe, random, grid, "
            "qmc, gp, cmaes, genetic, nsgaii, nsgaiii",
        ),
        (
            "pruner: none",
            "pruner: hyperban",
            "pruner.name: unknown pruner 'hyperban'; did you mean 'hyperband'?; "
            "known are none, median, percentile, threshold, hyperband, successive_halving, wilcoxon, patient",
        ),
    ],
)
def test_an_unknown_name_is_reported_with_the_nearest_and_all_known_ones(
    write_study: WriteStudy, old: str, new: str, message: str
) -> None:
    path = write_study(old, new)
    assert refusal(path) == f"{path}, line {line_of(path, new)}: {message}"


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("  width: {", "  widht: {", "space.widht"),
        ("  depth: 2", "  dept: 2", "fixed.dept"),
    ],
)
def test_an_unknown_hyperparameter_is_refused(write_study: WriteStudy, old: str, new: str, where: str) -> None:
    path = write_study(old, new)
    message = refusal(path)
    name = where.split(".")[1]
    assert message.startswith(
        f"{path}, line {line_of(path, new)}: {where}: unknown hyperparameter of the model mlp: {name!r}; did you mean "
    )
    assert "known are depth, width, taper, activation, normalization, residual, learning_rate, batch_size, " in message


@pytest.mark.parametrize("section", ["space", "fixed"])
def test_a_batch_larger_than_the_training_set_is_refused(write_study: WriteStudy, section: str) -> None:
    entry = {
        "space": ("width: {type", "batch_size: {type: int, low: 64, high: 42001}\n  width: {type"),
        "fixed": ("depth: 2", "depth: 2\n  batch_size: 42001"),
    }[section]
    path = write_study(*entry, "split: standard", "split: paper")
    line = line_of(path, "batch_size")
    assert refusal(path) == (
        f"{path}, line {line}: {section}.batch_size: a batch of 42001 is more than the 42000 training examples of paper"
    )


def test_a_batch_as_large_as_the_training_set_is_accepted(write_study: WriteStudy) -> None:
    check_study(read_study(write_study("depth: 2", "depth: 2\n  batch_size: 50000")))


@pytest.mark.parametrize(
    ("n_train", "batch_size", "message"),
    [
        ("50001", "128", "fixed.n_train: 50001 is more than the 50000 training examples of standard"),
        (
            "499",
            "500",
            "fixed.n_train: 499 training examples do not fill a batch of 500; raise n_train or lower batch_size",
        ),
        ("0", "1", "fixed.n_train: must be from 1 to 1e+08, not 0"),
    ],
)
def test_an_invalid_n_train_is_refused(write_study: WriteStudy, n_train: str, batch_size: str, message: str) -> None:
    path = write_study("depth: 2", f"depth: 2\n  n_train: {n_train}\n  batch_size: {batch_size}")
    assert refusal(path) == f"{path}, line {line_of(path, 'n_train')}: {message}"


def test_an_n_train_below_the_default_batch_size_is_refused(write_study: WriteStudy) -> None:
    path = write_study("width: {type", "n_train: {type: int, low: 100, high: 1000}\n  width: {type")
    assert "space.n_train: 100 training examples do not fill a batch of 128" in refusal(path)


def test_the_smallest_n_train_must_fill_the_largest_batch(write_study: WriteStudy) -> None:
    searched = (
        "n_train: {type: int, low: 200, high: 1000}\n  batch_size: {type: int, low: 64, high: 256}\n  width: {type"
    )
    assert "200 training examples do not fill a batch of 256" in refusal(write_study("width: {type", searched))


def test_an_n_train_that_fills_a_batch_is_accepted(write_study: WriteStudy) -> None:
    check_study(read_study(write_study("depth: 2", "depth: 2\n  n_train: 500\n  batch_size: 500")))


@pytest.mark.parametrize(
    ("old", "new", "where", "problem"),
    [
        ("choices: [32, 64]", "choices: [32, 0]", "space.width", "must be from 1 to 8192, not 0"),
        ("choices: [32, 64]", "choices: [32, wide]", "space.width", "must be a whole number, not 'wide'"),
        ("high: 0.5", "high: 1.0", "space.dropout", "must be from 0 to 0.95, not 1.0"),
        ("depth: 2", "depth: 2.5", "fixed.depth", "must be a whole number, not 2.5"),
        ("depth: 2", "optimizer: adm", "fixed.optimizer", "must be one of adam, adamw, sgd, sgd_nesterov, rmsprop"),
        ("depth: 2", "l2: -1.0", "fixed.l2", "must be from 0 to 1e+06, not -1.0"),
    ],
)
def test_an_invalid_value_of_a_hyperparameter_is_refused(
    write_study: WriteStudy, old: str, new: str, where: str, problem: str
) -> None:
    path = write_study(old, new)
    message = refusal(path)
    assert f": {where}: " in message
    assert problem in message
    assert message.startswith(f"{path}, line ")


def test_an_integer_hyperparameter_searched_as_a_float_is_refused(write_study: WriteStudy) -> None:
    path = write_study("type: categorical, choices: [32, 64]", "type: float, low: 32, high: 64")
    assert refusal(path) == (
        f"{path}, line {line_of(path, 'width: {')}: space.width: width is a whole number; use type: int"
    )


@pytest.mark.parametrize(
    ("old", "new", "where", "problem"),
    [
        (
            "sampler: random",
            "sampler: {name: tpe, n_startup_trial: 4}",
            "sampler.n_startup_trial",
            "unknown option; did you mean 'n_startup_trials'?; known are ",
        ),
        ("sampler: random", "sampler: {name: random, seed: 4}", "sampler.seed", "unknown option; known are none"),
        (
            "sampler: random",
            "sampler: {name: tpe, n_startup_trials: few}",
            "sampler.n_startup_trials",
            "Input should be a valid integer, not 'few'",
        ),
        (
            "pruner: none",
            "pruner: {name: median, warmup_steps: 4}",
            "pruner.warmup_steps",
            "unknown option; did you mean 'n_warmup_steps'?; known are ",
        ),
        (
            "pruner: none",
            "pruner: {name: median, interval_steps: 0}",
            "pruner.interval_steps",
            "must be a number from 1 to 1,000,000, not 0",
        ),
        (
            "pruner: none",
            "pruner: {name: successive_halving, min_resource: auto}",
            "pruner.min_resource",
            "'auto' is not deterministic; give the number of epochs, or leave min_resource out",
        ),
        (
            "pruner: none",
            "pruner: {name: hyperband, max_resource: auto}",
            "pruner.max_resource",
            "'auto' is not deterministic; give the number of epochs, or leave max_resource out",
        ),
        ("pruner: none", "pruner: {name: none, patience: 3}", "pruner.patience", "unknown option; known are none"),
        (
            "sampler: random",
            "sampler: {name: qmc, qmc_type: faure}",
            "sampler.qmc_type",
            "Input should be 'sobol' or 'halton', not 'faure'",
        ),
        (
            "pruner: none",
            "pruner: {name: patient, wraps: {name: median, warmup_steps: 4}}",
            "pruner.wraps.warmup_steps",
            "unknown option; did you mean 'n_warmup_steps'?; known are ",
        ),
        (
            "pruner: none",
            "pruner: {name: patient, wraps: {name: successive_halving, min_resource: auto}}",
            "pruner.wraps.min_resource",
            "'auto' is not deterministic; give the number of epochs, or leave min_resource out",
        ),
        (
            "pruner: none",
            "pruner: {name: patient, wraps: medain}",
            "pruner.wraps.name",
            "cannot wrap the pruner 'medain'; did you mean 'median'?; can wrap median, percentile, threshold, ",
        ),
        (
            "pruner: none",
            "pruner: {name: patient, wraps: patient}",
            "pruner.wraps.name",
            "cannot wrap the pruner 'patient'",
        ),
        ("pruner: none", "pruner: {name: patient, wraps: 3}", "pruner.wraps", "Input should be a "),
        ("pruner: none", "pruner: {name: patient, wraps: {patience: 3}}", "pruner.wraps", "Field required"),
        ("pruner: none", "pruner: threshold", "pruner", "Either lower or upper must be specified"),
    ],
)
def test_an_unknown_or_invalid_option_of_a_sampler_or_pruner_is_refused(
    write_study: WriteStudy, old: str, new: str, where: str, problem: str
) -> None:
    path = write_study(old, new)
    assert refusal(path).startswith(f"{path}, line {line_of(path, new)}: {where}: {problem}")


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("learning_rate: 0.001,", "learning_rate: 0.5,", "learning_rate"),
        ("width: 32,", "width: 48,", "width"),
        ("dropout: 0.25}", "dropout: 0.3}", "dropout"),
        ("dropout: 0.25}", "dropout: high}", "dropout"),
    ],
)
def test_an_enqueued_value_outside_the_space_is_refused(write_study: WriteStudy, old: str, new: str, name: str) -> None:
    path = write_study(old, new)
    message = refusal(path)
    assert message.startswith(f"{path}, line {line_of(path, '- {learning_rate')}: enqueue.0.{name}: ")
    assert message.endswith(f"is outside the search space of {name}; widen space.{name} or change it")


def test_an_enqueued_name_that_is_not_searched_is_refused(write_study: WriteStudy) -> None:
    path = write_study("width: 32,", "widht: 32,")
    assert refusal(path).endswith(
        "enqueue.0.widht: not in the search space; did you mean 'width'?; it has learning_rate, width, dropout"
    )


def test_an_enqueued_trial_may_repeat_but_not_change_a_fixed_value(write_study: WriteStudy) -> None:
    check_study(read_study(write_study("width: 32,", "width: 32, depth: 2,")))
    path = write_study("width: 32,", "width: 32, depth: 3,")
    assert refusal(path).endswith("enqueue.0.depth: is fixed at 2, but is 3 here")


def test_an_enqueued_trial_may_be_incomplete(write_study: WriteStudy) -> None:
    check_study(read_study(write_study("width: 32, ", "", "sampler: random", "sampler: tpe")))


def test_a_grid_without_steps_is_refused(write_study: WriteStudy) -> None:
    path = write_study("sampler: random", "sampler: grid")
    assert refusal(path) == (
        f"{path}, line {line_of(path, 'learning_rate: {type')}: space.learning_rate: "
        "the grid sampler needs a step or choices here; give them, or use another sampler"
    )


def test_more_trials_than_grid_points_are_refused(write_study: WriteStudy) -> None:
    path = write_study(
        *("sampler: random", "sampler: grid"),
        *("low: 0.0001, high: 0.1, log: true", "low: 0.25, high: 1.0, step: 0.25"),
        *("learning_rate: 0.001", "learning_rate: 0.5"),
        *("n_trials: 4", "n_trials: 26"),
    )
    assert refusal(path) == (
        f"{path}, line {line_of(path, 'n_trials')}: budget.n_trials: the grid has only 25 points, fewer than 26 trials"
    )


def test_a_grid_with_too_many_points_is_refused(write_study: WriteStudy) -> None:
    path = write_study(
        *("sampler: random", "sampler: grid"),
        *("low: 0.0001, high: 0.1, log: true", "low: 0.25, high: 1.0, step: 0.25"),
        *("learning_rate: 0.001", "learning_rate: 0.5"),
        *("depth: 2", "depth: 2\n  l1: 0.0"),
        *("width: {type: categorical, choices: [32, 64]}", "width: {type: categorical, choices: [32, 64]}"),
        *("step: 0.25\nfixed", "step: 1.0e-06\nfixed"),
    )
    assert refusal(path) == (
        f"{path}, line {line_of(path, 'dropout:')}: space.dropout: the grid has 4,000,008 points, but the grid "
        "sampler supports at most 100,000; widen the step, or use another sampler"
    )


def test_an_incomplete_enqueued_trial_is_refused_with_a_grid(write_study: WriteStudy) -> None:
    path = write_study(
        *("sampler: random", "sampler: grid"),
        *("low: 0.0001, high: 0.1, log: true", "low: 0.25, high: 1.0, step: 0.25"),
        *("learning_rate: 0.001, ", ""),
    )
    line = line_of(path, "- {width")
    assert refusal(path) == (
        f"{path}, line {line}: enqueue.0: the grid sampler cannot fill in learning_rate; give it here"
    )


@pytest.mark.parametrize("sampler", ["gp", "cmaes", "genetic"])
def test_several_objectives_are_refused_where_a_sampler_optimises_one(write_study: WriteStudy, sampler: str) -> None:
    path = write_study(
        "sampler: random", f"sampler: {sampler}\nobjectives: [{{metric: valid_loss}}, {{metric: flops}}]"
    )
    assert refusal(path) == (
        f"{path}, line {line_of(path, 'sampler: ')}: sampler: {sampler} optimises one objective; "
        "with several, use tpe, random, grid, qmc, nsgaii or nsgaiii"
    )
