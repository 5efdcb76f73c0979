"""Follow an alias of the registry: swap the model when the alias names another version."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from mnist_hpo.serving.model import ModelSource
from mnist_hpo.serving.service import Service


@dataclass(frozen=True)
class Follow:
    """How to follow an alias."""

    current_version: Callable[[], str | None]
    """Returns the version that the alias names now, or None if it names none."""
    fetch: Callable[[str], ModelSource]
    """Brings the files of a version to this machine."""
    every_s: float = 5.0


async def follow(service: Service, how: Follow, version: str | None) -> None:
    """Look for a new version until the task is cancelled. If one cannot be loaded, the model before it goes on.

    Args:
        service: the service, with its first model loaded.
        how: how to find and fetch versions.
        version: the version of the first model.

    """
    refused: str | None = None
    while True:
        await asyncio.sleep(how.every_s)
        found: str | None = None
        try:
            found = await asyncio.to_thread(how.current_version)
            if found in (None, version, refused):
                continue
            await service.load(await asyncio.to_thread(how.fetch, found))
        except Exception as error:  # Of the registry, the network or the model: all leave the service as it was.
            refused = found
            service.metrics.swap("failed")
            service.log.event("model_not_loaded", version=found, error=str(error))
        else:
            version, refused = found, None
            service.metrics.swap("loaded")
