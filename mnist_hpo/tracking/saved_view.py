"""A saved view of MLflow's table of runs: the trials alone, the best first, with the columns that tell of them.

MLflow's UI shows none of a run's measures until somebody picks columns. It keeps saved views as tags of the experiment
(`mlflow.sharedViewState.<key>`), and offers them under Views.
"""

from __future__ import annotations

import base64
import json
import zlib

from mnist_hpo.spec.study import Study

VIEW_KEY = "mnist-hpo-trials"
"""Opens the view by its address: `#/experiments/ID/runs?viewStateShareKey=mnist-hpo-trials`."""
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
    return {f"mlflow.sharedViewState.{VIEW_KEY}": json.dumps(view)}
