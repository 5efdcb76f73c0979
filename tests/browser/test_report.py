"""The report rendered in Chromium."""

import re
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, expect
from simulated_study import run_simulated, study_of

from mnist_hpo.analysis.champion_files import ChampionTest
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.report.page import report_html

pytestmark = pytest.mark.browser

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
DRAWN_MS = 120_000
"""No test depends on timing: this only ends the wait for a page that never draws."""

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> StudyView:
    return run_simulated(tmp_path_factory.mktemp("browser"), study_of(description=HOSTILE))


@pytest.fixture(scope="module")
def report(view: StudyView, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "large.html"
    path.write_text(report_html(view, []), encoding="utf-8")
    return path


@pytest.fixture
def open_page(chromium: Browser) -> Generator[OpenPage]:
    """Return a function that opens a report and waits until it is drawn, with logs in `page.requests` and `.errors`."""
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
    """Return the background colour of the first plot, as rendered."""
    return page.eval_on_selector(".chart .main-svg", "svg => getComputedStyle(svg).backgroundColor")


def test_every_chart_is_drawn_without_network_requests(report: Path, open_page: OpenPage) -> None:
    page = open_page(report, offline=True)
    assert page.locator(".chart").count() == 10
    assert page.locator(".chart .main-svg .subplot").count() >= 10
    requests: list[Request] = page.requests  # type: ignore[attr-defined]
    assert [request.url for request in requests] == [report.as_uri()]
    assert page.errors == []  # type: ignore[attr-defined]


def test_hovering_over_a_point_shows_its_trial(view: StudyView, report: Path, open_page: OpenPage) -> None:
    page = open_page(report)
    history = page.locator(".chart").first
    history.scroll_into_view_if_needed()
    star = history.locator(".scatterlayer .trace").last.locator(".point")
    star.hover(force=True)
    assert view.best is not None
    label = page.locator(".hoverlayer .hovertext")
    expect(label).to_contain_text(f"trial #{view.best.number}: complete, the best")
    expect(label).to_contain_text(f"learning_rate: {view.best.parameters['learning_rate']:.4g}")


def test_the_theme_follows_the_system_until_one_is_chosen_and_stored(report: Path, open_page: OpenPage) -> None:
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


def test_the_report_follows_a_change_of_the_systems_theme(report: Path, open_page: OpenPage) -> None:
    page = open_page(report, color_scheme="light")
    light = paper_of(page)
    page.emulate_media(color_scheme="dark")
    wait_until_drawn(page, "dark")
    assert brightness(paper_of(page)) < 80 < brightness(light)


def visible_ticks(page: Page, title: str) -> list[str]:
    chart = page.locator(f".chart[aria-label^='{title}']")
    return chart.locator(".xaxislayer-above .xtick text").all_text_contents()


@pytest.mark.parametrize("max_epochs", [2, 5, 9])
def test_axes_of_epochs_and_trials_have_distinct_integer_ticks(
    open_page: OpenPage, tmp_path: Path, max_epochs: int
) -> None:
    view = run_simulated(tmp_path, study_of(budget={"n_trials": 5, "max_epochs": max_epochs}, pruner={"name": "none"}))
    path = tmp_path / "short.html"
    path.write_text(report_html(view, []), encoding="utf-8")
    page = open_page(path)
    epochs = max(len(trial.epochs) for trial in view.trials)
    assert visible_ticks(page, "Learning curves") == [str(epoch) for epoch in range(1, epochs + 1)]
    assert visible_ticks(page, "Optimisation history") == ["0", "1", "2", "3", "4"]


def test_the_theme_buttons_style_does_not_apply_to_other_buttons(report: Path, open_page: OpenPage) -> None:
    page = open_page(report)
    # Zoom in, as a reader would.
    history = page.locator(".chart").first
    history.scroll_into_view_if_needed()
    box = history.locator(".nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 240, box["y"] + 160, steps=5)
    page.mouse.up()
    close = page.locator(".plotly-notifier button")
    expect(close).to_be_visible()
    before = "(button) => getComputedStyle(button, '::before').content"
    assert close.evaluate(before) == "none"
    assert page.locator("#theme").evaluate(before) == '"Dark"'


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_confusion_matrix_is_legible(view: StudyView, open_page: OpenPage, tmp_path: Path, scheme: str) -> None:
    """Text has at least the contrast that WCAG requires, 4.5, in the lightest and in the darkest cells."""
    assert view.best is not None
    matrix = [[1000 if i == j else (7 * i + 3 * j) % 10 for j in range(10)] for i in range(10)]
    measures = {f"test_{name}_{of}": 0.5 for name in ("accuracy", "macro_f1", "log_loss") for of in ("mean", "std")}
    test = {"trial": view.best.number, "reproduced": "exact", "best_epoch": 3, "n_seeds": 1, **measures}
    path = tmp_path / "confused.html"
    champion = ChampionTest.model_validate({**test, "confusion_matrix": matrix})
    path.write_text(report_html(view, [champion]), encoding="utf-8")
    page = open_page(path, color_scheme=scheme)
    chart = page.locator(".chart[aria-label^='Confusion matrix']")
    inks = set(chart.locator(".heatmap-label text").evaluate_all("all => all.map(text => getComputedStyle(text).fill)"))
    assert len(inks) == 1
    ends: list[str] = chart.evaluate("chart => chart.data[0].colorscale.map(([_, colour]) => colour)")
    (ink,) = inks
    for end in ends:
        assert contrast(rgb(ink), hexadecimal(end)) >= 4.5


def rgb(colour: str) -> list[float]:
    return [float(part) for part in re.findall(r"[\d.]+", colour)[:3]]


def hexadecimal(colour: str) -> list[float]:
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]


def contrast(first: list[float], second: list[float]) -> float:
    def luminance(colour: list[float]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted([luminance(first), luminance(second)])
    return (lighter + 0.05) / (darker + 0.05)


def test_a_phone_needs_no_sideways_scrolling(report: Path, open_page: OpenPage) -> None:
    page = open_page(report, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("innerWidth") == 390
    wide = page.locator("main *").evaluate_all(
        "all => all.filter(e => e.getBoundingClientRect().right > 391 && !e.closest('figure, .wide, pre')).length"
    )
    assert wide == 0


def test_texts_of_a_study_are_not_executed(report: Path, open_page: OpenPage) -> None:
    page = open_page(report)
    assert page.evaluate("window.hacked") is None
    expect(page.locator("header p")).to_have_text(HOSTILE)


def test_injected_scripts_do_not_run(report: Path, open_page: OpenPage, tmp_path: Path) -> None:
    """The content security policy blocks them even if a text were not escaped."""
    changed = tmp_path / "changed.html"
    changed.write_text(report.read_text(encoding="utf-8").replace("<main>", f"<main>{HOSTILE}"), encoding="utf-8")
    page = open_page(changed)
    assert page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in error for error in page.errors)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_two_thousand_trials_are_drawn_from_less_than_10_mb(open_page: OpenPage, tmp_path: Path) -> None:
    view = run_simulated(tmp_path, study_of(budget={"n_trials": 2000, "max_epochs": 27}, slots=8))
    path = tmp_path / "large.html"
    path.write_text(report_html(view, []), encoding="utf-8")
    assert path.stat().st_size < 10e6
    page = open_page(path)
    n_points = page.locator(".chart").first.locator(".scatterlayer .point").count()
    assert n_points >= sum(bool(trial.epochs) for trial in view.trials)


def test_in_print_every_chart_is_drawn_and_none_is_cut_off(report: Path, open_page: OpenPage) -> None:
    page = open_page(report, bypass_csp=True)  # `wait_for_function` evaluates a script.
    page.emulate_media(media="print")
    right_ends = "[...document.querySelectorAll('.chart .main-svg')].map((svg) => svg.getBoundingClientRect().right)"
    paper_end = "document.body.getBoundingClientRect().right"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function(f"Math.max(...{right_ends}) <= {paper_end}")
    assert page.evaluate("document.body.clientWidth") == 680
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.wait_for_function(f"Math.max(...{right_ends}) > 800")


def brightness(colour: str) -> float:
    """Return the brightness, 0 to 255, of a CSS colour rgb(…)."""
    red, green, blue = map(float, re.findall(r"[\d.]+", colour)[:3])
    return (red + green + blue) / 3
