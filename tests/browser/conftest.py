"""A real browser, and `mnist-hpo ui` serving a study that really ran; each is started once per session."""

import socket
from collections.abc import Generator

import pytest
from chromium import CHROMIUM, launch
from command import Folder, make_folder
from playwright.sync_api import Browser, Page, expect, sync_playwright
from ui_server import UiServer, wait_until_reachable

SLOW_MACHINE_MS = 60_000
"""No test depends on timing: this only ends the wait for a page that never loads."""


@pytest.fixture(scope="session")
def chromium() -> Generator[Browser]:
    expect.set_options(timeout=SLOW_MACHINE_MS)
    if CHROMIUM is None:
        pytest.skip("there is no chromium on PATH; scripts/setup --browser installs it")
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Generator[Page]:
    """An empty page in a new browser context, wide enough for MLflow's columns beside its assistant."""
    context = chromium.new_context(viewport={"width": 1900, "height": 900})
    context.set_default_timeout(SLOW_MACHINE_MS)
    yield context.new_page()
    context.close()


@pytest.fixture
def free_port() -> int:
    return find_free_port()


def find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def ui_server(chromium: Browser, finished: Folder, tmp_path_factory: pytest.TempPathFactory) -> Generator[UiServer]:
    folder = make_folder(tmp_path_factory.getbasetemp(), "ui")
    finished.copy_record(folder, "optuna.db", "mlflow.db")
    ports = find_free_port(), find_free_port()
    ui = folder.start("ui", "--dashboard", "--port", str(ports[0]), "--dashboard-port", str(ports[1]))
    assert ui.process.stdout is not None
    printed: dict[str, str] = {}
    for line in ui.process.stdout:
        if line.startswith("Ctrl-C"):
            break
        name, _, address = line.strip().partition(": ")
        printed[name] = address
    for port in ports:
        wait_until_reachable(port)
    yield UiServer(folder, printed["MLflow UI"], printed["small"], printed["Optuna Dashboard"])
    ui.terminate()
    assert ui.wait().code == 0
