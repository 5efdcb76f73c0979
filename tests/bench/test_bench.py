"""`mnist-hpo bench` on small lists. The tests check that its figures are consistent, not that they are fast."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command import ENVIRONMENT, PROGRAM, ROOT
from jsonschema import validate

from mnist_hpo.bench.trainings import read_trainings
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.spec.seeds import seed_of

SMALL = {"depth": 1, "width": 16, "batch_size": 1000, "learning_rate": 0.01, "dropout": 0.1, "l2": 1e-6, "epochs": 2}
CNN = {key: value for key, value in SMALL.items() if key not in ("depth", "width")} | {"model": "cnn", "channels": 2}
RNN = SMALL | {"model": "rnn", "cell": "gru", "n_train": 2000, "epochs": 1}
pytestmark = pytest.mark.usefixtures("mnist")


@pytest.fixture
def trainings(tmp_path: Path) -> Path:
    path = tmp_path / "trainings.json"
    path.write_text(json.dumps([SMALL, SMALL | {"depth": 2, "epochs": 1}, SMALL | {"learning_rate": 0.001}]))
    return path


def bench(*arguments: str | Path) -> Any:
    """Run a benchmark and return its JSON output, validated against its schema."""
    ended = subprocess.run([PROGRAM, "bench", *arguments, "--json"], env=ENVIRONMENT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    schema = json.loads((ROOT / "docs" / "schemas" / f"bench-{arguments[0]}.schema.json").read_text())
    validate(document, schema)
    return document


def refused(*arguments: str | Path) -> str:
    ended = subprocess.run([PROGRAM, "bench", *arguments], env=ENVIRONMENT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_the_times_and_flops_of_a_replay_add_up(trainings: Path, mnist: PreparedDataset) -> None:
    figures = bench("replay", trainings, "--workers", "2")
    seconds = figures["worker_s"]
    assert sum(seconds.values()) == pytest.approx(2 * figures["wall_s"])
    assert min(seconds.values()) >= 0
    assert figures["gflops"] == pytest.approx(1000 * figures["tflop"] / figures["wall_s"])
    assert figures["fraction_of_peak"] == pytest.approx(figures["gflops"] / figures["sgemm_peak_gflops"])
    # 4 FLOPs per multiply-add in the first layer and 6 in the others; 50,000 examples per epoch.
    one, two = 4 * 784 * 16 + 6 * 160, 4 * 784 * 16 + 6 * (256 + 160)
    assert figures["tflop"] == pytest.approx(50_000 * (4 * one + two) / 1e12)
    assert len(figures["valid_accuracy"]) == 3
    assert min(figures["valid_accuracy"]) > 0.5
    assert figures["valid_accuracy"][0] != figures["valid_accuracy"][2]


def test_an_mlp_entry_trains_as_before(trainings: Path) -> None:
    """The configuration determines the results, and lists of MLPs without `model` are older than the key."""
    training = read_trainings(trainings)[1]
    parameters = SMALL | {"depth": 2, "precision": "bf16"}
    del parameters["epochs"]
    assert training.config(1, 0, "bf16") == TrainingConfig("mlp", parameters, seed_of(0, "replay", 1), max_epochs=1)


@pytest.mark.parametrize("path", sorted((ROOT / "studies" / "bench").glob("*.json")), ids=lambda path: path.stem)
def test_the_lists_of_the_repository_are_of_the_model_that_they_are_named_after(path: Path) -> None:
    trainings = read_trainings(path)
    assert {training.model for training in trainings} == {path.stem}
    for index, training in enumerate(trainings):
        assert training.flops() > 0
        assert training.config(index, 0, "fp32").parameters["n_train"] <= 12_800


@pytest.mark.slow
def test_results_of_a_replay_do_not_depend_on_the_workers_or_the_cache(trainings: Path) -> None:
    accuracies = [
        bench("replay", trainings, *options)["valid_accuracy"] for options in (["--workers", "1"], ["--cold"])
    ]
    assert accuracies[0] == accuracies[1]


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ('[{"depth": 1}]', "entry 0.width: Field required"),
        ("[", "line 1, column 2"),
        (json.dumps([SMALL | {"dropout": 1.5}]), "entry 0.dropout"),
        (json.dumps([SMALL | {"speed": 1}]), "entry 0.speed"),
        (json.dumps([SMALL | {"learning_rate": float("inf")}]), "entry 0.learning_rate"),
        (json.dumps([SMALL | {"width": "64"}]), "entry 0.width: must be a whole number, not '64'"),
        (json.dumps([SMALL | {"model": "svm"}]), "entry 0.model: must be one of mlp, cnn, rnn, transformer, not 'svm'"),
        (json.dumps([SMALL, CNN | {"channels": 0}]), "entry 1.channels: must be from 1 to 512, not 0"),
        (json.dumps([CNN | {"chanels": 4}]), "entry 0.chanels: unknown key for the model cnn; did you mean"),
        (json.dumps([RNN | {"cell": "elman"}]), "entry 0.cell: must be one of gru, lstm, not 'elman'"),
        (json.dumps([RNN | {"n_train": 50_001}]), "entry 0.n_train: must be from 1 to 50000"),
        (json.dumps([RNN | {"n_train": 999}]), "entry 0.batch_size: must be from 1 to 999"),
        (json.dumps([RNN | {"epochs": 0}]), "entry 0.epochs: must be from 1"),
        ("[1]", "entry 0: must be an object"),
        ("{}", "must be a list of trainings"),
        ("[]", "at least 1 item"),
        ("[" * 100_000, "maximum recursion depth"),
        ("9" * 5000, "4300 digits"),
    ],
)
def test_a_mistake_in_a_list_is_reported_with_its_place(tmp_path: Path, text: str, fragment: str) -> None:
    path = tmp_path / "trainings.json"
    path.write_text(text)
    for verb in ("replay", "peers"):
        message = refused(verb, path)
        assert str(path) in message
        assert fragment in message


def test_without_pytorch_the_error_says_how_to_install_it(trainings: Path) -> None:
    program = "import sys; sys.modules['torch'] = None; from mnist_hpo.cli import main; main()"
    command = [sys.executable, "-c", program, "bench", "peers", trainings]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "scripts/setup --peers" in ended.stderr


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the extra bench: PyTorch")
def test_the_peers_reach_similar_accuracies(trainings: Path) -> None:
    figures = bench("peers", trainings, "--rounds", "1")
    contenders = figures["contenders"]
    assert {"mnist-hpo bf16", "mnist-hpo fp32", "pytorch fp32", "pytorch bf16 autocast"} <= contenders.keys()
    accuracies = [contender["mean_valid_accuracy"] for contender in contenders.values()]
    assert max(accuracies) - min(accuracies) < 0.03
    assert min(contenders[name]["times_fastest_pytorch"] for name in ("pytorch fp32", "pytorch bf16 autocast")) <= 1
    assert 1 in [contender["times_fastest_pytorch"] for contender in contenders.values()]
    assert figures["models"] == {"mlp": contenders}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the extra bench: PyTorch")
def test_a_list_of_several_models_gives_a_ratio_for_each(tmp_path: Path) -> None:
    path = tmp_path / "mixed.json"
    path.write_text(json.dumps([RNN, SMALL | {"n_train": 2000}, SMALL | {"n_train": 1000}]))
    figures = bench("peers", path, "--rounds", "1")
    models = figures["models"]
    assert list(models) == ["rnn", "mlp"]
    for name, contender in figures["contenders"].items():
        seconds = sum(contenders[name]["median_wall_s"] for contenders in models.values())
        assert contender["median_wall_s"] == pytest.approx(seconds)
        of_rnn, of_mlp = (contenders[name]["mean_valid_accuracy"] for contenders in models.values())
        assert contender["mean_valid_accuracy"] == pytest.approx((of_rnn + 2 * of_mlp) / 3)
    for contenders in models.values():
        assert 1 in [contender["times_fastest_pytorch"] for contender in contenders.values()]


@pytest.mark.slow
def test_overhead_is_measured_for_startup_and_for_the_given_numbers_of_trials() -> None:
    figures = bench("overhead", "--trials", "10", "--trials", "30")
    assert figures["first_epoch_s"] > figures["help_s"] > 0
    assert [study["n_trials"] for study in figures["studies"]] == [10, 30]
    for study in figures["studies"]:
        assert study["cpu_ms_per_trial"] > study["ask_cpu_ms_per_trial"] > 0
        assert study["mlflow_cpu_ms_per_trial"] > 0
        assert study["growth"] == pytest.approx(
            study["last_tenth_cpu_ms_per_trial"] / study["first_tenth_cpu_ms_per_trial"]
        )
        assert study["wall_s"] > study["search_wall_s"] > 0


@pytest.mark.slow
def test_the_roofline_is_drawn(tmp_path: Path) -> None:
    points = bench("roofline", "--picture", tmp_path / "roofline.png")
    assert len({(point["width"], point["batch_size"]) for point in points}) == len(points) == 12
    assert all(point[kind] > 0 for point in points for kind in ("sgemm", "fp32", "bf16"))
    assert (tmp_path / "roofline.png").read_bytes().startswith(b"\x89PNG")
