"""What the storage tells of a study: trials with every epoch, and a hash over all that must not depend on time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mnist_hpo.learners.result import EpochResult
from mnist_hpo.spec.study import ParameterValue, TrialState

_DIVERGED = "diverged at epoch "


def divergence_reason(epoch: int) -> str:
    """The reason of a trial that failed because a loss of this epoch is not finite."""
    return f"{_DIVERGED}{epoch}"


@dataclass(frozen=True)
class TrialRecord:
    """One trial as the storage has it."""

    number: int
    state: TrialState
    parameters: Mapping[str, ParameterValue]
    """The searched hyperparameters."""
    epochs: Mapping[int, EpochResult] = field(default_factory=dict[int, EpochResult])
    """By epoch, counted from 1, without gaps."""
    value: float | None = None
    """The first objective of a complete trial: by default the lowest valid_loss."""
    reason: str | None = None
    """Why a trial failed."""
    started_unix_s: float = 0.0
    finished_unix_s: float | None = None
    other_values: tuple[float, ...] = ()
    """Of a complete trial: the study's further objectives."""
    signs: tuple[int, ...] = (1,)
    """By objective: what to multiply values by so that lower ones are better."""
    paused_after: tuple[int, ...] = ()
    """The epochs after which the trial was paused, in order."""
    is_left_paused: bool = False
    """Whether the trial is paused for good, since the study has come to its end."""
    started_at_units: tuple[int, ...] = ()
    """When it was started, and each time resumed, in virtual time; empty in a record of format 1."""
    costs: Mapping[str, int] | None = None
    """What is known before training, such as n_parameters; None in a record of format 1."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes of the trial under the study's budget."""
        return self.state in ("complete", "pruned", "failed") or self.is_left_paused

    @property
    def values(self) -> tuple[float, ...]:
        """All objectives of a complete trial, in the order of the study file; empty for other trials."""
        return () if self.value is None else (self.value, *self.other_values)

    @property
    def minimized_values(self) -> tuple[float, ...]:
        """`values`, each with the sign with which lower is better."""
        return tuple(sign * value for sign, value in zip(self.signs, self.values, strict=False))

    @property
    def was_given_up(self) -> bool:
        """Whether it failed because of the machine rather than because its training diverged."""
        return self.state == "failed" and not (self.reason or "").startswith(_DIVERGED)

    @property
    def valid_loss(self) -> dict[int, float]:
        """By epoch."""
        return {epoch: r.valid_loss for epoch, r in sorted(self.epochs.items()) if r.valid_loss is not None}

    @property
    def best_epoch(self) -> int | None:
        """The epoch of the lowest valid_loss."""
        losses = self.valid_loss
        return min(losses, key=losses.__getitem__) if losses else None


def best_of(trials: Iterable[TrialRecord]) -> TrialRecord | None:
    """The complete trial with the best value of the first objective; of equals, the first."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    return min(complete, key=lambda trial: (trial.minimized_values[0], trial.number), default=None)


def count_states(trials: Iterable[TrialRecord]) -> dict[TrialState, int]:
    """How many trials there are of each state."""
    counts: dict[TrialState, int] = {"complete": 0, "pruned": 0, "failed": 0, "running": 0, "paused": 0}
    for trial in trials:
        counts[trial.state] += 1
    return counts


def state_name(state: TrialState, *, is_running: bool) -> str:
    """A trial's state in words.

    Args:
        state: as the storage has it.
        is_running: whether a coordinator runs the study now (`lock.is_held`); without one, nothing is running.

    """
    return "interrupted" if state == "running" and not is_running else state


def named_counts(counts: Mapping[TrialState, int], *, is_running: bool) -> list[str]:
    """The states that there are, in words, such as `3 pruned`; see `state_name`."""
    return [f"{n:,} {state_name(state, is_running=is_running)}" for state, n in counts.items() if n]


def is_machine_dependent(trials: Iterable[TrialRecord]) -> bool:
    """Whether a trial was given up: then the results no longer depend on the study file alone."""
    return any(trial.was_given_up for trial in trials)


def machine_dependence(trials: Iterable[TrialRecord]) -> str | None:
    """A sentence about the trials that were given up, or None if there are none."""
    given_up = [f"trial {trial.number} ({trial.reason})" for trial in trials if trial.was_given_up]
    if not given_up:
        return None
    return f"The results depend on the machine, which could not train {', '.join(given_up)}."


def history_sha256(trials: Iterable[TrialRecord]) -> str:
    """SHA-256 of the canonical JSON of all finished trials: what was computed, and nothing that depends on time."""
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
