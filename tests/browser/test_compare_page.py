"""The page that `mnist-hpo compare --html` writes."""

from pathlib import Path
from typing import Any

import pytest
from command import Folder
from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("columns", "scheme"), [(1200, "light"), (390, "dark")])
def test_curves_are_side_by_side_on_wide_screens_and_stacked_on_narrow_ones(
    finished: Folder, chromium: Browser, tmp_path: Path, columns: int, scheme: Any
) -> None:
    page_file = tmp_path / "compared.html"
    trained = [f"small:{trial['number']}" for trial in finished.trials() if trial["valid_loss"]][:2]
    compared = finished.call("compare", "--runs", *trained, "--html", str(page_file))
    assert compared.code == 0, compared.err
    page = chromium.new_page(viewport={"width": columns, "height": 800}, color_scheme=scheme)
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(page_file.as_uri())
    page.wait_for_selector("#anytime .scatterlayer .trace")
    assert page.locator("#anytime .scatterlayer .trace").count() == 2 * 2  # Trials have no third panel.
    assert page.evaluate("document.documentElement.scrollWidth") <= columns
    boxes = [box.bounding_box() for box in page.locator("#anytime .nsewdrag").all()]
    lefts = {round(box["x"]) for box in boxes if box}
    assert len(boxes) == 2
    assert len(lefts) == (2 if columns > 700 else 1)
    page.close()
    assert errors == []
    assert requests == [page_file.as_uri()]
