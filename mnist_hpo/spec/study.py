"""The schema of a study file, which contains everything that determines the results and nothing else."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    field_validator,
    model_validator,
)

from mnist_hpo.spec.errors import shown
from mnist_hpo.spec.folder_content import FolderContent
from mnist_hpo.spec.init_from import InitFrom

ParameterValue = bool | int | float | str
"""A hyperparameter's value as written in a study file."""

TrialState = Literal["complete", "pruned", "failed", "running", "paused"]
"""The state of a trial. A failed trial has a reason, the policy ended a pruned one, and a paused one may be resumed."""

Direction = Literal["minimize", "maximize"]

METRICS: dict[str, Direction] = {
    "valid_loss": "minimize",
    "valid_accuracy": "maximize",
    "n_parameters": "minimize",
    "flops": "minimize",
}
"""The metrics that an objective can name, with the direction in which each improves."""

Whole = Annotated[int, Field(strict=True)]
"""An integer; true, 1.0 and "1" are rejected."""

Real = Annotated[float, Field(strict=True, ge=-1e300, le=1e300)]
"""A number, bounded so that the difference of two is finite."""

Flag = Annotated[bool, Field(strict=True)]

Keep = Literal["best", "last"]
"""The epoch whose model a trial keeps: that of the lowest valid_loss, or the last one."""

MAX_STEPS = 1_000_000
"""The most steps from `low` to `high`. With more, the range would be as good as continuous."""

_GRID_TOLERANCE = 1e-9


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _SpaceEntry(_Section):
    when: dict[str, tuple[ParameterValue, ...]] | None = None
    """The trials that search this hyperparameter: those in which each of these others has one of these values."""

    @field_validator("when", mode="before")
    @classmethod
    def _values_as_tuples(cls, when: object) -> object:
        if not isinstance(when, dict):
            return when
        if not when:
            raise ValueError("must name a hyperparameter and the values with which this one is searched")
        return {name: value if isinstance(value, list | tuple) else (value,) for name, value in when.items()}

    def is_active(self, parameters: Mapping[str, ParameterValue]) -> bool:
        """Return whether a trial with these values of other hyperparameters searches this one."""
        return all(name in parameters and parameters[name] in values for name, values in (self.when or {}).items())


class FloatSpace(_SpaceEntry):
    """A real-valued hyperparameter between `low` and `high`, both included."""

    type: Literal["float"]
    low: Real
    high: Real
    step: Real | None = Field(default=None, gt=0)
    log: Flag = False

    @model_validator(mode="after")
    def _check(self) -> FloatSpace:
        _check_range(self.low, self.high, self.step, self.log)
        return self


class IntSpace(_SpaceEntry):
    """An integer hyperparameter between `low` and `high`, both included."""

    type: Literal["int"]
    low: Whole
    high: Whole
    step: Whole | None = Field(default=None, gt=0)
    log: Flag = False

    @model_validator(mode="after")
    def _check(self) -> IntSpace:
        _check_range(self.low, self.high, self.step, self.log)
        return self


class CategoricalSpace(_SpaceEntry):
    """A hyperparameter that takes one of a few values."""

    type: Literal["categorical"]
    choices: tuple[ParameterValue, ...] = Field(min_length=1, max_length=1000)

    @field_validator("choices")
    @classmethod
    def _check_distinct(cls, choices: tuple[ParameterValue, ...]) -> tuple[ParameterValue, ...]:
        repeated = [choice for i, choice in enumerate(choices) if choice in choices[:i]]
        if repeated:
            raise ValueError(f"choices must differ: {shown(repeated[0])} is listed twice")
        return choices


Space = Annotated[FloatSpace | IntSpace | CategoricalSpace, Field(discriminator="type")]


