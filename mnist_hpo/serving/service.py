"""The state of a running service: its model, its limits and what it reports."""

from __future__ import annotations

import asyncio
import functools
import gc
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import NamedTuple

from mnist_hpo.bundle.portable import Runtime
from mnist_hpo.serving.batching import Batcher
from mnist_hpo.serving.device import Device
from mnist_hpo.serving.errors import ServiceError
from mnist_hpo.serving.limits import Limits
from mnist_hpo.serving.log import Log
from mnist_hpo.serving.metrics import Metrics
from mnist_hpo.serving.model import ModelSource, ServedModel, load_served_model


class Current(NamedTuple):
    """The model that answers. A request uses one from its start to its end."""

    model: ServedModel
    batcher: Batcher


@dataclass
class Service:
    """The state that all requests share.

    A model is loaded and compiled in a thread of `loader`, and takes over when it is ready. Requests that have begun
    end with the model before it.
    """

    limits: Limits
    max_wait_s: float
    """See `Batcher`."""
    runtime: Runtime
    device: Device
    readers: Executor
    """Threads that read pictures."""
    loader: Executor
    log: Log
    metrics: Metrics = field(default_factory=Metrics)
    is_draining: bool = False
    """Whether the service ends: it answers requests, but is not ready for more."""
    _current: Current | None = None

    @property
    def current(self) -> Current:
        """The model that answers.

        Raises:
            ServiceError: (not_ready) it is not compiled yet.

        """
        if self._current is None:
            raise ServiceError("not_ready", "the model is being compiled; try again in a few seconds")
        return self._current

    @property
    def is_ready(self) -> bool:
        """Whether requests should be sent here."""
        return self._current is not None and not self.is_draining

    async def load(self, source: ModelSource) -> None:
        """Load a model, compile it, and let it answer from then on.

        Raises:
            UserError: it is no model that can answer. The one before goes on.

        """
        loop = asyncio.get_running_loop()
        model = await loop.run_in_executor(
            self.loader, functools.partial(load_served_model, source, self.limits.images, self.runtime)
        )
        batcher = Batcher(
            model.answer,
            self.device,
            max_images=self.limits.images,
            max_wait_s=self.max_wait_s,
            report=self.metrics.batch,
        )
        self._current = Current(model, batcher)
        _spare_the_collector()
        self.metrics.model(model.summary())
        self.log.event("model_loaded", model=model.summary())


def _spare_the_collector() -> None:
    """Collect garbage now, and never look at what is left again: among JAX's objects that takes a quarter of a second,
    in which no request is answered."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
