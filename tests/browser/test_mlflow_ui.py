"""MLflow's UI shows a finished study."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from ui_server import UiServer

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def trials(ui_server: UiServer) -> list[dict[str, Any]]:
    return ui_server.folder.trials()


@pytest.fixture(scope="module")
def best(ui_server: UiServer) -> dict[str, Any]:
    return ui_server.folder.status()["best"]


def run_names(page: Page) -> list[str]:
    """Return the names of the trials' runs in the table, from top to bottom."""
    links = page.get_by_role("gridcell").get_by_role("link", name=re.compile(r"^#\d+ w"))
    expect(links.first).to_be_visible()
    tops = {link.inner_text(): (link.bounding_box() or {"y": 0})["y"] for link in links.all()}
    return sorted(tops, key=tops.__getitem__)


def number(run_name: str) -> int:
    return int(run_name[1:4])


def test_the_list_of_experiments_shows_the_studies(ui_server: UiServer, page: Page, best: dict[str, Any]) -> None:
    page.goto(ui_server.mlflow)
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="small"))
    expect(row).to_contain_text(f"valid_loss {best['value']:.5f} · a search of seconds")
    expect(row).to_contain_text(re.compile(r"state\s*:\s*complete"))


def test_the_list_opens_the_runs_once_model_training_is_chosen(ui_server: UiServer, page: Page) -> None:
    """MLflow 3.17 stores the choice in the browser and reads no tag of the experiment; the README says so."""
    page.goto(ui_server.mlflow)
    page.get_by_text("Model training").first.click()
    page.get_by_role("row").get_by_role("link", name="small").click()
    expect(page).to_have_url(re.compile(r"/runs\?"))
    expect(page.get_by_role("gridcell").get_by_role("link", name="small", exact=True)).to_be_visible()


def test_the_parent_run_expands_into_its_trials(ui_server: UiServer, page: Page, trials: list[dict[str, Any]]) -> None:
    page.goto(ui_server.trials.partition("&")[0])
    parent = page.get_by_role("gridcell").filter(has=page.get_by_role("link", name="small", exact=True))
    expect(parent).to_be_visible()
    assert page.get_by_role("link", name=re.compile(r"^#\d")).count() == 0
    parent.get_by_role("button").click()
    assert sorted(number(name) for name in run_names(page)) == [trial["number"] for trial in trials]


def test_the_printed_address_lists_the_trials_best_first(
    ui_server: UiServer, page: Page, trials: list[dict[str, Any]]
) -> None:
    page.goto(ui_server.trials)
    for column in ("best_valid_loss", "best_valid_accuracy", "epochs", "seconds", "model_parameters"):
        expect(page.get_by_role("columnheader").filter(has_text=re.compile(f"^{column}$"))).to_be_visible()
    with_losses = [trial for trial in trials if trial["valid_loss"]]
    ranked = sorted(with_losses, key=lambda trial: min(trial["valid_loss"].values()))
    # Trials without a finished epoch come after those with a loss.
    shown_numbers = [number(name) for name in run_names(page)]
    assert shown_numbers[: len(ranked)] == [trial["number"] for trial in ranked]
    assert len(shown_numbers) == len(trials)


def test_a_chart_of_valid_loss_has_the_recorded_epochs(
    ui_server: UiServer, page: Page, trials: list[dict[str, Any]], best: dict[str, Any]
) -> None:
    page.goto(ui_server.trials)
    page.get_by_role("link", name=re.compile(f"^#{best['number']:03d} ")).first.click()
    page.get_by_role("tab", name="Model metrics").click()
    page.get_by_placeholder("Search metric charts").fill("^valid_loss$")
    chart = page.locator(".js-plotly-plot")
    # The other charts disappear once the search is applied.
    expect(chart).to_have_count(1)
    drawn = chart.evaluate("chart => ({x: Array.from(chart.data[0].x), y: Array.from(chart.data[0].y)})")
    recorded = trials[best["number"]]["valid_loss"]
    assert dict(zip(drawn["x"], drawn["y"], strict=True)) == {int(epoch): loss for epoch, loss in recorded.items()}


def test_two_runs_can_be_compared(ui_server: UiServer, page: Page) -> None:
    page.goto(ui_server.trials)
    first, second, *_ = run_names(page)
    for name in (first, second):
        row_id = page.get_by_role("row").filter(has_text=name).first.get_attribute("row-id")
        page.locator(f"[row-id='{row_id}'] input[type=checkbox]").first.check()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="Comparing 2 Runs")).to_be_visible()
    for name in (first, second):
        expect(page.get_by_text(name).first).to_be_visible()


def test_the_parent_run_describes_the_study(ui_server: UiServer, page: Page, best: dict[str, Any]) -> None:
    page.goto(ui_server.trials.partition("&")[0])
    page.get_by_role("gridcell").get_by_role("link", name="small", exact=True).click()
    expect(page.get_by_text(re.compile("complete: 8 of 8 trials ended"))).to_be_visible()
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("plots.html").click()
    frame = page.frame_locator("iframe")
    for plot in ("Optimisation history", "Hyperparameter importances", "Parallel coordinates", "Learning curves"):
        expect(frame.get_by_role("heading", name=plot)).to_be_visible()
    expect(frame.locator(".js-plotly-plot .main-svg").first).to_be_visible()
    page.get_by_text("trials.csv").click()
    expect(page.get_by_text(str(best["value"])[:7]).first).to_be_visible()
