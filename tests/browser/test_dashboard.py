"""Optuna Dashboard shows a finished study and cannot change it."""

from typing import Any

import pytest
import requests
from playwright.sync_api import Page, expect
from ui_server import UiServer

pytestmark = pytest.mark.browser


def test_the_dashboard_shows_the_study_and_its_trials(ui_server: UiServer, page: Page) -> None:
    page.goto(ui_server.dashboard)
    page.get_by_role("link", name="small").first.click()
    expect(page.get_by_role("heading", name="History")).to_be_visible()
    chart = page.locator(".js-plotly-plot").first
    expect(chart).to_be_visible()
    complete = [trial["value"] for trial in ui_server.folder.trials() if trial["state"] == "complete"]
    drawn: list[Any] = chart.evaluate("chart => chart.data.flatMap(trace => Array.from(trace.y))")
    assert set(complete) <= set(drawn)


def test_the_dashboard_cannot_delete_a_study(ui_server: UiServer) -> None:
    before = ui_server.folder.status()
    address = ui_server.dashboard.removesuffix("/dashboard")
    (study,) = requests.get(f"{address}/api/studies", timeout=60).json()["study_summaries"]
    assert study["study_name"] == "small"
    refused = requests.delete(f"{address}/api/studies/{study['study_id']}", timeout=60)
    assert refused.status_code == 500
    assert ui_server.folder.status() == before
