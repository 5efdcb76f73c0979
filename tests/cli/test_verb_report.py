"""`mnist-hpo report` on a study that really ran."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from command import Folder, assert_refused

from mnist_hpo.executors.cores import usable_cores
from mnist_hpo.storage.study_storage import StudyStorage


@pytest.fixture(scope="module")
def recorded(finished: Folder, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A copy of the finished study, to write into."""
    folder = Folder(tmp_path_factory.mktemp("recorded"))
    finished.copy_record(folder)
    return folder


@pytest.fixture(scope="module")
def page(recorded: Folder) -> str:
    outcome = recorded.call("report", "small")
    assert outcome.code == 0, outcome.err
    printed = re.fullmatch(r"report: small\.html \((\d+\.\d) MB\); open it in a browser\n", outcome.out)
    assert printed, outcome.out
    path = recorded.path / "small.html"
    assert float(printed[1]) == pytest.approx(path.stat().st_size / 1e6, abs=0.05)
    assert path.stat().st_size < 10e6
    return path.read_text(encoding="utf-8")


def test_the_page_shows_the_study(page: str, status: dict[str, Any]) -> None:
    best = status["best"]
    assert f"Trial #{best['number']} has the lowest valid_loss" in page
    assert f"{best['value']:.5f}" in page
    assert status["history_sha256"] in page
    assert "slots: 3" in page  # The study file itself.
    assert "mnist-hpo retrain small" in page


def test_workers_are_recorded_and_shown(recorded: Folder, page: str) -> None:
    storage = StudyStorage.load(f"sqlite:///{recorded.storage}", "small")
    workers = {result.worker for trial in storage.trials() for result in trial.epochs.values()}
    storage.close()
    assert workers
    assert workers <= set(range(len(usable_cores())))
    for worker in workers:
        assert f'"worker {worker}"' in page


def test_a_report_changes_only_its_own_file(recorded: Folder, page: str) -> None:
    before = recorded.status()
    files = [name for name in recorded.files() if not name.endswith(("-shm", "-wal"))]
    assert recorded.call("report", "small", "-o", "again.html").code == 0
    assert (recorded.path / "again.html").read_text(encoding="utf-8") == page
    assert [name for name in recorded.files() if not name.endswith(("-shm", "-wal"))] == files
    assert recorded.status() == before


@pytest.mark.parametrize(
    ("output", "message"),
    [("nowhere/report.html", "there is no folder nowhere"), ("mlruns", "is a folder")],
)
def test_an_unwritable_output_path_is_refused(recorded: Folder, output: str, message: str) -> None:
    assert_refused(recorded.call("report", "small", "-o", output), output, message)


def test_a_damaged_test_result_is_named(recorded: Folder, tmp_path: Path) -> None:
    storage = StudyStorage.load(f"sqlite:///{recorded.storage}", "small")
    folder = recorded.path / "mlruns" / "champions" / f"small-{storage.uid[:8]}" / "trial-00000" / "report"
    storage.close()
    folder.mkdir(parents=True)
    (folder / "champion.json").write_text("{}")
    try:
        assert_refused(recorded.call("report", "small"), "champion.json: damaged (trial: ", "mnist-hpo retrain")
    finally:
        shutil.rmtree(folder.parents[2])
