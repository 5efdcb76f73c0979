"""Read the weights that `init_from` names, check that a study can start from them, and store a copy of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.numpy import save

from mnist_hpo.bundle.reading import StoredModel, model_errors, read_model
from mnist_hpo.bundle.writing import DESCRIPTION, ENSEMBLE
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.executors.checkpoint_store import write_atomically
from mnist_hpo.home import Home
from mnist_hpo.learners.catalog import find_model
from mnist_hpo.learners.hyperparameters import complete
from mnist_hpo.learners.stored_weights import read_weights, weights_sha256
from mnist_hpo.search.space import corners, same_value
from mnist_hpo.spec.errors import UserError, shown
from mnist_hpo.spec.init_from import INIT_FROM, SourceWeights, TrainedOn
from mnist_hpo.spec.model import FlaxModel, Tensors
from mnist_hpo.spec.reader import StudyFile
from mnist_hpo.spec.study import ParameterValue, Study
from mnist_hpo.storage.records import best_of, history_sha256, is_machine_dependent
from mnist_hpo.storage.study_storage import StudyStorage


def with_initial_weights(file: StudyFile, home: Home, dataset_digest: str) -> StudyFile:
    """Read the weights of a study's `init_from`, and return the study file with their digest and their path.

    A file without `init_from` is returned unchanged. The weights are copied to `Home.weights`, so that the study can be
    re-trained after the source model has been deleted.

    Args:
        file: the study file.
        home: holds the records of the source study, and the copy.
        dataset_digest: the digest of the study's own dataset.

    Raises:
        UserError: the source is missing or unfinished, or its model does not match the study. The message names the
            file, the line and a fix.

    """
    init_from = file.study.init_from
    if init_from is None:
        return file
    key = "bundle" if init_from.study is None else "study"
    if init_from.study == file.study.name:
        file.fail(("init_from", key), "is the study itself; name another one")
    try:
        if init_from.bundle is not None:
            stored, source = _of_bundle((file.path.parent / init_from.bundle).absolute())
        else:
            stored, source = _of_study(str(init_from.study), home)
    except UserError as error:
        file.fail(("init_from", key), str(error))
    _check_model(file, stored)
    _check_data(file, source, dataset_digest)
    return file.with_init_from(init_from.with_source(source, _keep(stored.tensors, source.sha256, home)))


def with_kept_weights(study: Study, home: Home) -> Study:
    """Return a recorded study with the path of its copy of the initial weights; see `with_initial_weights`.

    Raises:
        UserError: the copy is missing or damaged.

    """
    if study.init_from is None:
        return study
    source = study.init_from.source
    place = home.weights(source.sha256).absolute()
    try:
        read_weights(place, source.sha256)
    except UserError as error:
        raise UserError(f"{error}; to copy them again, run the study {study.name} with `mnist-hpo run`") from None
    return study.model_copy(update={"init_from": study.init_from.with_source(source, place)})


def _keep(tensors: Tensors, sha256: str, home: Home) -> Path:
    place = home.weights(sha256).absolute()
    try:
        read_weights(place, sha256)
    except UserError:
        try:
            write_atomically(place, save(dict(tensors)))
        except OSError as error:
            raise UserError(f"{place}: the initial weights cannot be copied: {error.strerror}") from error
    return place


def _of_study(name: str, home: Home) -> tuple[StoredModel, SourceWeights]:
    """Return the model of a finished study's best trial."""
    storage = StudyStorage.load(home.storage_url, name)
    try:
        study, trials, context = storage.read_study_file().study, storage.trials(), storage.context
        n_ended = sum(trial.has_ended for trial in trials)
        if n_ended < study.budget.n_trials:
            raise UserError(
                f"{n_ended} of {study.budget.n_trials} trials of the study {name!r} have ended; "
                "wait for it to finish, or continue it with: mnist-hpo run STUDY.yaml"
            )
        if is_machine_dependent(trials):
            raise UserError(
                f"the results of the study {name!r} depend on the machine; "
                "write bundle: DIR with the folder of its model instead"
            )
        best = best_of(trials)
        if best is None:
            raise UserError(f"no trial of the study {name!r} is complete; name another one")
        directory = home.best_bundle(storage, best.number)
    finally:
        storage.close()
    try:
        stored = read_model(directory)
    except UserError as error:
        raise UserError(f"{error}; run the study {name!r} again to write its best trial's model") from None
    origin = {"study": name, "trial": best.number, "history_sha256": history_sha256(trials)}
    return stored, SourceWeights(weights_sha256(stored.tensors), origin, _trained_on(context, study.split))


