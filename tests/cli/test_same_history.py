"""A study's history does not depend on the folder, the terminal, the workers or on being extended."""

import os
import pty
import re
import subprocess
import termios
from contextlib import suppress
from typing import Any

import pytest
from command import PROGRAM, TIMEOUT_S, Folder


@pytest.mark.slow
def test_one_worker_on_a_terminal_gives_the_same_history(
    folder: Folder, status: dict[str, Any], trials: list[dict[str, Any]]
) -> None:
    """The study it is compared with ran in a pipe, with one worker per core."""
    code, shown = run_on_a_terminal(folder, "run", "small.yaml", "--workers", "1")
    assert code == 0
    assert "Traceback" not in shown
    assert "\x1b[" in shown, "the live display moves the cursor"
    assert re.search(r"\d+ complete, \d+ pruned, \d+ failed", shown)
    assert "epochs/min on 1 worker" in shown
    assert "history_sha256" in shown
    assert folder.status()["history_sha256"] == status["history_sha256"]
    assert folder.trials() == trials


@pytest.mark.slow
@pytest.mark.parametrize("n_first", [1, 5])
def test_an_extended_study_has_the_same_history(folder: Folder, status: dict[str, Any], n_first: int) -> None:
    folder.write_study("n_trials: 8", f"n_trials: {n_first}")
    first = folder.run().json()
    assert sum(first["n_trials"].values()) == n_first
    assert first["history_sha256"] != status["history_sha256"]

    folder.write_study()
    extended = folder.run()
    assert f"{n_first} of them already recorded" in extended.err
    assert extended.json()["history_sha256"] == status["history_sha256"]


@pytest.mark.slow
def test_with_all_options_the_number_of_workers_does_not_change_the_history(folder: Folder) -> None:
    options = (
        "normalization: batch, residual: 'yes', schedule: linear, warmup: 0.2, initializer: xavier, averaging: ema, "
        "noise: 0.1, max_norm: 2.0, mixup: 0.4, input_noise: 0.1, input_dropout: 0.1, rotation: 10, translation: 1, "
        "scaling: 0.1, shear: 10, elastic: 10, erasing: 0.1, n_train: 5000"
    )
    histories = []
    for name in ("small", "again"):
        folder.write_study("name: small", f"name: {name}", "depth: 1}", f"depth: 2, {options}}}")
        histories.append(folder.run("--workers", "1" if name == "small" else "2").json()["history_sha256"])
    assert histories[0] == histories[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "pruner", "objectives"),
    [
        ("{name: gp, n_startup_trials: 3}", "{name: wilcoxon, p_threshold: 0.3}", "[{metric: valid_loss}]"),
        ("{name: cmaes, population_size: 3}", "{name: patient, patience: 1}", "[{metric: valid_loss}]"),
        ("{name: genetic, population_size: 3}", "{name: threshold, upper: 1.0}", "[{metric: valid_loss}]"),
        ("qmc", "{name: percentile, n_startup_trials: 2}", "[{metric: valid_accuracy}]"),
        ("{name: nsgaiii, population_size: 3}", "none", "[{metric: valid_loss}, {metric: n_parameters}]"),
    ],
)
def test_each_sampler_gives_one_history_for_1_2_and_4_workers(
    folder: Folder, sampler: str, pruner: str, objectives: str
) -> None:
    histories = set[str]()
    for n_workers in (1, 2, 4):
        folder.write_study(
            *("name: small", f"name: small{n_workers}"),
            *("sampler: {name: tpe, n_startup_trials: 3}", f"sampler: {sampler}\nobjectives: {objectives}"),
            *("pruner: {name: median, n_startup_trials: 2, n_warmup_steps: 0}", f"pruner: {pruner}"),
        )
        histories.add(folder.run("--workers", str(n_workers)).json()["history_sha256"])
    assert len(histories) == 1


def run_on_a_terminal(folder: Folder, *arguments: str) -> tuple[int, str]:
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    process = subprocess.Popen(
        [PROGRAM, *arguments],
        cwd=folder.path,
        env=folder.environment(TERM="xterm-256color"),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    shown = b""
    with suppress(OSError):  # Linux raises EIO once no process has the terminal open any more.
        while piece := os.read(controller, 65536):
            shown += piece
    os.close(controller)
    return process.wait(TIMEOUT_S), shown.decode()
