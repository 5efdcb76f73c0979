"""Compare mnist-hpo and its peers on one list of trainings, alternating within one run."""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnist_hpo.bench.peak import sgemm_peak_gflops
from mnist_hpo.bench.trainings import DATASET, Training, read_trainings
from mnist_hpo.data.prepare import prepare
from mnist_hpo.executors.cores import usable_cores
from mnist_hpo.spec.errors import UserError

_PYTORCH = ("pytorch fp32", "pytorch bf16 autocast")
_INSTALL = "scripts/setup --peers"


@dataclass
class Runs:
    """The rounds of one contender."""

    wall_s: list[float] = field(default_factory=list[float])
    """Seconds from the start of the process to its end, by round."""
    mean_valid_accuracy: list[float] = field(default_factory=list[float])


def race(
    path: Path, *, n_rounds: int, on_run: Callable[[str, int, float], None] = lambda _name, _round, _wall_s: None
) -> dict[str, Any]:
    """Let each contender train the list once per round, with the round's number as the seed.

    The trainings of each model are a race of their own, so that a list of several models gives a ratio for each.

    Args:
        path: the list.
        n_rounds: the number of rounds; use 3 or more for a meaningful median.
        on_run: a callback after each run with the contender, the round and the seconds. If the list has several models,
            the contender's name is followed by the model's.

    Returns:
        `tflop`, `sgemm_peak_gflops`, and for each contender the seconds (median and all), GFLOP/s, ratio to the fastest
        of PyTorch's modes, fraction of the peak, and mean valid accuracy over list and rounds. `models` has the same
        figures of the contenders for each model; those of the whole list are sums over the models.

    Raises:
        UserError: the list cannot be read, PyTorch is not installed, or a contender fails.

    """
    trainings = read_trainings(path)
    if importlib.util.find_spec("torch") is None:
        raise UserError(f"the peers need PyTorch, which is not part of mnist-hpo; install it with: {_INSTALL}")
    prepare(DATASET)
    by_model = {
        model: [training for training in trainings if training.model == model]
        for model in dict.fromkeys(training.model for training in trainings)
    }
    with tempfile.TemporaryDirectory(prefix="mnist-hpo-bench-") as folder:
        races = {model: _Race.start(Path(folder), model, chosen) for model, chosen in by_model.items()}
        peaks = [sgemm_peak_gflops(usable_cores())]
        for number in range(n_rounds):
            for model, race in races.items():
                suffix = f", {model}" if len(races) > 1 else ""
                race.run(number, lambda name, *run, suffix=suffix: on_run(name + suffix, *run))
            peaks.append(sgemm_peak_gflops(usable_cores()))
    flops = sum(race.flops for race in races.values())
    return {
        "tflop": flops / 1e12,
        "n_rounds": n_rounds,
        "sgemm_peak_gflops": max(peaks),
        "contenders": _compare(_total(list(races.values())), flops, max(peaks)),
        "models": {model: _compare(race.runs, race.flops, max(peaks)) for model, race in races.items()},
    }


@dataclass(frozen=True)
class _Race:
    """The contenders on the trainings of one model."""

    n_trainings: int
    flops: int
    contenders: Mapping[str, Sequence[str]]
    runs: Mapping[str, Runs]

    @classmethod
    def start(cls, folder: Path, model: str, trainings: Sequence[Training]) -> _Race:
        """Write the list for the contenders, and fill the compilation cache."""
        path = folder / f"{model}.json"
        path.write_text(json.dumps([training.entry() for training in trainings]), encoding="utf-8")
        contenders = _contenders(path)
        for name in ("mnist-hpo bf16", "mnist-hpo fp32"):
            _run(name, [*contenders[name], "--seed", "0"])
        flops = sum(training.flops() for training in trainings)
        return cls(len(trainings), flops, contenders, {name: Runs() for name in contenders})

    def run(self, number: int, on_run: Callable[[str, int, float], None]) -> None:
        """Run a round."""
        for name, command in self.contenders.items():
            start = time.perf_counter()
            accuracies = _run(name, [*command, "--seed", str(number)])
            self.runs[name].wall_s.append(time.perf_counter() - start)
            self.runs[name].mean_valid_accuracy.append(statistics.fmean(accuracies))
            on_run(name, number, self.runs[name].wall_s[-1])


def _total(races: Sequence[_Race]) -> dict[str, Runs]:
    """Return each contender's sum of seconds and mean accuracy over all trainings, by round."""
    n_trainings = sum(race.n_trainings for race in races)

    def total(name: str) -> Runs:
        seconds = zip(*(race.runs[name].wall_s for race in races), strict=True)
        accuracies = zip(*(race.runs[name].mean_valid_accuracy for race in races), strict=True)
        return Runs(
            [sum(each) for each in seconds],
            [
                sum(race.n_trainings * accuracy for race, accuracy in zip(races, each, strict=True)) / n_trainings
                for each in accuracies
            ],
        )

    return {name: total(name) for name in races[0].runs}


def _contenders(path: Path) -> dict[str, Sequence[str]]:
    def module(name: str, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", f"mnist_hpo.bench.{name}", str(path), *arguments]

    contenders: dict[str, Sequence[str]] = {
        "mnist-hpo bf16": module("replay", "--precision", "bf16"),
        _PYTORCH[0]: module("pytorch_peer"),
        "mnist-hpo fp32": module("replay", "--precision", "fp32"),
        _PYTORCH[1]: module("pytorch_peer", "--bf16"),
    }
    if importlib.util.find_spec("ray") is not None:
        contenders["ray tune, pytorch fp32"] = module("ray_peer")
    return contenders


def _run(name: str, command: Sequence[str]) -> list[float]:
    """Run a contender; return the valid accuracies that it prints."""
    # Set before the process starts, since some libraries size their thread pools at import.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    if process.returncode != 0:
        raise UserError(f"{name} ended with exit code {process.returncode}:\n{process.stderr.strip()[-2000:]}")
    return json.loads(process.stdout[process.stdout.index("{") :])["valid_accuracy"]


def _compare(runs: Mapping[str, Runs], flops: int, peak_gflops: float) -> dict[str, dict[str, Any]]:
    medians = {name: statistics.median(contender.wall_s) for name, contender in runs.items()}
    fastest_pytorch_s = min(medians[name] for name in _PYTORCH)
    return {
        name: {
            "median_wall_s": medians[name],
            "wall_s": contender.wall_s,
            "gflops": flops / medians[name] / 1e9,
            "fraction_of_peak": flops / medians[name] / 1e9 / peak_gflops,
            "times_fastest_pytorch": fastest_pytorch_s / medians[name],
            "mean_valid_accuracy": statistics.fmean(contender.mean_valid_accuracy),
        }
        for name, contender in runs.items()
    }
