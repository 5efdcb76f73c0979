"""Run a list of trainings in PyTorch, as a careful user would: a peer in `mnist-hpo bench peers`.

The images are in memory as floats, Adam is fused, and one single-threaded process runs on each core, which was the
fastest of the variants tried. The processes take the longest trainings first.

Run as a module, it trains the whole list and prints `{"valid_accuracy": […]}`:

    python -m mnist_hpo.bench.pytorch_peer LIST.json --seed 0 [--bf16]
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mnist_hpo.bench.pytorch_models.build import build
from mnist_hpo.bench.trainings import DATASET, SPLIT, Training, read_trainings
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepare import prepare
from mnist_hpo.spec.parameter import ParameterSet

_EVALUATION_BATCH = 1000
"""Examples at a time in evaluation, so that the activations of a convolutional network fit in memory."""


def main() -> None:
    """Train the list."""
    parser = argparse.ArgumentParser()
    parser.add_argument("list", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    trainings = read_trainings(options.list)
    longest_first = sorted(range(len(trainings)), key=lambda index: -trainings[index].flops())
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    context = multiprocessing.get_context("spawn")
    free_cores: Any = context.Queue()
    for core in cores:
        free_cores.put(core)
    with context.Pool(len(cores), _take_core, (free_cores,)) as pool:
        tasks = [(index, trainings[index], options.seed, options.bf16) for index in longest_first]
        accuracies = dict(pool.imap_unordered(_train_indexed, tasks, chunksize=1))
    print(json.dumps({"valid_accuracy": [accuracies[index] for index in range(len(trainings))]}))


def _take_core(free_cores: Any) -> None:
    core = free_cores.get()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def _train_indexed(task: tuple[int, Training, int, bool]) -> tuple[int, float]:
    index, training, seed, bf16 = task
    return index, train(training, seed=1000 * seed + index, bf16=bf16)


@cache
def _torch() -> Any:
    # PyTorch comes with the extra `bench`, so the type checker does not find it.
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(1)
    return torch


@cache
def _examples() -> tuple[Any, ...]:
    torch = _torch()
    arrays = load_search(prepare(DATASET).directory, SPLIT)
    images = (
        torch.from_numpy(np.array(part)).float().reshape(-1, 1, 28, 28) / 255
        for part in (arrays.train_images, arrays.valid_images)
    )
    labels = (torch.from_numpy(np.array(part)).long() for part in (arrays.train_labels, arrays.valid_labels))
    return (*images, *labels)


def train(training: Training, *, seed: int, bf16: bool) -> float:
    """Train one entry of a list, validating after each epoch; return the last valid accuracy.

    Args:
        training: what to train.
        seed: the seed of the weights, the order of examples and the dropout masks.
        bf16: whether the forward pass runs under `torch.autocast` to bfloat16.

    """
    torch = _torch()
    functional: Any = torch.nn.functional
    torch.manual_seed(seed)
    values = training.values()
    n_batch, n_train = int(values["batch_size"]), values.get("n_train")
    images, valid_images, labels, valid_labels = _examples()
    if n_train is not None:
        subset = torch.randperm(len(images))[: int(n_train)]
        images, labels = images[subset], labels[subset]
    model = build(torch, training.model, values)
    optimizer = _optimizer(torch, model, values)
    accuracy = 0.0
    for _ in range(training.epochs):
        model.train()
        order = torch.randperm(len(images))
        for start in range(0, len(images) - n_batch + 1, n_batch):
            rows = order[start : start + n_batch]
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = model(images[rows])
            loss = functional.cross_entropy(logits.float(), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            predicted = torch.cat([model(batch).argmax(1) for batch in valid_images.split(_EVALUATION_BATCH)])
        accuracy = float((predicted == valid_labels).float().mean())
    return accuracy


def _optimizer(torch: Any, model: Any, values: ParameterSet) -> Any:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights = [parameter for parameter in trained if parameter.ndim > 1]
    others = [parameter for parameter in trained if parameter.ndim == 1]
    # PyTorch's weight_decay is a factor in the gradient, our l2 is a factor in the loss.
    groups = [{"params": weights, "weight_decay": 2 * float(values["l2"])}, {"params": others}]
    return torch.optim.Adam(groups, lr=float(values["learning_rate"]), fused=True)


if __name__ == "__main__":
    main()
