"""`mnist-hpo ui`: what it needs, what it prints, and that all its processes end."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import psutil
import pytest
import requests
from command import TIMEOUT_S, Folder, assert_refused, wait_until_gone


@pytest.fixture
def taken_port() -> Generator[str]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield str(taken.getsockname()[1])


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return str(probe.getsockname()[1])


def wait_until_reachable(port: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            assert requests.get(f"http://127.0.0.1:{port}/", timeout=TIMEOUT_S).ok
            return
        except requests.ConnectionError:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.2)


def test_without_a_tracking_store_the_error_says_how_to_create_one(folder: Folder) -> None:
    refused = folder.call("ui", "--tracking-uri", f"sqlite:///{folder.path}/mlruns/mlflow.db")
    assert_refused(refused, "nothing is tracked", "mnist-hpo run")


def test_without_a_storage_the_dashboard_is_refused(finished: Folder, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/optuna.db"
    assert_refused(finished.call("ui", "--dashboard", "--storage", storage), storage, "no storage yet")
    assert not (tmp_path / "optuna.db").exists()


@pytest.mark.parametrize("option", ["--port", "--dashboard-port"])
def test_a_port_in_use_is_reported_with_the_option(finished: Folder, taken_port: str, option: str) -> None:
    other = {"--port": "--dashboard-port", "--dashboard-port": "--port"}[option]
    refused = finished.call("ui", "--dashboard", option, taken_port, other, free_port())
    assert_refused(refused, taken_port, "taken", f"choose one with {option}")


def test_without_the_extra_the_error_says_how_to_install_it(finished: Folder, tmp_path: Path) -> None:
    """Uses an environment with everything except the dashboard's program."""
    installed = Path(sys.prefix)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    (tmp_path / "lib").symlink_to(installed / "lib")
    shutil.copy(installed / "pyvenv.cfg", tmp_path)
    command = "import sys; sys.argv[0] = 'mnist-hpo'; from mnist_hpo.cli import main; main()"
    done = subprocess.run(
        [tmp_path / "bin" / "python", "-c", command, "ui", "--dashboard"],
        cwd=finished.path,
        env=finished.environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        "error: optuna-dashboard is not installed (the extra `dashboard`); it comes with: scripts/setup --dev\n"
    )


@pytest.mark.slow
def test_of_two_servers_started_on_one_port_one_reports_it_in_use(finished: Folder) -> None:
    port = free_port()
    both = [finished.start("ui", "--port", port) for _ in range(2)]
    deadline = time.monotonic() + TIMEOUT_S
    while all(ui.process.poll() is None for ui in both):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    both.sort(key=lambda ui: ui.process.poll() is None)
    loser, winner = both[0].wait(), both[1]
    assert winner.process.stdout is not None
    assert any(line.startswith("Ctrl-C stops it") for line in winner.process.stdout)
    winner.send_ctrl_c()
    assert winner.wait().code == 0
    assert (loser.code, "http://" in loser.out) == (2, False)
    assert f"error: port {port} on 127.0.0.1 is taken" in loser.err
    assert "ended by itself" not in loser.err


def test_ctrl_c_ends_both_servers(finished: Folder) -> None:
    """The browser tests end them with SIGTERM."""
    ports = free_port(), free_port()
    ui = finished.start("ui", "--dashboard", "--port", ports[0], "--dashboard-port", ports[1])
    assert ui.process.stdout is not None
    printed = ""
    for line in ui.process.stdout:
        printed += line
        if line.startswith("Ctrl-C stops both"):
            break
    for port in ports:
        assert f"http://127.0.0.1:{port}" in printed
    wait_until_reachable(int(ports[0]))
    children = psutil.Process(ui.process.pid).children(recursive=True)
    assert len(children) >= 2
    ui.send_ctrl_c()
    ended = ui.wait()
    assert (ended.code, "Traceback" in ended.err) == (0, False)
    # Requests are not logged.
    assert "GET /" not in ended.out + ended.err
    wait_until_gone(children)
    for port in ports:
        with socket.create_server(("127.0.0.1", int(port))):
            pass  # The port is free again.
