"""A worker process of the executor `local`: receives jobs from the coordinator, runs them and sends back messages.

It runs on one core, with one thread.
"""

from __future__ import annotations

import gc

if __name__ == "__main__":
    # While the modules below are loaded, which leaves no garbage: collecting it takes a fifth of a worker's start.
    gc.disable()

import os
import signal
import sys
import threading
from multiprocessing.connection import Connection

from mnist_hpo.executors.job import decode_job
from mnist_hpo.executors.messages import Message, WorkerReady, encode_message
from mnist_hpo.executors.run_job import JobRunner
from mnist_hpo.learners.factory import load_most_used


def main(jobs_fd: int, lifeline_fd: int, core: int, index: int) -> None:
    """Run jobs on one core until the coordinator closes the connection or dies.

    Args:
        jobs_fd: the file descriptor of the connection to the coordinator.
        lifeline_fd: the read end of a pipe whose write end only the coordinator holds.
        core: the number of the core.
        index: the number of this worker among those of the executor.

    """
    gc.freeze()
    gc.enable()
    if hasattr(os, "sched_setaffinity"):
        # Before XLA starts, which makes as many threads as it sees cores. macOS has no affinity.
        os.sched_setaffinity(0, {core})
    load_most_used()
    # Ctrl-C reaches all processes of the terminal. The coordinator handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_exit_with_coordinator, args=(lifeline_fd,), daemon=True).start()
    connection = Connection(jobs_fd)

    def send(message: Message) -> None:
        try:
            connection.send_bytes(encode_message(message))
        except BrokenPipeError:
            os._exit(1)

    runner = JobRunner(send, index)
    send(WorkerReady())
    while True:
        try:
            message = connection.recv_bytes()
        except EOFError:
            return
        if not runner.run(decode_job(message)):
            sys.exit(1)


def _exit_with_coordinator(lifeline_fd: int) -> None:
    """End this process when the coordinator has died, even in the middle of an epoch."""
    os.read(lifeline_fd, 1)
    os._exit(1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
