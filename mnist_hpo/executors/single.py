"""Run a few trainings to their end, outside any search."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mnist_hpo.executors.job import EpochDone, Executor, Halted, Job, JobDone, JobLost
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.spec.errors import UserError

_POLL_S = 0.25


def run_jobs(
    executor: Executor,
    jobs: Sequence[Job],
    *,
    on_epoch: Callable[[str, EpochResult], None] = lambda _key, _result: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, list[EpochResult]]:
    """Run jobs until all are done; return each one's results by key, in the order of epochs.

    Raises:
        UserError: a job was lost, or the machine lacks something.
        KeyboardInterrupt: `should_stop` said so.

    """
    results: dict[str, dict[int, EpochResult]] = {job.key: {} for job in jobs}
    open_keys = set(results)
    for index, job in enumerate(jobs):
        executor.submit(job, urgency=(index, 0))
    while open_keys:
        if should_stop():
            raise KeyboardInterrupt
        for event in executor.wait(_POLL_S):
            match event:
                case EpochDone(key, result) if key in results:
                    results[key][result.epoch] = result
                    on_epoch(key, result)
                case JobDone(key):
                    open_keys.discard(key)
                case JobLost(key, reason):
                    raise UserError(f"the training {key} cannot be finished: {reason}")
                case Halted(reason):
                    raise UserError(f"{reason}; make room, then run the same command again")
                case _:
                    pass
    return {key: [by_epoch[epoch] for epoch in sorted(by_epoch)] for key, by_epoch in results.items()}
