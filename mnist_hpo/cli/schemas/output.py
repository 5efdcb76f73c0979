"""What all models of printed JSON have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Output(BaseModel):
    """A document, or a part of one."""

    # JSON has no NaN: a figure that is not finite must never get here.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)
