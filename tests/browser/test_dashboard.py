"""A person looks at a finished study in Optuna Dashboard, which cannot do it any harm."""

from typing import Any

import pytest
import requests
from playwright.sync_api import Page, expect
from showing import Shown

pytestmark = pytest.mark.browser


def test_the_study_and_its_trials(shown: Shown, page: Page) -> None:
    page.goto(shown.dashboard)
    page.get_by_role("link", name="small").first.click()
    expect(page.get_by_role("heading", name="History")).to_be_visible()
    chart = page.locator(".js-plotly-plot").first
    expect(chart).to_be_visible()
    complete = [trial["value"] for trial in shown.folder.trials() if trial["state"] == "complete"]
    drawn: list[Any] = chart.evaluate("chart => chart.data.flatMap(trace => Array.from(trace.y))")
    assert set(complete) <= set(drawn)


def test_it_can_delete_nothing(shown: Shown) -> None:
    before = shown.folder.status()
    address = shown.dashboard.removesuffix("/dashboard")
    (study,) = requests.get(f"{address}/api/studies", timeout=60).json()["study_summaries"]
    assert study["study_name"] == "small"
    refused = requests.delete(f"{address}/api/studies/{study['study_id']}", timeout=60)
    assert refused.status_code == 500
    assert shown.folder.status() == before
