"""Compare the speed of an epoch with plain matrix products of the same shapes, on one core.

Run as a module, in the workers' environment, it measures and prints JSON.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np

from mnist_hpo.bench.trainings import DATASET, SPLIT
from mnist_hpo.executors.cores import usable_cores
from mnist_hpo.executors.environment import worker_environment

WIDTHS, BATCH_SIZES, PRECISIONS = (64, 128, 256, 512), (32, 128, 512), ("fp32", "bf16")
DEPTH = 2
_N_EPOCHS = 3
_PRODUCT_S = 0.05


@dataclass(frozen=True)
class Point:
    """The speeds for one shape, in GFLOP/s of the model's products."""

    width: int
    batch_size: int
    sgemm: float
    """Only the products of a step, with NumPy's sgemm."""
    fp32: float
    """The whole epoch, including gather, dropout, loss and Adam."""
    bf16: float


def measure_roofline() -> list[Point]:
    """Measure every shape, in a process with a worker's environment."""
    command = [sys.executable, "-P", "-m", "mnist_hpo.bench.roofline", str(usable_cores()[0])]
    environment = worker_environment() | {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
    return [Point(**point) for point in json.loads(output)]


def draw_roofline(points: list[Point]) -> bytes:
    """Return a PNG with a panel for each width: speed by batch size of epochs, and of plain products in grey."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(WIDTHS), figsize=(11, 3.2), sharey=True, layout="constrained")
    lines = (("sgemm", "bare sgemm", "0.6"), ("fp32", "epoch, fp32", "#0072B2"), ("bf16", "epoch, bf16", "#D55E00"))
    for panel, width in zip(panels, WIDTHS, strict=True):
        shown = [point for point in points if point.width == width]
        sizes = [point.batch_size for point in shown]
        for field, label, color in lines:
            panel.plot(sizes, [getattr(point, field) for point in shown], "o-", color=color, label=label)
        panel.set(title=f"width {width}", xlabel="batch size", xscale="log")
        panel.set_xticks(BATCH_SIZES, [str(size) for size in BATCH_SIZES])
        panel.minorticks_off()
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", alpha=0.3)
    panels[0].set(ylabel="GFLOP/s on one core", ylim=(0, 1.05 * max(max(p.sgemm, p.fp32, p.bf16) for p in points)))
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside upper center", ncols=3)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    plt.close(figure)
    return png.getvalue()


def _measure() -> list[Point]:
    from mnist_hpo.data.arrays import load_search
    from mnist_hpo.data.prepare import prepare
    from mnist_hpo.learners.config import TrainingConfig
    from mnist_hpo.learners.cost import describe
    from mnist_hpo.learners.factory import LearnerFactory
    from mnist_hpo.learners.protocol import Examples
    from mnist_hpo.spec.seeds import seed_of

    arrays = load_search(prepare(DATASET).directory, SPLIT)
    train = Examples(arrays.train_images.reshape(-1, *arrays.image_shape), arrays.train_labels)
    data = train.shape(n_classes=10, n_valid=0)

    def epoch_gflops(width: int, batch_size: int, precision: str) -> float:
        parameters = {"depth": DEPTH, "width": width, "batch_size": batch_size, "dropout": 0.2, "precision": precision}
        config = TrainingConfig("mlp", parameters, seed_of(0, "roofline"), max_epochs=_N_EPOCHS)
        learner = LearnerFactory().make(config, train, n_classes=data.n_classes)
        state, fastest_s = learner.start(), math.inf
        for epoch in range(1, _N_EPOCHS + 1):
            state, _, train_s = learner.advance(state, epoch)
            fastest_s = min(fastest_s, train_s)
        return describe("mlp", parameters, data).train_flops / fastest_s / 1e9

    points: list[Point] = []
    for width, batch_size in itertools.product(WIDTHS, BATCH_SIZES):
        epochs = {precision: epoch_gflops(width, batch_size, precision) for precision in PRECISIONS}
        points.append(
            Point(width, batch_size, _step_gflops(width, batch_size, data.n_features, data.n_classes), **epochs)
        )
        print(points[-1], file=sys.stderr)
    return points


def _step_gflops(width: int, batch_size: int, n_features: int, n_classes: int) -> float:
    """Return the speed of a training step's products: forward, and gradients except that of the first input."""
    sizes = [n_features] + [width] * DEPTH + [n_classes]
    shapes: list[tuple[int, int, int]] = []
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        shapes += [(batch_size, n_in, n_out), (n_in, batch_size, n_out)]
        if layer > 0:
            shapes.append((batch_size, n_out, n_in))
    flops = sum(2 * m * k * n for m, k, n in shapes)
    return flops / sum(_product_s(*shape) for shape in shapes) / 1e9


def _product_s(m: int, k: int, n: int) -> float:
    a, b, out = np.ones((m, k), np.float32), np.ones((k, n), np.float32), np.empty((m, n), np.float32)
    n_products, fastest_s = 1, float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(n_products):
            np.matmul(a, b, out=out)
        fastest_s = min(fastest_s, (time.perf_counter() - start) / n_products)
        n_products = max(1, round(_PRODUCT_S / 5 / fastest_s))
    return fastest_s


if __name__ == "__main__":
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(sys.argv[1])})
    print(json.dumps([asdict(point) for point in _measure()]))