def _of_bundle(directory: Path) -> tuple[StoredModel, SourceWeights]:
    if not (directory / DESCRIPTION).is_file():
        raise UserError(f"{directory}: no model here ({DESCRIPTION} is missing); name a folder that contains one")
    stored = read_model(directory)
    provenance = stored.provenance
    if stored.model.model == ENSEMBLE:
        raise UserError(f"{directory}: is an ensemble; name the folder of a single model")
    origin = {name: provenance[name] for name in ("study", "trial", "seed") if name in provenance}
    with model_errors(directory):
        trained_on = _trained_on(provenance, None)
    return stored, SourceWeights(weights_sha256(stored.tensors), origin, trained_on)


def _trained_on(context: Mapping[str, Any], split: str | None) -> tuple[TrainedOn, ...]:
    """Return the data that a model was trained on, including the data of all models that it started from."""
    if "dataset_digest" not in context:
        raise UserError("its record does not say which data it was trained on; use another model")
    earlier = SourceWeights.from_json(context[INIT_FROM]).trained_on if INIT_FROM in context else ()
    return TrainedOn(context["dataset_digest"], split), *earlier


def _check_model(file: StudyFile, stored: StoredModel) -> None:
    """Check that the source's architecture and image shape are those of every trial."""
    study, source = file.study, stored.model
    assert study.init_from is not None
    model, info = find_model(study.model), dataset_info(study.dataset)
    if not isinstance(model, FlaxModel):
        file.fail(("init_from",), f"the model {study.model} has no weights to start from; leave init_from out")
    if source.model != study.model:
        file.fail(("model",), f"is {study.model}, but init_from's model is {source.model}; change one of them")
    if source.image_shape != info.image_shape:
        theirs, ours = (" × ".join(map(str, shape)) for shape in (source.image_shape, info.image_shape))
        file.fail(("dataset",), f"has images of {ours}, but init_from's model takes {theirs}; change one of them")
    if study.init_from.layers == "all_but_last":
        if not any(name.startswith(f"{model.last_layer}.") for name in stored.tensors):
            file.fail(
                ("init_from", "layers"),
                f"the model {study.model} has no layer {model.last_layer!r}, so its last one is unknown; write all",
            )
    elif source.n_classes != info.n_classes:
        file.fail(
            ("init_from",),
            f"the model has {source.n_classes} classes, but {study.dataset_name} has {info.n_classes}; "
            "add layers: all_but_last",
        )
    required = complete(source.model, source.parameters)
    for name in model.hyperparameters:
        _check_parameter(file, name, required[name])


def _check_parameter(file: StudyFile, name: str, required: ParameterValue) -> None:
    """Check that a hyperparameter of the architecture equals the source's in every trial."""
    study = file.study
    by_default = complete(study.model, {})[name]
    fix = f"init_from's model has {shown(required)}; write fixed: {{{name}: {required}}}"
    if name in study.space:
        entry = study.space[name]
        values = (*corners(entry), *((by_default,) if entry.when else ()))
        if not all(same_value(value, required) for value in values):
            file.fail(("space", name), f"cannot be searched, because {fix}")
    elif not same_value(study.fixed.get(name, by_default), required):
        if name in study.fixed:
            file.fail(("fixed", name), f"is {shown(study.fixed[name])}, but {fix}")
        file.fail(("init_from",), f"{name} is {shown(by_default)} by default, but {fix}")


def _check_data(file: StudyFile, source: SourceWeights, dataset_digest: str) -> None:
    """Check that the source was not trained on examples that this study uses for validation or test."""
    for examples in source.trained_on:
        if examples.dataset_digest == dataset_digest and examples.split != file.study.split:
            split = "with an unknown split" if examples.split is None else f"with the split {examples.split}"
            file.fail(
                ("init_from",),
                f"the model was trained on this study's own dataset {split}, so it may have seen this study's "
                f"validation and test examples; write study: NAME with a study of the split {file.study.split}",
            )
