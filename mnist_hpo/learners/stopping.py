"""Early stopping and the epoch whose model is kept: functions of the validation losses alone."""

from __future__ import annotations

from collections.abc import Sequence

from mnist_hpo.spec.study import Keep


def best_epoch(valid_losses: Sequence[float]) -> int:
    """Return the epoch of the lowest valid_loss, counted from 1; among equals, the first."""
    return 1 + min(range(len(valid_losses)), key=valid_losses.__getitem__)


def kept_epoch(valid_losses: Sequence[float], keep: Keep) -> int:
    """Return the epoch whose model is kept, counted from 1."""
    return best_epoch(valid_losses) if keep == "best" else len(valid_losses)


def has_ended(valid_losses: Sequence[float], *, max_epochs: int, patience_epochs: int | None) -> bool:
    """Return whether a training has ended: its epochs or its patience are used up."""
    n_epochs = len(valid_losses)
    if n_epochs == 0:
        return False
    out_of_patience = patience_epochs is not None and n_epochs - best_epoch(valid_losses) >= patience_epochs
    return n_epochs >= max_epochs or out_of_patience
