"""A study's trials with every epoch as read from the storage, and a hash over all that must not depend on time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mnist_hpo.learners.result import EpochResult
from mnist_hpo.learners.stopping import kept_epoch
from mnist_hpo.spec.study import Keep, ParameterValue, TrialState

_DIVERGED = "diverged at epoch "


def divergence_reason(epoch: int) -> str:
    """Return the reason of a trial that failed because a loss of this epoch is not finite."""
    return f"{_DIVERGED}{epoch}"


@dataclass(frozen=True)
class TrialRecord:
    """One trial as recorded in the storage."""

    number: int
    state: TrialState
    parameters: Mapping[str, ParameterValue]
    """The searched hyperparameters."""
    epochs: Mapping[int, EpochResult] = field(default_factory=dict[int, EpochResult])
    """By epoch, counted from 1, without gaps."""
    value: float | None = None
    """The first objective of a complete trial: by default the valid_loss of the kept epoch."""
    reason: str | None = None
    """Why a trial failed."""
    started_unix_s: float = 0.0
    finished_unix_s: float | None = None
    other_values: tuple[float, ...] = ()
    """The other objectives of a complete trial."""
    signs: tuple[int, ...] = (1,)
    """By objective: 1 if it is minimised, -1 if it is maximised."""
    paused_after: tuple[int, ...] = ()
    """The epochs after which the trial was paused, in order."""
    is_left_paused: bool = False
    """Whether the trial stays paused because the study is complete."""
    started_at_units: tuple[int, ...] = ()
    """When the trial was started and each time it was resumed, in virtual time; empty in a record of format 1."""
    costs: Mapping[str, int] | None = None
    """Figures known before training, such as n_parameters; None in a record of format 1."""
    keep: Keep = "best"

    @property
    def has_ended(self) -> bool:
        """Whether the trial has ended under the study's budget: complete, pruned, failed or left paused."""
        return self.state in ("complete", "pruned", "failed") or self.is_left_paused

    @property
    def values(self) -> tuple[float, ...]:
        """All objectives of a complete trial, in the order of the study file; empty for other trials."""
        return () if self.value is None else (self.value, *self.other_values)

    @property
    def minimized_values(self) -> tuple[float, ...]:
        """`values`, with maximised objectives negated, so that lower is better."""
        return tuple(sign * value for sign, value in zip(self.signs, self.values, strict=False))

    @property
    def was_given_up(self) -> bool:
        """Whether the trial failed because of the machine rather than because its training diverged."""
        return self.state == "failed" and not (self.reason or "").startswith(_DIVERGED)

    @property
    def valid_loss(self) -> dict[int, float]:
        """The recorded losses by epoch."""
        return {epoch: r.valid_loss for epoch, r in sorted(self.epochs.items()) if r.valid_loss is not None}

    @property
    def kept_epoch(self) -> int | None:
        """The epoch whose model the trial keeps, so far: that of the lowest valid_loss, or the last one."""
        losses = list(self.valid_loss.values())
        return kept_epoch(losses, self.keep) if losses else None


def best_of(trials: Iterable[TrialRecord]) -> TrialRecord | None:
    """Return the complete trial with the best value of the first objective; among equals, the first."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    return min(complete, key=lambda trial: (trial.minimized_values[0], trial.number), default=None)


def count_states(trials: Iterable[TrialRecord]) -> dict[TrialState, int]:
    """Return the number of trials in each state."""
    counts: dict[TrialState, int] = {"complete": 0, "pruned": 0, "failed": 0, "running": 0, "paused": 0}
    for trial in trials:
        counts[trial.state] += 1
    return counts


def state_name(state: TrialState, *, is_running: bool) -> str:
    """Return a trial's state in words: a running trial of a study that no process runs is interrupted.

    Args:
        state: the recorded state.
        is_running: whether a coordinator runs the study now (`lock.is_held`).

    """
    return "interrupted" if state == "running" and not is_running else state


def named_counts(counts: Mapping[TrialState, int], *, is_running: bool) -> list[str]:
    """Return the states that occur, in words, such as `3 pruned`; see `state_name`."""
    return [f"{n:,} {state_name(state, is_running=is_running)}" for state, n in counts.items() if n]


def is_machine_dependent(trials: Iterable[TrialRecord]) -> bool:
    """Return whether a trial was given up, so that the results do not depend on the study file alone."""
    return any(trial.was_given_up for trial in trials)


def machine_dependence(trials: Iterable[TrialRecord]) -> str | None:
    """Return a sentence about the trials that were given up, or None if there are none."""
    given_up = [f"trial {trial.number} ({trial.reason})" for trial in trials if trial.was_given_up]
    if not given_up:
        return None
    return f"The results depend on the machine, which could not train {', '.join(given_up)}."


def history_sha256(trials: Iterable[TrialRecord]) -> str:
    """Return the SHA-256 of all results as canonical JSON, without running trials and what depends on time."""
    history = [
        {
            "number": trial.number,
            "params": dict(trial.parameters),
            "state": trial.state,
            "intermediate_values": {str(epoch): loss.hex() for epoch, loss in trial.valid_loss.items()},
            "value": None if trial.value is None else trial.value.hex(),
            **({"other_values": [value.hex() for value in trial.other_values]} if trial.other_values else {}),
        }
        for trial in sorted(trials, key=lambda trial: trial.number)
        if trial.state != "running"
    ]
    return hashlib.sha256(json.dumps(history, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
