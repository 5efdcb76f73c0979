"""The section `init_from` of a study file: another model, whose weights initialise every training of the study."""

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
"""The layers that are initialised with the source's weights. The other layers are initialised at random."""

_PATH_LENGTH = 4096


@dataclass(frozen=True)
class TrainedOn:
    """The data that a model was trained on."""

    dataset_digest: str
    split: str | None
    """The split whose train part was used; None if it is unknown or if valid was used too."""


@dataclass(frozen=True)
class SourceWeights:
    """The weights that a study starts from. They are identified by their content, not by their path."""

    sha256: str
    """See `mnist_hpo.learners.stored_weights.weights_sha256`."""
    origin: Mapping[str, str | int]
    """The source study, its trial and its history_sha256, to be shown to the user."""
    trained_on: tuple[TrainedOn, ...]
    """All data that they were trained on, including the data of earlier models in a chain of `init_from`."""

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
    """A recorded study. Its best trial's model is used, which was trained on the train part alone."""
    bundle: str | None = Field(default=None, min_length=1, max_length=_PATH_LENGTH)
    """A model's folder, relative to the study file."""
    layers: Layers = "all"
    learning_rate_factor: Annotated[float, Field(strict=True, ge=0, le=1)] = 1.0
    """Multiplies the learning rate of the layers that are initialised from the source; 0 freezes them."""
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
            raise ValueError("needs either study: NAME or bundle: DIR, not both")
        if self.layers == "all" and self.learning_rate_factor == 0:
            raise ValueError("layers: all and learning_rate_factor: 0 leave nothing to train; change one of them")
        return self

    def with_source(self, source: SourceWeights, place: Path | None) -> InitFrom:
        """Return a copy that identifies the weights.

        Args:
            source: the weights that the study starts from, or was started from.
            place: the absolute path of the file that contains them; None if it has not been looked up.

        """
        copy = self.model_copy()
        copy._source, copy._place = source, place
        return copy

    @property
    def source(self) -> SourceWeights:
        """The weights' identity.

        Raises:
            ValueError: this object was not returned by `with_source`.

        """
        if self._source is None:
            raise ValueError("the weights of init_from have not been read")
        return self._source

    @property
    def place(self) -> Path:
        """The file that contains the weights.

        Raises:
            ValueError: `with_source` was called without it.

        """
        if self._place is None:
            raise ValueError("the file with the weights of init_from is not known")
        return self._place


def source_context(init_from: InitFrom | None) -> dict[str, str]:
    """Return what a study and its models record about the initial weights, by key."""
    return {} if init_from is None else {INIT_FROM: init_from.source.to_json()}
