"""MLflow's table of runs on a study of 2,000 trials, whose trainings take no time."""

import re
import signal
from pathlib import Path

import pytest
from command import Folder
from playwright.sync_api import Page, expect
from ui_server import wait_until_reachable

from mnist_hpo.bench.overhead import InstantExecutor
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.executors.job import DataRef
from mnist_hpo.runner import Home, projected
from mnist_hpo.scheduler import Scheduler
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import best_of
from mnist_hpo.storage.study_storage import StudyStorage
from mnist_hpo.tracking.projection import Projection

N_TRIALS = 2000


def run_large_study(folder: Path) -> float:
    """Run the study with the default storage and MLflow store of a folder; return the best valid_loss."""
    study = Study.model_validate(
        {
            "name": "large",
            "budget": {"n_trials": N_TRIALS, "max_epochs": 3},
            "slots": 8,
            "sampler": "random",
            "space": {
                "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
                "width": {"type": "int", "low": 16, "high": 256, "step": 16},
            },
        }
    )
    mlruns = folder / "mlruns"
    home = Home(f"sqlite:///{mlruns}/optuna.db", f"sqlite:///{mlruns}/mlflow.db", mlruns)
    info = dataset_info("mnist")
    context = info.context(info.digest)
    storage = StudyStorage.create(home.storage_url, study, study_file="", context=context)
    data = DataRef(str(folder), "standard", 10)
    Scheduler(study, storage, InstantExecutor(), data=data, checkpoints=home.checkpoints(storage)).run()
    trials = storage.trials()
    projection = Projection(projected(storage, study, home.tracking_uri))
    projection.open(trials)
    for trial in trials:
        projection.push(trial)
    projection.finish(trials)
    storage.close()
    best = best_of(trials)
    assert best is not None
    assert best.value is not None
    return best.value


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(1800)
def test_mlflow_lists_the_best_trial_first_and_loads_more_on_demand(page: Page, tmp_path: Path, free_port: int) -> None:
    best = run_large_study(tmp_path)
    ui = Folder(tmp_path).start("ui", "--port", str(free_port))
    try:
        assert ui.process.stdout is not None
        address = ""
        for line in ui.process.stdout:
            if line.startswith("  large: "):
                address = line.split(": ", 1)[1].strip()
                break
        wait_until_reachable(free_port)
        page.goto(address)
        losses = page.locator("[role=gridcell][col-id*=best_valid_loss]")
        expect(losses.first).to_be_visible()
        first = page.locator("[role=row][row-index='0'] [col-id*=best_valid_loss]")
        assert float(first.inner_text().rstrip("…")) == pytest.approx(best, rel=1e-4)
        expect(page.get_by_text(re.compile(r"matching runs"))).to_be_visible()
        page.locator(".ag-body-viewport").evaluate("rows => rows.scrollTo(0, rows.scrollHeight)")
        page.get_by_role("button", name="Load more").click()
        expect(page.get_by_text("200", exact=True).first).to_be_visible()
    finally:
        ui.process.send_signal(signal.SIGTERM)
        ui.wait()
