"""The models that a study can start from (`init_from`), which are checked before any trial starts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from mnist_hpo.bundle.writing import ModelDescription, write_bundle, write_ensemble
from mnist_hpo.home import Home
from mnist_hpo.initial_weights import with_initial_weights, with_kept_weights
from mnist_hpo.learners.hyperparameters import complete
from mnist_hpo.learners.stored_weights import weights_sha256
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.init_from import INIT_FROM, InitFrom, SourceWeights, TrainedOn, source_context
from mnist_hpo.spec.model import Tensors
from mnist_hpo.spec.reader import StudyFile, parse_study, to_study_file
from mnist_hpo.spec.study import ParameterValue
from mnist_hpo.storage.continuing import why_not_continuable

DIGITS, CLOTHES = "d" * 64, "c" * 64

STUDY = """\
name: fine
init_from: {bundle: model}
budget: {n_trials: 2, max_epochs: 1}
space:
  learning_rate: {type: float, low: 0.001, high: 0.01}
fixed: {depth: 1, width: 4}
"""


def weights(seed: int = 0) -> Tensors:
    random = np.random.default_rng(seed)
    shapes = {"hidden.0.bias": (4,), "hidden.0.kernel": (784, 4), "logits.bias": (10,), "logits.kernel": (4, 10)}
    return {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def description(
    model: str = "mlp", shape: tuple[int, int, int] = (28, 28, 1), n_classes: int = 10, **parameters: ParameterValue
) -> ModelDescription:
    own = {"depth": 1, "width": 4} if model == "mlp" else {}
    return ModelDescription(model, complete(model, own | parameters), shape, n_classes)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(f"sqlite:///{tmp_path}/optuna.db", "", tmp_path / "mlruns")


@pytest.fixture
def read(tmp_path: Path, home: Home) -> Callable[..., StudyFile]:
    """Return a function that writes a model, and reads a study that starts from it."""

    def read(
        *changes: str, model: ModelDescription | None = None, tensors: Tensors | None = None, **more: Any
    ) -> StudyFile:
        text = STUDY
        for old, new in zip(changes[::2], changes[1::2], strict=True):
            assert text.count(old) == 1
            text = text.replace(old, new)
        provenance = {"study": "clothes", "trial": 3, "dataset_digest": CLOTHES, "cpu": "x86"} | more
        write_bundle(tmp_path / "model", model or description(), tensors or weights(), provenance)
        return with_initial_weights(parse_study(text, tmp_path / "fine.yaml"), home, DIGITS)

    return read


def test_the_weights_are_identified_by_their_content_and_copied(
    read: Callable[..., StudyFile], home: Home, tmp_path: Path
) -> None:
    init_from = read().study.init_from
    assert init_from is not None
    assert init_from.source == SourceWeights(
        weights_sha256(weights()), {"study": "clothes", "trial": 3}, (TrainedOn(CLOTHES, None),)
    )
    copy = load_file(init_from.place)
    assert all(copy[name].tobytes() == tensor.tobytes() for name, tensor in weights().items())
    assert init_from.place.is_relative_to(tmp_path / "mlruns")
    # A damaged copy is replaced.
    init_from.place.write_bytes(b"damaged")
    assert weights_sha256(load_file(read().study.init_from.place)) == init_from.source.sha256


def test_a_study_without_init_from_is_unchanged(home: Home) -> None:
    file = parse_study(STUDY.replace("init_from: {bundle: model}\n", ""), Path("fine.yaml"))
    assert with_initial_weights(file, home, DIGITS) is file
    assert with_kept_weights(file.study, home) is file.study
    assert source_context(None) == {}


@pytest.mark.parametrize(
    ("changes", "model", "expected"),
    [
        (
            ("width: 4", "width: 8"),
            {},
            "line 6: fixed.width: is 8, but init_from's model has 4; write fixed: {width: 4}",
        ),
        ((", width: 4", ""), {}, "line 2: init_from: width is 128 by default, but init_from's model has 4"),
        (
            (
                "learning_rate: {type: float, low: 0.001, high: 0.01}",
                "depth: {type: int, low: 1, high: 2}",
                "depth: 1, ",
                "",
            ),
            {},
            "line 5: space.depth: cannot be searched, because init_from's model has 1",
        ),
        (
            (),
            {"activation": "tanh"},
            "line 2: init_from: activation is 'relu' by default, but init_from's model has 'tanh'",
        ),
        ((), {"model": "cnn"}, "model: is mlp, but init_from's model is cnn; change one of them"),
        ((), {"shape": (20, 20, 1)}, "dataset: has images of 28 × 28 × 1, but init_from's model takes 20 × 20 × 1"),
        (
            (),
            {"n_classes": 26},
            "line 2: init_from: the model has 26 classes, but mnist has 10; add layers: all_but_last",
        ),
    ],
)
def test_a_model_of_another_architecture_is_refused_with_the_line_the_difference_and_a_fix(
    read: Callable[..., StudyFile], changes: tuple[str, ...], model: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError) as error:
        read(*changes, model=description(**model))
    assert expected in str(error.value)
    assert "fine.yaml, line " in str(error.value)


def test_a_searched_hyperparameter_that_has_one_value_is_accepted(read: Callable[..., StudyFile]) -> None:
    read("  learning_rate:", "  width: {type: categorical, choices: [4]}\n  learning_rate:", ", width: 4", "")


def test_a_hyperparameter_that_is_searched_in_some_trials_only_is_refused(read: Callable[..., StudyFile]) -> None:
    """In the other trials it has its default."""
    searched = (
        "  schedule: {type: categorical, choices: [constant, cosine]}\n"
        "  width: {type: categorical, choices: [4], when: {schedule: cosine}}\n  learning_rate:"
    )
    with pytest.raises(UserError, match=r"space\.width: cannot be searched"):
        read("  learning_rate:", searched, ", width: 4", "")


def test_another_number_of_classes_needs_a_new_last_layer(read: Callable[..., StudyFile]) -> None:
    letters = description(n_classes=26)
    read("{bundle: model}", "{bundle: model, layers: all_but_last}", model=letters)
    unknown = {name.replace("logits", "output"): tensor for name, tensor in weights().items()}
    with pytest.raises(UserError, match=r"init_from\.layers: the model mlp has no layer 'logits'"):
        read("{bundle: model}", "{bundle: model, layers: all_but_last}", tensors=unknown)


def test_models_without_weights_are_refused(read: Callable[..., StudyFile]) -> None:
    with pytest.raises(UserError, match="init_from: the model svm has no weights to start from; leave init_from out"):
        read("fixed: {depth: 1, width: 4}", "model: svm", "learning_rate:", "C:")


def test_an_ensemble_is_refused(tmp_path: Path, home: Home) -> None:
    members = [(description(), weights(seed)) for seed in range(2)]
    write_ensemble(tmp_path / "model", members, "average", {"weights": np.ones(2)}, {"dataset_digest": CLOTHES})
    with pytest.raises(UserError, match=r"init_from\.bundle: .*model: is an ensemble; name the folder of a single"):
        with_initial_weights(parse_study(STUDY, tmp_path / "fine.yaml"), home, DIGITS)


def test_a_missing_or_changed_model_is_refused(read: Callable[..., StudyFile], tmp_path: Path, home: Home) -> None:
    file = parse_study(STUDY, tmp_path / "fine.yaml")
    with pytest.raises(
        UserError, match=r"fine\.yaml, line 2: init_from\.bundle: .*model: no model here \(model\.json is missing\)"
    ):
        with_initial_weights(file, home, DIGITS)
    read()
    text = (tmp_path / "model" / "model.json").read_text()
    (tmp_path / "model" / "model.json").write_text(text.replace('"trial": 3', '"trial": 4'))
    with pytest.raises(UserError, match=r"model\.json has changed since the model was written"):
        with_initial_weights(file, home, DIGITS)


# The data that the source was trained on


@pytest.mark.parametrize(
    ("provenance", "expected"),
    [
        ({}, "its record does not say which data it was trained on"),
        ({"dataset_digest": CLOTHES, INIT_FROM: "{}"}, "not a model of mnist-hpo: 'trained_on'"),
        ({"dataset_digest": CLOTHES, INIT_FROM: "damaged"}, "not a model of mnist-hpo: "),
    ],
)
def test_a_model_without_a_valid_record_of_its_data_is_refused(
    tmp_path: Path, home: Home, provenance: dict[str, str], expected: str
) -> None:
    write_bundle(tmp_path / "model", description(), weights(), provenance)
    with pytest.raises(UserError, match=rf"line 2: init_from\.bundle: .*model: {expected}"):
        with_initial_weights(parse_study(STUDY, tmp_path / "fine.yaml"), home, DIGITS)


def test_a_model_that_may_have_seen_the_validation_or_test_digits_is_refused(read: Callable[..., StudyFile]) -> None:
    with pytest.raises(UserError, match="was trained on this study's own dataset with an unknown split, so"):
        read(dataset_digest=DIGITS)


@pytest.mark.parametrize(("split", "is_refused"), [("paper", True), ("standard", False)])
def test_the_data_of_earlier_models_in_the_chain_count_too(
    read: Callable[..., StudyFile], split: str, is_refused: bool
) -> None:
    first = SourceWeights("0" * 64, {"study": "first"}, (TrainedOn(DIGITS, split),))
    if not is_refused:
        read(**{INIT_FROM: first.to_json()})
        return
    with pytest.raises(UserError, match="was trained on this study's own dataset with the split paper, so"):
        read(**{INIT_FROM: first.to_json()})


# A study's identity


def test_a_study_continues_from_the_same_weights_in_another_folder_but_not_from_others(
    read: Callable[..., StudyFile],
) -> None:
    first = read().study
    recorded = {"dataset_digest": DIGITS, **source_context(first.init_from)}
    record = {"recorded_identity": first.identity(), "recorded_context": recorded, "n_recorded": 1}
    moved = to_study_file(first).study.model_copy(update={"init_from": InitFrom(bundle="elsewhere/model")})
    assert moved.identity() == first.identity()
    assert why_not_continuable(moved, recorded, **record) is None
    other = read(tensors=weights(1)).study
    message = why_not_continuable(other, {**recorded, **source_context(other.init_from)}, **record)
    assert message is not None
    assert "'fine' was started from other weights: study clothes, trial 3 (weights " in message
    assert "or give the study another name" in message


@pytest.mark.parametrize("key", ["layers: all_but_last", "learning_rate_factor: 0.5"])
def test_the_identity_contains_options_but_not_their_defaults(key: str) -> None:
    plain, other, written = (
        parse_study(STUDY.replace("bundle: model", text), Path("fine.yaml")).study.identity()
        for text in (
            "bundle: model",
            f"bundle: model, {key}",
            "bundle: model, layers: all, learning_rate_factor: 1",
        )
    )
    assert other != plain == written
    assert plain["init_from"] == {"bundle": "*"}
    without = parse_study(STUDY.replace("init_from: {bundle: model}\n", ""), Path("fine.yaml")).study
    assert INIT_FROM not in without.identity()
    assert json.dumps(without.identity(in_full=True)).count(INIT_FROM) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("clothes", InitFrom(study="clothes")), ("models/clothes", InitFrom(bundle="models/clothes"))],
)
def test_the_short_form_is_a_studys_name_or_a_path(text: str, expected: InitFrom) -> None:
    study = parse_study(STUDY.replace("{bundle: model}", text), Path("fine.yaml")).study
    assert study.init_from == expected
    assert to_study_file(study).study == study


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", "init_from: must be a study's name, a model's folder or a mapping, not 3"),
        ("{layers: all}", "init_from: needs either study: NAME or bundle: DIR"),
        ("{study: a, bundle: b}", "init_from: needs either study: NAME or bundle: DIR, not both"),
        ("{study: a, layer: all}", "init_from.layer: unknown key; did you mean 'layers'?; known are study, bundle"),
        ("{study: a, layers: some}", "init_from.layers: must be 'all' or 'all_but_last', not 'some'"),
        ("{study: a, learning_rate_factor: 2}", "init_from.learning_rate_factor: must be at most 1.0, not 2"),
        ("{study: a, learning_rate_factor: -1}", "init_from.learning_rate_factor: must be at least 0.0, not -1"),
        ("{study: a, learning_rate_factor: x}", "init_from.learning_rate_factor: must be a number, not 'x'"),
        ("{study: a, learning_rate_factor: 0}", "init_from: layers: all and learning_rate_factor: 0 leave nothing"),
        ("{bundle: ''}", "init_from.bundle: must not be empty"),
    ],
)
def test_a_wrong_entry_is_reported(text: str, expected: str) -> None:
    with pytest.raises(UserError) as error:
        parse_study(STUDY.replace("{bundle: model}", text), Path("fine.yaml"))
    assert expected in str(error.value)
