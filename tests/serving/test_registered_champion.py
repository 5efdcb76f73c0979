"""The service finds the registry's champion of a study, and follows the alias."""

from pathlib import Path

import mlflow
import numpy as np
import pytest
from command import Folder
from load import Load
from mlflow import MlflowClient
from served import PROGRAM, Served, start_command, write_model

import mnist_hpo.bundle.mlflow_model
from mnist_hpo.api.serving import RegisteredChampion
from mnist_hpo.spec.errors import UserError
from mnist_hpo.tracking.client import connect


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store that the tests share, each with a registered model of its own: creating one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('registry')}/mlflow.db"


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return connect(uri)


def register(client: MlflowClient, name: str, folder: Path, seed: int, *, is_champion: bool = True) -> None:
    """Register a model as `retrain` does."""
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    bundle = write_model(folder / f"bundle-{seed}", seed)
    mlflow.pyfunc.save_model(
        folder / f"logged-{seed}",
        python_model=mnist_hpo.bundle.mlflow_model.__file__,
        artifacts={"bundle": str(bundle)},
        pip_requirements=[],
    )
    version = client.create_model_version(name, (folder / f"logged-{seed}").as_uri()).version
    if is_champion:
        client.set_registered_model_alias(name, "champion", str(version))


def test_without_a_champion_there_is_no_version(tmp_path: Path, client: MlflowClient, uri: str) -> None:
    client.create_registered_model("without")
    assert RegisteredChampion("without", uri).version() is None
    assert RegisteredChampion("nothing", uri).version() is None
    assert RegisteredChampion("without", f"sqlite:///{tmp_path}/none.db").version() is None
    assert not (tmp_path / "none.db").exists()


def test_the_files_of_a_version_are_those_that_were_registered(tmp_path: Path, client: MlflowClient, uri: str) -> None:
    register(client, "files", tmp_path, 1)
    register(client, "files", tmp_path, 2, is_champion=False)
    champion = RegisteredChampion("files", uri)
    assert champion.version() == "1"
    for version in ("1", "2"):
        source = champion.fetch(version)
        assert source.version == version
        for name in ("model.json", "model.safetensors"):
            assert (source.folder / name).read_bytes() == (tmp_path / f"bundle-{version}" / name).read_bytes()


def test_another_model_is_refused(tmp_path: Path, client: MlflowClient, uri: str) -> None:
    client.create_registered_model("another")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "MLmodel").write_text("flavors: {}\n")
    client.create_model_version("another", (tmp_path / "other").as_uri())
    with pytest.raises(UserError, match="no model of mnist-hpo"):
        RegisteredChampion("another", uri).fetch("1")


@pytest.mark.slow
def test_the_command_serves_the_champion_and_follows_the_alias(tmp_path: Path, client: MlflowClient, uri: str) -> None:
    register(client, "followed", tmp_path, 1)
    served = start_command("followed", "--tracking-uri", uri, "--reload-alias", "--reload-every", "0.2")
    load = Load(served, np.zeros((1, 784), int).tolist(), n_clients=4)
    load.wait_for(50)
    register(client, "followed", tmp_path, 2)
    while not any(line["event"] == "model_loaded" and line["model"]["version"] == "2" for line in served.log()):
        load.wait_for(1)
    load.wait_for(50)
    load.stop()
    assert load.outcomes.keys() == {"answered"}, load.outcomes
    assert {version for version, _ in load.answers} == {"1", "2"}
    assert served.stop() == 0


@pytest.mark.slow
def test_without_a_champion_the_best_trials_model_is_served(finished: Folder) -> None:
    command = [str(PROGRAM), "serve", "small", "--port", "0"]
    uri = f"sqlite:///{finished.path}/mlruns"
    where = ["--storage", f"{uri}/optuna.db", "--tracking-uri", f"{uri}/none.db"]
    served = Served([*command, *where], folder=finished.path)
    model = served.get("/v1/model").json()
    assert (model["study"], model["trial"]) == ("small", finished.status()["best"]["number"])
    assert served.stop() == 0
