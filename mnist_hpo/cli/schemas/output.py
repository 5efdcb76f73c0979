"""The base class of all models of printed JSON."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Output(BaseModel):
    """A JSON document or a part of one."""

    # JSON has no NaN, so every number must be finite.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)
