"""A model is one new file; here in third-party packages, installed in a folder outside this repository."""

import os
from pathlib import Path

import numpy as np
import pytest
from command import assert_refused, make_folder

from mnist_hpo.learners.catalog import MODELS

FLAX = '''\
"""A hidden layer with layer normalisation and a gain of its own. Flax may be imported at the top."""

import jax.numpy as jnp
from flax import nnx

from mnist_hpo.layers.mixed_precision import dot_general
from mnist_hpo.spec.model import FlaxModel
from mnist_hpo.spec.parameter import Number


class Gated(nnx.Module):
    def __init__(self, input_shape, n_classes, hyperparameters, precision, *, rngs):
        units = int(hyperparameters["units"])
        self.hidden = nnx.Linear(*input_shape, units, dot_general=dot_general(precision), rngs=rngs)
        self.norm = nnx.LayerNorm(units, rngs=rngs)
        self.gain = nnx.Param(jnp.zeros(units), role="scale")
        self.logits = nnx.Linear(units, n_classes, dot_general=dot_general(precision), rngs=rngs)

    def __call__(self, x, dropout):
        return self.logits(dropout(0, nnx.relu(self.norm(self.hidden(x))) * self.gain[...][None]))


MODEL = FlaxModel(hyperparameters={"units": Number(int, default=16, low=1, high=1000)}, module=lambda: Gated)
'''

SKLEARN = '''\
"""The nearest of the classes' means."""

import numpy as np

from mnist_hpo.spec.model import Description, SklearnModel
from mnist_hpo.spec.parameter import Number


def fit(images, labels, n_classes, parameters):
    from sklearn.neighbors import NearestCentroid

    found = NearestCentroid().fit(images / 255, labels)
    means = np.full((n_classes, images.shape[1]), 1e3)
    means[found.classes_] = found.centroids_ * parameters["shrinkage"]
    return {"means": means}


def scores(tensors, images, parameters):
    pixels, means = images / 255, tensors["means"]
    return 2 * pixels @ means.T - np.sum(means**2, 1)[None]


def describe(data, parameters):
    flops = 2 * data.n_features * data.n_train
    return Description(data.n_features * data.n_classes, flops, flops, epoch_cost=flops)


MODEL = SklearnModel({"shrinkage": Number(float, default=1.0, low=0, high=1)}, fit, scores, describe)
'''

STUDY = """\
name: small
model: {model}
budget: {{n_trials: 3, max_epochs: 2}}
sampler: random
space:
  {space}
fixed: {fixed}
"""

PLUG_INS = {
    "gated": (FLAX, "units: {type: int, low: 8, high: 32}", "{n_train: 1000, batch_size: 20, learning_rate: 0.01}"),
    "nearest_mean": (SKLEARN, "shrinkage: {type: float, low: 0.8, high: 1.0}", "{n_train: 1000}"),
}


def study_of(model: str) -> str:
    _, space, fixed = PLUG_INS[model]
    return STUDY.format(model=model, space=space, fixed=fixed)


def install(folder: Path, entry: str, **modules: str) -> None:
    """Install a package as pip does."""
    metadata = folder / "someones_models-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: someones-models\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[mnist_hpo.models]\n{entry}\n")
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    entries = [f"{name} = someones_{name}:MODEL" for name in PLUG_INS]
    install(
        tmp_path / "site", "\n".join(entries), **{f"someones_{name}": text for name, (text, *_) in PLUG_INS.items()}
    )
    return tmp_path / "site"


def with_packages(folder: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}


@pytest.mark.slow
@pytest.mark.parametrize("model", PLUG_INS)
def test_a_study_searches_over_a_model_of_another_package(tmp_path: Path, installed: Path, model: str) -> None:
    folder, environment = make_folder(tmp_path, model), with_packages(installed)
    (folder.path / "small.yaml").write_text(study_of(model))
    folder.run(**environment)
    trials = folder.call("trials", "small", "--json", **environment).json()
    assert [trial["state"] for trial in trials] == ["complete"] * 3
    assert all(trial["valid_loss"]["2"] < np.log(10) for trial in trials)
    if model == "gated":
        units = [trial["params"]["units"] for trial in trials]
        # Weights and biases of two layers, scale and bias of the normalisation, and the gain.
        assert [trial["n_parameters"] for trial in trials] == [784 * n + n + 3 * n + 10 * n + 10 for n in units]
    retrained = folder.call("retrain", "small", "--seeds", "1", "--json", **environment).json()
    assert retrained["reproduced"] == "exact"
    assert retrained["test_accuracy_mean"] > 0.7


def test_a_model_that_is_not_installed_is_unknown(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, "nobody")
    (folder.path / "small.yaml").write_text(study_of("gated"))
    assert_refused(folder.call("run", "small.yaml"), "unknown model 'gated'", f"known are {', '.join(MODELS.names)}")


@pytest.mark.parametrize(
    ("entry", "text", "message"),
    [
        ("gated = broken:MODEL", "import nobody_has_this", "broken:MODEL) cannot be loaded: No module named"),
        ("gated = broken:MODEL", "MODEL = 3", "its file exports int, not a FlaxModel or SklearnModel"),
        ("gated = broken:MODEL", "", "broken:MODEL) cannot be loaded: module 'broken' has no attribute 'MODEL'"),
        (
            "mlp = broken:MODEL",
            "",
            "the entry point mlp = broken:MODEL of mnist_hpo.models: another model has this name",
        ),
    ],
)
def test_a_broken_package_is_named(tmp_path: Path, entry: str, text: str, message: str) -> None:
    install(tmp_path / "site", entry, broken=text)
    folder = make_folder(tmp_path, "broken")
    (folder.path / "small.yaml").write_text(study_of("gated"))
    assert_refused(folder.call("run", "small.yaml", **with_packages(tmp_path / "site")), message)
