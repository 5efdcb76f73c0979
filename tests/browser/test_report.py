"""The report as a reader sees it in Chromium."""

import re
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, expect
from pretended_study import run_pretended, study_of

from mnist_hpo.report.page import report_html
from mnist_hpo.report.view import StudyView

pytestmark = pytest.mark.browser

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
DRAWN_MS = 120_000
"""No test is decided by time; this only keeps a page that never draws from hanging the tests."""

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> StudyView:
    return run_pretended(tmp_path_factory.mktemp("browser"), study_of(description=HOSTILE))


@pytest.fixture(scope="module")
def report(view: StudyView, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "large.html"
    path.write_text(report_html(view, []), encoding="utf-8")
    return path


@pytest.fixture
def open_page(chromium: Browser) -> Generator[OpenPage]:
    """Opens a report, waits until all of it is drawn, and notes in `page.requests` and `page.errors` what it did."""
    contexts: list[Any] = []

    def open_file(path: Path, **options: Any) -> Page:
        contexts.append(chromium.new_context(**{"viewport": {"width": 1200, "height": 900}} | options))
        page = contexts[-1].new_page()
        page.requests, page.errors = [], []
        page.on("request", lambda request: page.requests.append(request))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
        page.goto(path.as_uri())
        wait_until_drawn(page)
        return page

    yield open_file
    for context in contexts:
        context.close()


def wait_until_drawn(page: Page, theme: str = "") -> None:
    page.wait_for_selector(f"html[data-drawn{f'={theme}' if theme else ''}]", state="attached", timeout=DRAWN_MS)


def paper_of(page: Page) -> str:
    """The colour behind the first plot, as it is painted."""
    return page.eval_on_selector(".chart .main-svg", "svg => getComputedStyle(svg).backgroundColor")


def test_every_chart_is_drawn_and_nothing_is_fetched(report: Path, open_page: OpenPage) -> None:
    page = open_page(report, offline=True)
    assert page.locator(".chart").count() == 10
    assert page.locator(".chart .main-svg .subplot").count() >= 10
    requests: list[Request] = page.requests  # type: ignore[attr-defined]
    assert [request.url for request in requests] == [report.as_uri()]
    assert page.errors == []  # type: ignore[attr-defined]


def test_a_point_tells_its_trial(view: StudyView, report: Path, open_page: OpenPage) -> None:
    page = open_page(report)
    history = page.locator(".chart").first
    history.scroll_into_view_if_needed()
    star = history.locator(".scatterlayer .trace").last.locator(".point")
    star.hover(force=True)
    assert view.best is not None
    label = page.locator(".hoverlayer .hovertext")
    expect(label).to_contain_text(f"trial #{view.best.number}: complete, the best")
    expect(label).to_contain_text(f"learning_rate: {view.best.parameters['learning_rate']:.4g}")


def test_the_theme_is_the_systems_until_it_is_chosen_and_then_remembered(report: Path, open_page: OpenPage) -> None:
    page = open_page(report, color_scheme="dark")
    dark = paper_of(page)
    page.get_by_role("button", name="Change between dark and light").click()
    wait_until_drawn(page, "light")
    light = paper_of(page)
    assert brightness(dark) < 80 < 200 < brightness(light)
    colours = [page.eval_on_selector(selector, "e => getComputedStyle(e).color") for selector in ("h1", "td")]
    assert all(brightness(colour) < 80 for colour in colours)
    page.reload()
    wait_until_drawn(page)
    assert paper_of(page) == light


def test_the_system_changes_its_theme(report: Path, open_page: OpenPage) -> None:
    page = open_page(report, color_scheme="light")
    light = paper_of(page)
    page.emulate_media(color_scheme="dark")
    wait_until_drawn(page, "dark")
    assert brightness(paper_of(page)) < 80 < brightness(light)


def test_a_phone_needs_no_sideways_scrolling(report: Path, open_page: OpenPage) -> None:
    page = open_page(report, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("innerWidth") == 390
    wide = page.locator("main *").evaluate_all(
        "all => all.filter(e => e.getBoundingClientRect().right > 391 && !e.closest('figure, .wide, pre')).length"
    )
    assert wide == 0


def test_the_texts_of_a_study_do_nothing(report: Path, open_page: OpenPage) -> None:
    page = open_page(report)
    assert page.evaluate("window.hacked") is None
    expect(page.locator("header p")).to_have_text(HOSTILE)


def test_a_script_that_is_not_the_reports_does_not_run(report: Path, open_page: OpenPage, tmp_path: Path) -> None:
    """Even where a text should get through as markup."""
    changed = tmp_path / "changed.html"
    changed.write_text(report.read_text(encoding="utf-8").replace("<main>", f"<main>{HOSTILE}"), encoding="utf-8")
    page = open_page(changed)
    assert page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in error for error in page.errors)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_two_thousand_trials_are_drawn_from_less_than_10_mb(open_page: OpenPage, tmp_path: Path) -> None:
    view = run_pretended(tmp_path, study_of(budget={"n_trials": 2000, "max_epochs": 27}, slots=8))
    path = tmp_path / "large.html"
    path.write_text(report_html(view, []), encoding="utf-8")
    assert path.stat().st_size < 10e6
    page = open_page(path)
    n_points = page.locator(".chart").first.locator(".scatterlayer .point").count()
    assert n_points >= sum(bool(trial.epochs) for trial in view.trials)


def test_on_paper_every_chart_is_drawn_and_none_is_cut(report: Path, open_page: OpenPage) -> None:
    page = open_page(report, bypass_csp=True)  # To wait for a condition is to evaluate one.
    page.emulate_media(media="print")
    right_ends = "[...document.querySelectorAll('.chart .main-svg')].map((svg) => svg.getBoundingClientRect().right)"
    paper_end = "document.body.getBoundingClientRect().right"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function(f"Math.max(...{right_ends}) <= {paper_end}")
    assert page.evaluate("document.body.clientWidth") == 680
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.wait_for_function(f"Math.max(...{right_ends}) > 800")


def brightness(colour: str) -> float:
    """0 to 255, of a CSS colour rgb(…)."""
    red, green, blue = map(float, re.findall(r"[\d.]+", colour)[:3])
    return (red + green + blue) / 3
