"""Run a list of trainings with the same workers and training code as studies, and report where the time went.

Run as a module, it is a contender in `mnist-hpo bench peers` and prints `{"valid_accuracy": […]}` like the others:

    python -m mnist_hpo.bench.replay LIST.json --seed 0 --precision bf16
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_hpo.bench.trainings import DATASET, SPLIT, Training, read_trainings
from mnist_hpo.data.prepare import prepare
from mnist_hpo.executors.backends.local import LocalExecutor
from mnist_hpo.executors.checkpoint_store import CheckpointStore
from mnist_hpo.executors.job import DataRef
from mnist_hpo.executors.run_jobs import run_jobs
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.trial_plan import training_job


@dataclass(frozen=True)
class Replay:
    """The results of a replay."""

    wall_s: float
    """Seconds from the start of the process to the last result."""
    flops: int
    n_workers: int
    precision: str
    results: list[list[EpochResult]]
    """By training, then by epoch."""

    def figures(self, peak_gflops: float) -> dict[str, Any]:
        """Return the figures as plain JSON, relative to the fp32 sgemm peak of the cores used."""
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
            "sgemm_peak_gflops": peak_gflops,
            "fraction_of_peak": gflops / peak_gflops,
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
        n_workers: number of worker processes; by default one for each core.
        cold: start from an empty compilation cache.
        precision: fp32 or bf16, as in a study file.
        seed: the seed of the trainings.
        process_start_s: when the calling process started, on the clock of `time.time`.
        on_epoch: a callback with the training's key and each epoch's result.

    Raises:
        UserError: a training cannot be finished.

    """
    with tempfile.TemporaryDirectory(prefix="mnist-hpo-bench-") as folder:
        if cold:
            os.environ["MNIST_HPO_COMPILATION_CACHE"] = str(Path(folder) / "xla")
        executor = LocalExecutor(n_workers)
        try:
            dataset = prepare(DATASET)
            data = DataRef(str(dataset.directory), SPLIT, DATASET.n_classes)
            checkpoints = CheckpointStore(Path(folder))
            jobs = [
                training_job(
                    str(index), str(index), training.config(index, seed, precision), data, training.epochs, checkpoints
                )
                for index, training in enumerate(trainings)
            ]
            # The longest first, so that no worker has a long training left at the end.
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
    )


def process_start_unix_s() -> float:
    """Return the time at which the operating system started this process."""
    import psutil

    return psutil.Process().create_time()


def main() -> None:
    """Train the list."""
    parser = argparse.ArgumentParser()
    parser.add_argument("list", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--precision", required=True)
    options = parser.parse_args()
    found = replay(
        read_trainings(options.list),
        n_workers=None,
        cold=False,
        precision=options.precision,
        seed=options.seed,
        process_start_s=process_start_unix_s(),
    )
    print(json.dumps({"valid_accuracy": [training[-1].valid_accuracy for training in found.results]}))


if __name__ == "__main__":
    main()
