"""A saved view of MLflow's table of runs: the trials alone, the best first, with the columns that tell of them.

MLflow's UI shows none of a run's measures until somebody picks columns. It keeps saved views as tags of the experiment
(`mlflow.sharedViewState.<key>`), and offers them under Views.
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
_MADE_UNIX_MS = 1_700_000_000_000
"""MLflow wants a time of making; always the same, so that to write the view again changes nothing."""


def saved_view(study: Study) -> dict[str, str]:
    """The experiment's tag that holds the view."""
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
    view = {"name": "trials", "createdAt": _MADE_UNIX_MS, "updatedAt": _MADE_UNIX_MS, "state": f"deflate;{packed}"}
    return {_TAG: json.dumps(view)}


def view_pages(client: MlflowClient) -> dict[str, str]:
    """The page of each study's trials in MLflow's UI, by the study's name, the latest study first."""
    found = client.search_experiments(order_by=["last_update_time DESC"])
    # Without the kind of work MLflow would show its pages for language models.
    page = "/#/experiments/{}/runs?workflowType=machine_learning&viewStateShareKey=" + _KEY
    return {experiment.name: page.format(experiment.experiment_id) for experiment in found if _TAG in experiment.tags}
