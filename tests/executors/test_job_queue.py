"""The job queue loses no job: each one waits, runs, has ended, or was lost after its workers died repeatedly."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mnist_hpo.executors.job import DataRef, Job
from mnist_hpo.executors.job_queue import MAX_ATTEMPTS, JobQueue
from mnist_hpo.learners.config import TrainingConfig

KEYS = st.sampled_from(["a", "b", "c"])


def job_of(key: str, last_epoch: int) -> Job:
    training = TrainingConfig("mlp", {}, seed=0, max_epochs=99)
    return Job(key, training, DataRef("nowhere", "standard", 10), last_epoch, checkpoint=key)


class Workers(RuleBasedStateMachine):
    """Workers that take jobs, report their epochs from the first one, end them, or die at any time.

    A training's next job is submitted as soon as the last epoch of its current one is reported, as by the scheduler.
    """

    def __init__(self) -> None:
        super().__init__()
        self.queue = JobQueue()
        self.running: list[tuple[Job, int]] = []
        """The running jobs, each with the last epoch that it has reported."""
        self.wanted: dict[str, int] = {}
        """By key: the last epoch of the latest job."""
        self.seen: dict[str, int] = {}
        """By key: the highest epoch that any worker has reported."""
        self.deaths: dict[str, int] = {}
        """By key: the number of workers that died since an epoch was last reported for the first time."""

    @rule(key=KEYS, urgency=st.tuples(st.integers(0, 9), st.integers(0, 9)), n_epochs=st.integers(1, 3))
    def submit(self, key: str, urgency: tuple[int, int], n_epochs: int) -> None:
        if self.seen.get(key, 0) == self.wanted.get(key, 0):
            self.wanted[key] = self.wanted.get(key, 0) + n_epochs
            self.queue.submit(job_of(key, self.wanted[key]), urgency)

    @precondition(lambda self: self.queue)
    @rule()
    def take(self) -> None:
        job = self.queue.choose(lambda _: False, 4)
        self.queue.remove(job)
        self.running.append((job, 0))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def report(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.running) - 1))
        job, epoch = self.running[index]
        if epoch < job.last_epoch:
            self.running[index] = job, epoch + 1
            self.queue.epoch_done(job.key, epoch + 1)
            if epoch + 1 > self.seen.get(job.key, 0):
                self.seen[job.key] = epoch + 1
                self.deaths.pop(job.key, None)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.running) - 1))
        job, epoch = self.running[index]
        if epoch == job.last_epoch:
            del self.running[index]
            self.queue.job_done(job.key)
            self.deaths.pop(job.key, None)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        job, _ = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.deaths[job.key] = self.deaths.get(job.key, 0) + 1
        lost = self.queue.worker_died(job, "killed")
        if lost is not None:
            assert lost.key == job.key
            assert self.deaths[job.key] >= MAX_ATTEMPTS, "the job has made progress between the deaths"
            self.forget(job.key)

    @rule(key=KEYS)
    def cancel(self, key: str) -> None:
        self.queue.cancel(key)
        self.forget(key)

    def forget(self, key: str) -> None:
        # `LocalExecutor` ignores the messages of a cancelled job.
        self.running = [(job, epoch) for job, epoch in self.running if job.key != key]
        for by_key in (self.wanted, self.seen, self.deaths):
            by_key.pop(key, None)

    @invariant()
    def every_wanted_epoch_is_seen_running_or_waiting(self) -> None:
        waiting = [job for _, job in self.queue._waiting.values()]
        for key, last_epoch in self.wanted.items():
            jobs = [job for job, _ in self.running] + waiting
            expected = [job.last_epoch for job in jobs if job.key == key]
            assert max([self.seen.get(key, 0), *expected]) == last_epoch


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(max_examples=100, stateful_step_count=40)


def test_two_jobs_of_a_training_are_merged_into_the_longer_one_with_the_higher_urgency() -> None:
    for first, second in ((3, 6), (6, 3)):
        queue = JobQueue()
        queue.submit(job_of("a", first), (5, 0))
        queue.submit(job_of("b", 1), (4, 0))
        queue.submit(job_of("a", second), (3, 0))
        assert len(queue) == 2
        assert queue.choose(lambda _: False, 2) == job_of("a", 6)


def test_a_preferred_job_is_chosen_only_among_the_most_urgent_ones() -> None:
    queue = JobQueue()
    for index, key in enumerate("abc"):
        queue.submit(job_of(key, 1), (index, 0))
    assert queue.choose(lambda job: job.key == "b", 2).key == "b"
    assert queue.choose(lambda job: job.key == "c", 2).key == "a"