def _check_range(low: float, high: float, step: float | None, log: bool) -> None:
    if low > high:
        raise ValueError(f"low ({low:g}) is greater than high ({high:g}); swap them")
    if log and low <= 0:
        raise ValueError(f"log: true needs low > 0, and low is {low:g}; raise low or drop log")
    if log and step is not None:
        raise ValueError("log and step exclude each other; drop one of them")
    if step is not None:
        n_steps = (high - low) / step
        if n_steps > MAX_STEPS:
            raise ValueError(f"step ({step:g}) divides low to high into more than {MAX_STEPS:,} steps; raise it")
        if abs(n_steps - round(n_steps)) > _GRID_TOLERANCE:
            raise ValueError(f"high ({high:g}) is not low ({low:g}) plus a whole number of steps of {step:g}")


class Budget(_Section):
    """The amount of computation. Only `n_trials` may grow later, which extends the study."""

    n_trials: Whole = Field(ge=1, le=1_000_000)
    max_epochs: Whole = Field(ge=1, le=10_000)
    patience_epochs: Whole | None = Field(default=None, ge=1, le=10_000)
    """Stop a training after this many epochs without a lower valid_loss; None: never."""
    keep: Keep = "best"


class Objective(_Section):
    """A metric that the study optimises. A trial's value is that of the model that it keeps; see `Keep`."""

    metric: str
    direction: Direction | None = None
    """By default the direction of the metric in `METRICS`."""

    @field_validator("metric")
    @classmethod
    def _check_metric(cls, metric: str) -> str:
        if metric not in METRICS:
            raise ValueError(f"unknown metric {shown(metric)}; known are {', '.join(METRICS)}")
        return metric

    @property
    def sign(self) -> int:
        """The factor by which to multiply values so that lower ones are better."""
        return 1 if (self.direction or METRICS[self.metric]) == "minimize" else -1


class DatasetFolder(_Section):
    """A folder of images and labels, in place of a dataset's name.

    Results depend on the images and labels alone, not on the folder's path.
    """

    path: str = Field(min_length=1, max_length=4096)
    """Relative to the study file."""
    _content: FolderContent | None = PrivateAttr(default=None)
    _place: Path | None = PrivateAttr(default=None)

    def with_content(self, content: FolderContent, place: Path | None) -> DatasetFolder:
        """Return a copy with the folder's content.

        Args:
            content: the content of the folder, or the recorded content of a started study.
            place: the absolute path of the folder; None if it has not been looked up.

        """
        copy = self.model_copy()
        copy._content, copy._place = content, place
        return copy

    @property
    def content(self) -> FolderContent | None:
        """The content of the folder; None unless this object was returned by `with_content`."""
        return self._content

    @property
    def place(self) -> Path | None:
        """The absolute path of the folder; None if it is unknown."""
        return self._place


def _dataset_tag(dataset: object) -> str:
    return "folder" if isinstance(dataset, dict | DatasetFolder) else "name"


DatasetChoice = Annotated[
    Annotated[str, Tag("name")] | Annotated[DatasetFolder, Tag("folder")], Discriminator(_dataset_tag)
]
"""A dataset's name, or `{path: DIR}`."""

_ANY_PATH = "*"
"""Replaces the path of a folder or of a model in a study's identity."""


