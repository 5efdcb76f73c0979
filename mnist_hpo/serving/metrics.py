"""Figures for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import generate_latest

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_IMAGES = tuple(2**power for power in range(11))


class Metrics:
    """The figures of one service, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "mnist_hpo_requests", "Requests by route and status.", ("route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "mnist_hpo_request_seconds",
            "Time from a request's head to the end of its response.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "mnist_hpo_batch_images", "Images of a batch.", buckets=_IMAGES, registry=self._registry
        )
        self._queue = Gauge("mnist_hpo_queue_images", "Images that wait for the next batch.", registry=self._registry)
        self.in_flight = Gauge(
            "mnist_hpo_requests_in_flight", "Requests that are being answered.", registry=self._registry
        )
        self._model = Info("mnist_hpo_model", "The model that answers.", registry=self._registry)
        self._swaps = Counter(
            "mnist_hpo_model_swaps", "New models, and failures to load one.", ("outcome",), registry=self._registry
        )
        # The lookup of a metric by its labels takes a lock and a while.
        self._counter_of = lru_cache(maxsize=256)(lambda route, status: self._requests.labels(route, str(status)))
        self._histogram_of = lru_cache(maxsize=64)(self._seconds.labels)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._counter_of(route, status).inc()
        self._histogram_of(route).observe(seconds)

    def batch(self, n_images: int, n_waiting: int) -> None:
        """Count a batch."""
        self._batches.observe(n_images)
        self._queue.set(n_waiting)

    def model(self, summary: Mapping[str, Any]) -> None:
        """Set the model that answers."""
        self._model.info({name: str(value) for name, value in summary.items()})

    def swap(self, outcome: str) -> None:
        """Count a new model (`loaded`) or a failure to load one (`failed`)."""
        self._swaps.labels(outcome).inc()

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self._registry)
