"""A saved view of MLflow's table of runs: only trials, the best first, with their measures and hyperparameters.

By default MLflow's UI shows no metric columns. It stores saved views as tags of the experiment
(`mlflow.sharedViewState.<key>`) and lists them under Views.
"""

from __future__ import annotations

import base64
import json
import zlib

from mlflow import MlflowClient

from mnist_hpo.spec.study import Study

_KEY = "mnist-hpo-trials"
_TAG = f"mlflow.sharedViewState.{_KEY}"
_METRICS = (
    "best_valid_loss",
    "best_valid_accuracy",
    "best_epoch",
    "epochs",
    "seconds",
    "model_parameters",
    "train_tflop",
)
_CREATED_UNIX_MS = 1_700_000_000_000
"""The view's creation time, which MLflow requires; constant, so that writing the view again changes nothing."""


def saved_view(study: Study) -> dict[str, str]:
    """Return the tag of the experiment that contains the view."""
    metrics = [f"metrics.`{name}`" for name in _METRICS]
    tags = [f"tags.`{name}`" for name in ("trial.state", "trial.reason")]
    state = {
        "searchFilter": "tags.`mnist_hpo.kind` = 'trial'",
        "orderByKey": "metrics.`best_valid_loss`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [*metrics, *(f"params.`{name}`" for name in study.space), *tags],
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "FIRST_10_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    view = {
        "name": "trials",
        "createdAt": _CREATED_UNIX_MS,
        "updatedAt": _CREATED_UNIX_MS,
        "state": f"deflate;{packed}",
    }
    return {_TAG: json.dumps(view)}


def view_pages(client: MlflowClient) -> dict[str, str]:
    """Return the path of each study's page in MLflow's UI, by study name, the last updated study first."""
    found = client.search_experiments(order_by=["last_update_time DESC"])
    # Without `workflowType`, MLflow would show its pages for language models.
    page = "/#/experiments/{}/runs?workflowType=machine_learning&viewStateShareKey=" + _KEY
    return {experiment.name: page.format(experiment.experiment_id) for experiment in found if _TAG in experiment.tags}
