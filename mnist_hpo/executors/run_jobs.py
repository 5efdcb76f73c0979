"""Run a few trainings to their end, outside any search."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mnist_hpo.executors.fingerprint_check import check_fingerprint
from mnist_hpo.executors.job import Job
from mnist_hpo.executors.messages import EpochDone, Halted, JobDone, JobLost
from mnist_hpo.executors.protocol import Executor
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
    """Run jobs until all are done; return the results of each by key, in the order of epochs.

    Args:
        executor: where to run them.
        jobs: the jobs. The executor must not have run others with their keys.
        on_epoch: called once for each epoch, with the job's key.
        should_stop: polled; True aborts.

    Raises:
        UserError: a job was lost, the machine lacks something, or a worker's fingerprint is not that of this process.
        KeyboardInterrupt: `should_stop` returned True.

    """
    results: dict[str, dict[int, EpochResult]] = {job.key: {} for job in jobs}
    n_epochs: dict[str, int] = {}
    for index, job in enumerate(jobs):
        executor.submit(job, urgency=(index, 0))
    # The end of a job may arrive before its last epochs.
    while any(len(by_epoch) != n_epochs.get(key) for key, by_epoch in results.items()):
        if should_stop():
            raise KeyboardInterrupt
        for event in executor.wait(_POLL_S):
            match event:
                case EpochDone(key, result) if key in results:
                    check_fingerprint(event)
                    if result.epoch not in results[key]:
                        results[key][result.epoch] = result
                        on_epoch(key, result)
                case JobDone(key, last_epoch) if key in results:
                    n_epochs[key] = last_epoch
                case JobLost(key, reason) if key in results:
                    raise UserError(f"the training {key} cannot be finished: {reason}")
                case Halted(reason):
                    raise UserError(f"{reason}; put this right, then run the same command again")
                case _:
                    pass
    return {key: [by_epoch[epoch] for epoch in sorted(by_epoch)] for key, by_epoch in results.items()}
