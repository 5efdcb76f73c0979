#!/usr/bin/env python
"""Measure a large study's report: the time to create it, its size, and the times from navigation until the charts in
view, and all charts, are drawn.

The study is simulated (tests/simulated_study.py): the real scheduler, sampler, pruner and storage, without training.
Needs scripts/setup --dev and Chromium.

Run:  .venv/bin/python scripts/measure_report.py [--trials 2000] [--opens 5]     (a few minutes, mostly for the study)
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "browser"), str(ROOT / "tests")]

from chromium import launch  # noqa: E402
from simulated_study import run_simulated, study_of  # noqa: E402

from mnist_hpo.report.page import report_html  # noqa: E402


def main() -> None:
    """Create a study and its report, and open the report several times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--opens", type=int, default=5, help="how often to open the page, each time in a new browser")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = study_of(budget={"n_trials": options.trials, "max_epochs": 27}, slots=8)
        view = run_simulated(Path(folder), study)
        path = Path(folder) / "report.html"
        start, start_cpu = time.perf_counter(), time.process_time()
        path.write_text(report_html(view, []), encoding="utf-8")
        seconds, cpu_s = time.perf_counter() - start, time.process_time() - start_cpu
        n_epochs = sum(len(trial.epochs) for trial in view.trials)
        print(f"{len(view.trials):,} trials, {n_epochs:,} epochs; load average {os.getloadavg()[0]:.1f}")
        print(f"created in {seconds:.1f} s ({cpu_s:.1f} s of CPU), {path.stat().st_size / 1e6:.1f} MB")
        for width in (1200, 390):
            opened = [open_s(path, width) for _ in range(options.opens)]
            for what, times in zip(
                ("charts in view drawn", "all drawn", "of that, computing"), zip(*opened, strict=True), strict=True
            ):
                print(f"{width} px, {what}: {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")


def open_s(path: Path, width_px: int) -> tuple[float, float, float]:
    """Open a page in a browser with an empty cache.

    Returns:
        the seconds from navigation until the charts in view are drawn, the seconds until all charts are drawn, and the
        CPU seconds of the page's own thread, which do not depend on other work on the machine.

    """
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": width_px, "height": 900})
        devtools = page.context.new_cdp_session(page)
        devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.goto(path.as_uri(), wait_until="commit")
        page.wait_for_selector("html[data-drawn]", state="attached", timeout=120_000)
        marks = [f"performance.getEntriesByName('{name}')[0].startTime / 1000" for name in ("view-drawn", "all-drawn")]
        in_view_s, all_s = (page.evaluate(mark) for mark in marks)
        metrics = {metric["name"]: metric["value"] for metric in devtools.send("Performance.getMetrics")["metrics"]}
        browser.close()
    return in_view_s, all_s, metrics["TaskDuration"]


if __name__ == "__main__":
    main()
