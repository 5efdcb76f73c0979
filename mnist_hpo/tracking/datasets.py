"""A study's data as MLflow datasets with a digest."""

from __future__ import annotations

import json
from typing import Literal

from mlflow.entities import Dataset, DatasetInput, InputTag

from mnist_hpo.data.registry import DATASETS
from mnist_hpo.spec.study import Study

Portion = Literal["search", "development", "test"]
_USE: dict[Portion, str] = {
    "search": "training, validation",
    "development": "training",
    "test": "testing",
}
_DIGEST_LENGTH = 32
"""MLflow allows at most 36 characters; the whole digest is in the profile."""


def dataset_input(study: Study, digest: str, portion: Portion) -> DatasetInput:
    """Describe the examples that a run reads.

    Args:
        study: the study, which names the dataset and the split.
        digest: the digest of the prepared dataset.
        portion: `search` (train and valid), `development` (train + valid, all to train on) or `test`.

    """
    info = DATASETS[study.dataset]
    plan = info.splits[study.split]
    rows = {"test": {"n_test": plan.n_test}}.get(portion, {"n_train": plan.n_train, "n_valid": plan.n_valid})
    features = [{"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, info.n_features]}}]
    labels = [{"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1]}}]
    dataset = Dataset(
        name=f"{study.dataset}-{study.split}-{portion}",
        digest=digest[:_DIGEST_LENGTH],
        source_type="http",
        source=json.dumps({"url": info.home}),
        schema=json.dumps({"mlflow_tensorspec": {"features": json.dumps(features), "targets": json.dumps(labels)}}),
        profile=json.dumps({**rows, "sha256": digest}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", _USE[portion])])
