"""The section `init_from` of a study file: another model, whose weights every training of the study starts from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from mnist_hpo.spec.errors import shown

INIT_FROM = "init_from"
"""The key under which a study and a model record `SourceWeights`, as JSON."""

Layers = Literal["all", "all_but_last"]
"""The layers that start from the source's weights. The others start from random weights."""

_PATH_LENGTH = 4096


@dataclass(frozen=True)
class TrainedOn:
    """Examples that a model has learned from."""

    dataset_digest: str
    split: str | None
    """None: not known; maybe train + valid."""


@dataclass(frozen=True)
class SourceWeights:
    """The weights that a study starts from. Their content identifies them, not where they lie."""

    sha256: str
    """See `mnist_hpo.learners.stored_weights.weights_sha256`."""
    origin: Mapping[str, str | int]
    """Where they come from, for people: the study and its trial, and the study's history_sha256."""
    trained_on: tuple[TrainedOn, ...]
    """All examples that they were learned from, also those of the source's own source."""

    def to_json(self) -> str:
        """Return a JSON text that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SourceWeights:
        """Return what `to_json` wrote."""
        fields = json.loads(text)
        trained_on = tuple(TrainedOn(**examples) for examples in fields.pop("trained_on"))
        return cls(trained_on=trained_on, **fields)

    def __str__(self) -> str:
        parts = [f"{name} {value}" for name, value in self.origin.items() if name != "history_sha256"]
        return f"{', '.join(parts)} (weights {self.sha256[:12]}…)"


class InitFrom(BaseModel):
    """Start each trial from the weights of another model of the same architecture.

    Yosinski et al., "How Transferable Are Features in Deep Neural Networks?" (2014).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    study: str | None = Field(default=None, min_length=1, max_length=100)
    """A recorded study; its best trial's model, which has learned from train alone."""
    bundle: str | None = Field(default=None, min_length=1, max_length=_PATH_LENGTH)
    """A model's folder, relative to the study file."""
    layers: Layers = "all"
    learning_rate_factor: Annotated[float, Field(strict=True, ge=0, le=1)] = 1.0
    """The factor of the learning rate of the layers that start from the source; 0 keeps their weights as they are."""
    _source: SourceWeights | None = PrivateAttr(default=None)
    _place: Path | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        if isinstance(value, str):
            return {"bundle" if "/" in value else "study": value}
        if not isinstance(value, dict | InitFrom):
            raise ValueError(f"must be a study's name, a model's folder or a mapping, not {shown(value)}")
        return value

    @model_validator(mode="after")
    def _check(self) -> InitFrom:
        if (self.study is None) == (self.bundle is None):
            raise ValueError("needs either study: NAME or bundle: DIR")
        if self.layers == "all" and self.learning_rate_factor == 0:
            raise ValueError("layers: all and learning_rate_factor: 0 leave nothing to train; change one of them")
        return self

    def with_source(self, source: SourceWeights, place: Path | None) -> InitFrom:
        """A copy that knows the weights.

        Args:
            source: which weights they are, or were when the study was started.
            place: the file that holds them, an absolute path; None where only their record is at hand.

        """
        copy = self.model_copy()
        copy._source, copy._place = source, place
        return copy

    @property
    def source(self) -> SourceWeights:
        """The weights.

        Raises:
            ValueError: `with_source` has not said so.

        """
        if self._source is None:
            raise ValueError("the weights of init_from have not been read")
        return self._source

    @property
    def place(self) -> Path:
        """The file that holds the weights.

        Raises:
            ValueError: only their record is at hand.

        """
        if self._place is None:
            raise ValueError("the weights of init_from are not at hand")
        return self._place


def source_context(init_from: InitFrom | None) -> dict[str, str]:
    """Return what a study and its models record about the weights that it starts from."""
    return {} if init_from is None else {INIT_FROM: init_from.source.to_json()}