class Method(BaseModel):
    """A sampler, a pruner or a policy: its name and its options, which its own library defines and checks."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @property
    def options(self) -> dict[str, object]:
        """The options besides the name, as written in the file."""
        return dict(self.model_extra or {})


class Study(_Section):
    """A study file that fits the schema.

    `mnist_hpo.search.check` checks that its dataset, model, sampler and options exist.
    """

    name: str
    description: str = ""
    seed: Whole = Field(default=0, ge=0, lt=2**63)
    dataset: DatasetChoice = "mnist"
    split: str = "standard"
    model: str = "mlp"
    init_from: InitFrom | None = None
    """The weights that every training starts from; None for random weights."""
    objectives: tuple[Objective, ...] = Field(default=(Objective(metric="valid_loss"),), min_length=1, max_length=4)
    """A file with a single objective may also write `objective: METRIC`."""
    budget: Budget
    slots: Whole = Field(default=4, ge=1, le=1024)
    """Number of trials that run at once in virtual time. It affects the results, so the study file sets it."""
    sampler: Method = Method(name="tpe")
    pruner: Method = Method(name="none")
    policy: Method | None = None
    """Decides which trial runs next and which trial pauses. None: the sampler and the pruner decide."""
    space: dict[str, Space] = Field(min_length=1, max_length=100)
    fixed: dict[str, ParameterValue] = Field(default={}, max_length=100)
    enqueue: tuple[dict[str, ParameterValue], ...] = Field(default=(), max_length=1000)

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise ValueError(
                f"{shown(name)} is not a valid study name: use up to 100 letters, digits, '.', '_' and '-'"
            )
        return name

    @model_validator(mode="before")
    @classmethod
    def _expand_objective(cls, data: object) -> object:
        if not isinstance(data, dict) or not isinstance(data.get("objective"), str):
            return data
        if "objectives" in data:
            raise ValueError("objective and objectives exclude each other; leave one of them out")
        rest = {name: value for name, value in data.items() if name != "objective"}
        return rest | {"objectives": [{"metric": data["objective"]}]}

    @field_validator("objectives")
    @classmethod
    def _check_distinct_objectives(cls, objectives: tuple[Objective, ...]) -> tuple[Objective, ...]:
        metrics = [objective.metric for objective in objectives]
        repeated = [metric for index, metric in enumerate(metrics) if metric in metrics[:index]]
        if repeated:
            raise ValueError(f"objectives must differ: {repeated[0]} is listed twice")
        return objectives

    @model_validator(mode="after")
    def _check_acyclic(self) -> Study:
        self.search_order()
        return self

    @model_validator(mode="after")
    def _check_policy_excludes_pruner(self) -> Study:
        if self.policy is not None and self.pruner.name != "none":
            raise ValueError(f"the policy {self.policy.name} and a pruner exclude each other; leave one of them out")
        return self

    @model_validator(mode="after")
    def _check_searched_or_fixed(self) -> Study:
        both = sorted(self.space.keys() & self.fixed.keys())
        if both:
            raise ValueError(f"{both[0]} is both in space and in fixed; leave it in one of them")
        return self

    @property
    def dataset_name(self) -> str:
        """The dataset's name, or the path of its folder as the file says it."""
        return self.dataset if isinstance(self.dataset, str) else self.dataset.path

    @property
    def objective(self) -> str:
        """The metrics of all objectives, separated by commas."""
        return ", ".join(objective.metric for objective in self.objectives)

    @property
    def pruning(self) -> str:
        """The name of the policy, or of the pruner if there is no policy."""
        return self.pruner.name if self.policy is None else self.policy.name

    def search_order(self) -> list[str]:
        """Return the names in `space`, each after those in its `when`, otherwise in alphabetical order.

        Raises:
            ValueError: a `when` names a hyperparameter that is not searched, or depends on itself.

        """
        order: list[str] = []
        waiting = sorted(self.space)
        while waiting:
            ready = [name for name in waiting if set(self.space[name].when or {}) <= set(order)]
            if not ready:
                name = waiting[0]
                unknown = sorted(set(self.space[name].when or {}) - set(self.space))
                raise ValueError(
                    f"space.{name}.when names {unknown[0]}, which is not in space"
                    if unknown
                    else f"space.{name}.when depends on itself, through {', '.join(waiting)}"
                )
            order += ready
            waiting = [name for name in waiting if name not in order]
        return order

    def identity(self, *, in_full: bool = False) -> dict[str, Any]:
        """Return what determines the results, as plain JSON: all but the description, `n_trials` and folders' paths.

        Fields at their defaults are left out, so that a new field of a later version does not change old identities.
        A default must therefore never change. The content of a folder is recorded beside the identity, and so are the
        weights of `init_from`.

        Args:
            in_full: include the fields at their defaults, for people to read.

        """
        identity = self.model_dump(
            mode="json",
            exclude={"description": True, "budget": {"n_trials"}},
            exclude_defaults=not in_full,
            exclude_none=in_full,
        )
        if not isinstance(self.dataset, str):
            identity["dataset"] = {"path": _ANY_PATH}
        if self.init_from is not None and self.init_from.bundle is not None:
            identity["init_from"]["bundle"] = _ANY_PATH
        return identity

    def sha256(self) -> str:
        """Return the SHA-256 of the canonical JSON of `identity`."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()
