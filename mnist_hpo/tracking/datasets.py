"""A study's data as MLflow datasets with a digest."""

from __future__ import annotations

import json
from typing import Literal

from mlflow.entities import Dataset, DatasetInput, InputTag

from mnist_hpo.data.registry import dataset_info
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
    info = dataset_info(study.dataset)
    plan = info.splits[study.split]
    rows = {"test": {"n_test": plan.n_test}}.get(portion, {"n_train": plan.n_train, "n_valid": plan.n_valid})
    # Of a folder always the path in the file: whoever writes the study again must write the same.
    places = [source.uri for source in info.sources] if isinstance(study.dataset, str) else []
    home = places[0] if places else study.dataset_name
    is_url = home.startswith(("http://", "https://"))
    features = [{"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, info.n_features]}}]
    labels = [{"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1]}}]
    dataset = Dataset(
        name=f"{info.name}-{study.split}-{portion}",
        digest=digest[:_DIGEST_LENGTH],
        source_type="http" if is_url else "local",
        source=json.dumps({"url" if is_url else "uri": home}),
        schema=json.dumps({"mlflow_tensorspec": {"features": json.dumps(features), "targets": json.dumps(labels)}}),
        profile=json.dumps({**rows, "sha256": digest}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", _USE[portion])])
