"""Replay a list of trainings through the very workers and core that studies use, and say where the time went."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_hpo.bench.peak import sgemm_peak_gflops
from mnist_hpo.bench.trainings import DATASET, SPLIT, Training
from mnist_hpo.data.prepare import prepare
from mnist_hpo.data.registry import DATASETS
from mnist_hpo.executors.job import DataRef, Job
from mnist_hpo.executors.local import LocalExecutor, usable_cores
from mnist_hpo.executors.single import run_jobs
from mnist_hpo.training.result import EpochResult


@dataclass(frozen=True)
class Replay:
    """What a replay took."""

    wall_s: float
    """From the start of the process to the last result."""
    flops: int
    n_workers: int
    precision: str
    results: list[list[EpochResult]]
    """By training, by epoch."""
    peak_gflops: float
    """fp32 sgemm of all the cores that were used, measured right after."""

    def figures(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        epochs = [result for training in self.results for result in training]
        seconds = {
            "compile": sum(result.compile_s for result in epochs),
            "train": sum(result.train_s for result in epochs),
            "evaluate": sum(result.evaluate_s for result in epochs),
        }
        seconds["transfer"] = sum(result.total_s for result in epochs) - sum(seconds.values())
        seconds["idle"] = self.n_workers * self.wall_s - sum(seconds.values())
        gflops = self.flops / self.wall_s / 1e9
        return {
            "wall_s": self.wall_s,
            "n_workers": self.n_workers,
            "precision": self.precision,
            "worker_s": seconds,
            "tflop": self.flops / 1e12,
            "gflops": gflops,
            "sgemm_peak_gflops": self.peak_gflops,
            "fraction_of_peak": gflops / self.peak_gflops,
            "valid_accuracy": [training[-1].valid_accuracy for training in self.results],
            "mean_valid_accuracy": sum(training[-1].valid_accuracy or 0 for training in self.results)
            / len(self.results),
        }


def replay(
    trainings: Sequence[Training],
    *,
    n_workers: int | None,
    cold: bool,
    precision: str,
    seed: int = 0,
    process_start_s: float,
    on_epoch: Callable[[str, EpochResult], None] = lambda _key, _result: None,
) -> Replay:
    """Run every training of a list once.

    Args:
        trainings: the list.
        n_workers: worker processes, by default one on each core.
        cold: start from an empty compilation cache.
        precision: fp32 or bf16, as in a study file.
        seed: of the trainings.
        process_start_s: when the process that asks began, on the clock of `time.time`.
        on_epoch: told of each epoch.

    Raises:
        UserError: a training cannot be finished.

    """
    with tempfile.TemporaryDirectory(prefix="mnist-hpo-bench-") as folder:
        if cold:
            os.environ["MNIST_HPO_COMPILATION_CACHE"] = str(Path(folder) / "xla")
        executor = LocalExecutor(n_workers)
        try:
            dataset = prepare(DATASET)
            data = DataRef(str(dataset.directory), SPLIT, DATASETS[DATASET].n_classes)
            jobs = [
                Job(
                    str(index),
                    training.config(index, seed, precision),
                    data,
                    training.epochs,
                    f"{folder}/{index}.safetensors",
                )
                for index, training in enumerate(trainings)
            ]
            # The longest first: nobody is left with a long one at the end.
            longest_first = sorted(jobs, key=lambda job: -trainings[int(job.key)].flops())
            by_key = run_jobs(executor, longest_first, on_epoch=on_epoch)
            wall_s = time.time() - process_start_s
            n_started = executor.n_workers
        finally:
            executor.close()
    return Replay(
        wall_s=wall_s,
        flops=sum(training.flops() for training in trainings),
        n_workers=n_started,
        precision=precision,
        results=[by_key[job.key] for job in jobs],
        peak_gflops=sgemm_peak_gflops(usable_cores()[:n_started]),
    )


def process_start_unix_s() -> float:
    """When this process was started, by the system's account."""
    import psutil

    return psutil.Process().create_time()
