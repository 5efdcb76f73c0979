"""Refuse results of workers whose machine computes other bits than the coordinator's."""

from __future__ import annotations

from mnist_hpo.executors.messages import EpochDone
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.provenance import fingerprint


def check_fingerprint(event: EpochDone) -> None:
    """Refuse a result from another kind of CPU or with other versions of the libraries.

    The study's record was compared with this process when the study was opened.

    Raises:
        UserError: the fingerprint of the worker is not that of this process.

    """
    expected = fingerprint()
    if event.fingerprint == expected:
        return
    names = sorted(expected.keys() | event.fingerprint.keys())
    pairs = [(name, event.fingerprint.get(name), expected.get(name)) for name in names]
    differences = [f"{name}: {theirs} there, {ours} here" for name, theirs, ours in pairs if theirs != ours]
    raise UserError(
        f"a worker would compute other results than this machine: {'; '.join(differences)}. Its result was not "
        "recorded. Use workers with the same kind of CPU and the same versions, then run the same command again"
    )
